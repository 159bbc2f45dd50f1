"""Folders of images without train.txt."""

import errno
import fnmatch
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from data.dataset import find_images, read_test, read_train
from data.images import decode
from utils import log
from utils.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "avif", "ppm")
OF_A_RUN = ("run.lock", "metrics.jsonl", "latest.pth.tar", "ckp_ep*.pth.tar")


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def below(folder):
    """Return the paths that `read_train` finds, relative to the folder."""
    images = read_train(str(folder))
    assert images.labels is None and images.source == str(folder)
    return [os.path.relpath(path, folder) for path in images.paths]


@pytest.fixture
def said(monkeypatch):
    lines = []
    for name in ("say", "warn"):
        monkeypatch.setattr(log, name, lambda line, name=name: lines.append(f"{name}: {line}"))
    return lines


# ---- which files are images -----------------------------------------------------------------------------------------


def slow(folder):
    """Find the images in a slow and obvious way: check every file, and all folders above it."""
    found = []
    for here, _, names in os.walk(folder):  # os.walk neither follows nor lists links to folders
        inside = [Path(here, *[".."] * up) for up in range(len(Path(here).relative_to(folder).parts))]
        if any(name.startswith(".") for name in Path(here).relative_to(folder).parts) or any(
            fnmatch.fnmatchcase(name, pattern) and (os.path.islink(above / name) or not os.path.isdir(above / name))
            for above in inside
            for name in os.listdir(above)
            for pattern in OF_A_RUN
        ):
            continue
        for name in names:
            image = not name.startswith(".") and name.rpartition(".")[2].lower() in IMAGES and "." in name
            if image and os.path.isfile(os.path.join(here, name)):
                found.append(os.path.join(here, name))
    return sorted(found)


stems = st.sampled_from(["a", "b c", ".hidden", "new\nline", "-", "a.jpg"]) | st.binary(min_size=1, max_size=6).map(
    lambda name: os.fsdecode(name.translate(None, b"/\0") or b"x")
)
ends = st.sampled_from(["", ".jpg", ".JPEG", ".Png", ".avif", ".txt", "jpg", ".jpg.bak"])
files = st.builds(str.__add__, stems, ends) | st.sampled_from(["run.lock", "metrics.jsonl", "ckp_ep7.pth.tar", ".cache"])
folders = st.lists(st.sampled_from(["a", "b", "deep", ".cache", "x.jpg", "run.lock"]) | stems, max_size=3)
kinds = st.sampled_from(["file"] * 6 + ["folder", "pipe", "link to a file", "link to a folder", "broken link", "loop"])


@settings(max_examples=100, deadline=None)
@given(tree=st.lists(st.tuples(folders, files, kinds), max_size=12))
def test_any_tree_against_a_slow_search(tree):
    with tempfile.TemporaryDirectory() as top:
        for parents, name, kind in tree:
            here = os.path.join(top, *parents)
            path = os.path.join(here, name)
            try:
                os.makedirs(here, exist_ok=True)
                {
                    "file": lambda: open(path, "x").close(),
                    "folder": lambda: os.mkdir(path),
                    "pipe": lambda: os.mkfifo(path),
                    "link to a file": lambda: os.symlink(__file__, path),
                    "link to a folder": lambda: os.symlink(top, path),
                    "broken link": lambda: os.symlink("nowhere", path),
                    "loop": lambda: os.symlink(name, path),
                }[kind]()
            except OSError:  # something else already has this name
                pass
        assert find_images(top) == slow(top)


def test_every_extension_in_any_case(tmp_path):
    names = sorted([f"{i}.{end}" for i, end in enumerate(IMAGES)] + [f"deep/er/{end}.{end.upper()}" for end in IMAGES])
    assert below(fill(tmp_path, *names, "train.TXT", "notes.md", "jpg", "a.jpg.part")) == names


def test_names_that_no_list_could_hold_are_decoded(tmp_path):
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "plain.png")
    for name in (b"new\nline 7.jpg", b"caf\xe9\r.jpg", b" .jpg"):
        (tmp_path / "plain.png").rename(os.path.join(tmp_path, os.fsdecode(name)))
        images = read_train(str(tmp_path))
        assert [os.fsencode(os.path.basename(path)) for path in images.paths] == [name]
        assert (decode(images.paths[0], 8)[0] == 200).all() and len(images.digest) == 64
        os.rename(images.paths[0], tmp_path / "plain.png")


def test_the_folder_of_a_run_is_left_out_but_not_the_set_itself(tmp_path, said):
    fill(
        tmp_path,
        "a.jpg",
        "run.lock",
        "metrics.jsonl",
        "results/b.jpg",
        "results/x/latest.pth.tar",
        "results/x/page/c.jpg",
        "results/y/ckp_ep20.pth.tar",
        "results/y/d.jpg",
    )
    assert below(tmp_path) == ["a.jpg", "results/b.jpg"]
    assert said == [f"say: {tmp_path}: folders of training runs left out (2): {tmp_path}/results/x, {tmp_path}/results/y"]


def test_a_link_to_the_folder_itself(tmp_path):
    fill(tmp_path / "set", "a.jpg")
    (tmp_path / "link").symlink_to("set")
    assert below(tmp_path / "link") == ["a.jpg"]
    assert read_train(tmp_path / "link").digest == read_train(tmp_path / "set").digest


def test_from_inside_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path, "a.jpg"))
    images = read_train(".")
    assert list(images.paths) == [str(tmp_path / "a.jpg")] and images.source == "." and images.folder == str(tmp_path)
    assert images.digest == read_train(str(tmp_path)).digest


# ---- folders that cannot be read ------------------------------------------------------------------------------------


def fail(monkeypatch, folder, number):
    """Make reading of `folder` fail, for root too."""
    scandir = os.scandir

    def failing(path):
        if str(path) == str(folder):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)


def test_a_closed_sub_folder_is_left_out_with_a_warning(tmp_path, monkeypatch, said):
    fill(tmp_path, "a.jpg", "lost+found/b.jpg")
    fail(monkeypatch, tmp_path / "lost+found", errno.EACCES)
    assert below(tmp_path) == ["a.jpg"]
    assert said == [f"warn: {tmp_path}: left out folders that may not be read (1): {tmp_path}/lost+found"]


@pytest.mark.parametrize("name, number", [("", errno.EACCES), ("", errno.EIO), ("deep", errno.EIO), ("deep", errno.ESTALE)])
def test_a_set_that_cannot_be_read_is_refused(tmp_path, monkeypatch, name, number):
    fill(tmp_path, "a.jpg", "deep/b.jpg")
    fail(monkeypatch, tmp_path / name, number)
    with pytest.raises(InputError) as caught:
        read_train(str(tmp_path))
    assert caught.value.shown == f"--data {tmp_path / name}: cannot read this folder ({os.strerror(number)})"


@pytest.mark.parametrize("names", [[], ["notes.txt", ".hidden.jpg", ".thumbnails/a.jpg"], ["run/a.jpg", "run/run.lock"]])
def test_no_image(tmp_path, names):
    with pytest.raises(InputError) as caught:
        read_train(str(fill(tmp_path / "a\nb", *names)) if names else str(tmp_path))
    assert "no image in this folder or below it; give one with images (.jpg, .jpeg, " in str(caught.value)
    assert caught.value.setting == "data" and len(str(caught.value).splitlines()) == 1


# ---- held-out images ------------------------------------------------------------------------------------------------


def test_images_of_the_test_lists_are_left_out(tmp_path):
    fill(tmp_path / "set", "a.jpg", "b.jpg", "c/d.jpg", "c/e.jpg", "f.jpg")
    (tmp_path / "set/link.jpg").symlink_to("f.jpg")
    (tmp_path / "other").symlink_to("set/c")
    (tmp_path / "set/test.txt").write_text("b.jpg\ngone.jpg\n")
    assert below(tmp_path / "set") == ["a.jpg", "c/d.jpg", "c/e.jpg", "f.jpg", "link.jpg"]
    (tmp_path / "set/query.txt").write_text(f"{tmp_path}/other/d.jpg 0\n")
    (tmp_path / "set/gallery.txt").write_text("f.jpg 0\n")
    assert below(tmp_path / "set") == ["a.jpg", "c/e.jpg"]
    (tmp_path / "set/test.txt").write_text("a.jpg 0\nb.jpg 0\nc/e.jpg 1\n")
    with pytest.raises(InputError, match="its test lists name all its images, none is left to train on"):
        read_train(str(tmp_path / "set"))
    query, gallery = read_test(str(tmp_path / "set"))
    assert query is gallery and np.array_equal(query.labels, [0, 0, 1])


def test_a_faulty_test_list_is_refused(tmp_path):
    """A test list that cannot be read must not lead to training on its images."""
    (fill(tmp_path, "a.jpg", "b.jpg") / "test.txt").write_text("a.jpg cat\n")
    with pytest.raises(InputError, match="test.txt:1: the label `cat` is not an integer"):
        read_train(str(tmp_path))
