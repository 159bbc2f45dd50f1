"""--cache: what comes out is what decoding gives, from a file that is whole, up to date and fits the disk."""

import os
import shutil
import threading
from multiprocessing.reduction import ForkingPickler
from pickle import loads

import numpy as np
import pytest
import torch
from PIL import Image

from data import cache
from data.cache import open_images
from data.dataset import read_train
from data.images import Images
from data.transforms import Transforms
from data.views import crops_loader
from utils.errors import InputError

TRANSFORMS = Transforms(32, 36)


@pytest.fixture
def images(image_folder):
    """The list of a folder with images of many shapes and kinds: upright, turned, large, small, unreadable."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, size in enumerate([(20, 30), (200, 100), (36, 36), (37, 300)]):
        image = Image.fromarray(rng.integers(256, size=(*size[::-1], 3), dtype=np.uint8))
        image.save(image_folder / f"train/class 1/{number}.jpg", exif=exif)
    whole = (image_folder / "train/class 2/1.jpg").read_bytes()
    (image_folder / "train/class 2/1.jpg").write_bytes(whole[:len(whole) // 2])
    (image_folder / "train/class 2/2.jpg").write_bytes(b"no image")
    return read_train(image_folder)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(cache.log, "say", lines.append)
    return lines


def same_as_decoding(cached, images):
    plain = Images(images.paths, TRANSFORMS)
    assert len(cached) == len(plain) == len(images)
    for i, path in enumerate(images.paths):
        if path.endswith(("2/1.jpg", "2/2.jpg")):
            with pytest.raises(InputError, match=f"{path}: cannot be read as an image"):
                cached[i]
        else:
            assert torch.equal(cached[i], plain[i]) and cached[i].stride() == plain[i].stride()
    return True


def the_file(images):
    return os.path.join(os.path.dirname(images.source), ".cache", "train-36.cache")


@pytest.mark.parametrize("kind", ["none", "ram", "disk"])
def test_images_are_those_of_decoding(images, kind, said):
    opened = open_images(images, TRANSFORMS, kind)
    assert same_as_decoding(opened, images)
    sent = ForkingPickler.dumps(opened)  # what a spawned worker gets
    assert len(sent) < 4000 and same_as_decoding(loads(sent), images)
    crops = torch.cat([crops for _, crops, _ in crops_loader(opened, 5, 2)])
    assert crops.shape == (22, 3, 32, 32)
    assert len(said) == (kind != "none")


def test_a_second_run_decodes_nothing(images, said, monkeypatch):
    open_images(images, TRANSFORMS, "disk")
    monkeypatch.setattr(cache, "decoded_size", lambda *_: pytest.fail("read an image again"))
    again = open_images(images, TRANSFORMS, "disk")
    assert same_as_decoding(again, images) and "up to date" in said[-1]


@pytest.mark.parametrize("change, reason", [
    ("touched", "1 of 24 images have changed"), ("rewritten", "1 of 24 images have changed"),
    ("gone", "1 of 24 images have changed"), ("list", "of other images or settings"),
    ("version", "of other images or settings"), ("cut", "not readable as a cache"), ("text", "not readable as a cache"),
    ("empty", "not readable as a cache"), ("list of json", "not readable as a cache")])
def test_a_stale_cache_is_made_anew(images, said, monkeypatch, change, reason):
    open_images(images, TRANSFORMS, "disk")
    file, first = the_file(images), images.paths[0]
    if change == "touched":
        os.utime(first, ns=(1, os.stat(first).st_mtime_ns + 1))
    elif change == "rewritten":
        status = os.stat(first)
        Image.new("RGB", (40, 50)).save(first)
        os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "gone":
        os.remove(first)
    elif change == "list":
        lines = open(images.source).read().splitlines(True)
        with open(images.source, "w") as opened:
            opened.writelines(lines[1:] + lines[:1])
        images = read_train(os.path.dirname(images.source))
    elif change == "version":
        monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    elif change == "cut":
        os.truncate(file, cache.HEADER + 100)
    else:
        with open(file, "w") as opened:
            opened.write({"text": "hello", "empty": "", "list of json": "[]"}[change])
    opened = open_images(images, TRANSFORMS, "disk")
    assert f"{file}: {reason}; making it anew" in said
    if change == "gone":
        with pytest.raises(InputError, match="cannot be read"):
            opened[0]
    else:
        assert same_as_decoding(opened, images)
    open_images(images, TRANSFORMS, "disk")
    assert "up to date" in said[-1]


def test_another_size_has_a_file_of_its_own(images):
    for side in (36, 40):
        assert open_images(images, Transforms(32, side), "disk")[0].shape[1:] == (side, int(side * 48 / 40))
    assert sorted(os.listdir(os.path.dirname(the_file(images)))) == ["train-36.cache", "train-40.cache"]


def test_two_runs_may_build_it_at_once(images):
    opened = []
    runs = [threading.Thread(target=lambda: opened.append(open_images(images, TRANSFORMS, "disk"))) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(opened) == 4 and all(same_as_decoding(one, images) for one in opened)
    assert os.listdir(os.path.dirname(the_file(images))) == ["train-36.cache"]


def test_a_worker_refuses_a_file_that_was_replaced(images):
    opened = open_images(images, TRANSFORMS, "disk")
    sent = bytes(ForkingPickler.dumps(opened))
    os.utime(images.paths[0], ns=(1, 1))
    open_images(images, TRANSFORMS, "disk")
    assert same_as_decoding(opened, images)  # its file lives on as long as it is open
    with pytest.raises(InputError, match="replaced by another run"):
        loads(sent)


def test_an_interrupted_build_leaves_nothing(images, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(cache.Images, "__getitem__", interrupted)
    monkeypatch.setattr(TRANSFORMS.__class__, "load", interrupted)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        open_images(images, TRANSFORMS, "disk")
    assert os.listdir(os.path.dirname(the_file(images))) == [] and torch.get_num_threads() == threads


def test_no_room(images, tmp_path, monkeypatch):
    def refusal(kind, folder=None):
        with pytest.raises(InputError) as caught:
            open_images(images, TRANSFORMS, kind, folder)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.rglob("*.tmp"))
        return str(caught.value)

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    message = refusal("disk")
    assert "needs 0.0 GB, 0.0 GB are free" in message and "--cache_dir" in message
    monkeypatch.undo()
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: len(data) - 1)  # the disk fills up meanwhile
    assert "No space left on device" in refusal("disk")
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal("disk", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "_free_memory", lambda: 9)
    assert "--cache ram needs" in refusal("ram")


def test_auto_keeps_few_pixels_in_memory(images, monkeypatch, said):
    assert same_as_decoding(open_images(images, TRANSFORMS, "auto"), images) and len(said) == 1
    pixels = open_images(images, TRANSFORMS, "auto").pixels.numel()
    monkeypatch.setattr(cache, "SMALL", pixels - 1)
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
    monkeypatch.setattr(cache, "SMALL", pixels)
    monkeypatch.setattr(cache, "_free_memory", lambda: 4 * pixels - 1)
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
    monkeypatch.setattr(cache, "SMALL", 1)
    monkeypatch.setattr(cache, "_survey", None)  # headers need not be read to know that it is too much
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
