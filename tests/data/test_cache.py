"""--cache: a cached image equals the decoded image, and the cache fits in memory."""

import os
from multiprocessing.reduction import ForkingPickler
from pickle import loads

import numpy as np
import pytest
import torch
from PIL import Image

from data import cache
from data.cache import Cached, open_images
from data.dataset import read_train
from data.images import Images
from data.transforms import Transforms
from data.views import ImageBatches
from utils.errors import InputError

TRANSFORMS = Transforms(32, 36)


@pytest.fixture
def images(image_folder):
    """The list of a folder with different images: upright, turned, large, small, unreadable."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, size in enumerate([(20, 30), (200, 100), (36, 36), (37, 300)]):
        image = Image.fromarray(rng.integers(256, size=(*size[::-1], 3), dtype=np.uint8))
        image.save(image_folder / f"train/class 1/{number}.jpg", exif=exif)
    whole = (image_folder / "train/class 2/1.jpg").read_bytes()
    (image_folder / "train/class 2/1.jpg").write_bytes(whole[: len(whole) // 2])
    (image_folder / "train/class 2/2.jpg").write_bytes(b"no image")
    return read_train(image_folder)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(cache.log, "say", lines.append)
    return lines


def same_as_decoding(cached, images, transforms=TRANSFORMS):
    plain = Images(images.paths, transforms)
    assert len(cached) == len(plain) == len(images)
    for i, path in enumerate(images.paths):
        if path.endswith(("2/1.jpg", "2/2.jpg")):
            with pytest.raises(InputError, match=f"{path}: cannot be read as an image"):
                cached[i]
        else:
            assert torch.equal(cached[i], plain[i]) and cached[i].stride() == plain[i].stride()
    return True


@pytest.mark.parametrize("kind", ["none", "ram"])
def test_images_are_those_of_decoding(images, kind, said):
    opened = open_images(images, TRANSFORMS, kind)
    assert same_as_decoding(opened, images)
    sent = ForkingPickler.dumps(opened)  # as it is sent to a spawned worker
    assert len(sent) < 4000 and same_as_decoding(loads(sent), images)
    crops = torch.cat([crops for _, crops, _ in ImageBatches(opened, 5, workers=2).crops()])
    assert crops.shape == (22, 3, 32, 32)
    assert len(said) == (kind != "none")


@pytest.mark.parametrize("side", [36, 40])
def test_pixels_are_of_the_size_asked_for(images, side):
    opened = open_images(images, Transforms(32, side), "ram")
    assert opened[0].shape[1:] == (side, int(side * 48 / 40))
    assert same_as_decoding(opened, images, Transforms(32, side))


def test_images_are_decoded_once(images):
    opened = open_images(images, TRANSFORMS, "ram")
    before = [opened[i].clone() for i in (0, 23)]
    for i in (0, 23):
        os.remove(images.paths[i])
    assert all(torch.equal(opened[i], pixels) for i, pixels in zip((0, 23), before))


def test_a_file_that_is_replaced_while_the_cache_is_filled(images, monkeypatch):
    """Image 0 is replaced and image 1 is removed between the survey and the decoding. The result is as without a cache."""
    measure = cache._survey

    def survey_then_replace(*arguments):
        found = measure(*arguments)
        Image.new("RGB", (40, 50), "red").save(images.paths[0])
        os.remove(images.paths[1])
        return found

    monkeypatch.setattr(cache, "_survey", survey_then_replace)
    opened = open_images(images, TRANSFORMS, "ram")
    assert opened[0].shape == (3, 45, 36) and torch.equal(opened[0], TRANSFORMS.load(images.paths[0]))
    with pytest.raises(InputError, match="cannot be read"):
        opened[1]
    assert torch.equal(opened[2], TRANSFORMS.load(images.paths[2]))


def test_an_interruption_gives_the_threads_back(images, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TRANSFORMS.__class__, "load", interrupted)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        open_images(images, TRANSFORMS, "ram")
    assert torch.get_num_threads() == threads


def test_no_room(images, monkeypatch):
    monkeypatch.setattr(cache, "_free_memory", lambda: 9)
    with pytest.raises(InputError) as caught:
        open_images(images, TRANSFORMS, "ram")
    message = caught.value.shown
    assert "\n" not in message and message.startswith("--cache ram: ")
    assert "need 0.0 GB, but 0.0 GB of memory are free" in message and "take none" in message


def test_auto_keeps_few_pixels_in_memory(images, monkeypatch, said):
    assert same_as_decoding(open_images(images, TRANSFORMS, "auto"), images) and len(said) == 1
    pixels = open_images(images, TRANSFORMS, "auto").pixels.numel()
    monkeypatch.setattr(cache, "SMALL", pixels - 1)
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
    monkeypatch.setattr(cache, "SMALL", pixels)
    assert type(open_images(images, TRANSFORMS, "auto")) is Cached
    monkeypatch.setattr(cache, "_free_memory", lambda: 4 * pixels - 1)
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
    monkeypatch.setattr(cache, "SMALL", 1)
    monkeypatch.setattr(cache, "_survey", None)  # it must not read headers if the smallest possible size is already too much
    assert type(open_images(images, TRANSFORMS, "auto")) is Images
