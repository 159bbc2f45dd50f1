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


def is_left_out(name):
    others = ("@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found", "thumbs.db")
    return name.startswith(".") or name.lower() in others


def is_image(here, name):
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    return not is_left_out(name) and extension in IMAGES and os.path.isfile(os.path.join(here, name))


def is_of_a_run(here):
    return any(
        fnmatch.fnmatchcase(name, pattern) and (os.path.islink(Path(here, name)) or not os.path.isdir(Path(here, name)))
        for name in os.listdir(here)
        for pattern in OF_A_RUN
    )


def slow(top, follow):
    """The images of a tree, by a look at one folder after the other. follow: also behind links."""
    top, images, seen = os.path.realpath(top), [], set()
    waiting = [top]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen or here != top and is_of_a_run(here):
            continue
        seen.add(real)
        for name in os.listdir(here):
            path = os.path.join(here, name)
            is_linked, target = os.path.islink(path), os.path.realpath(path)
            if is_image(here, name) and (follow or not is_linked):
                images.append(path)
            if not is_left_out(name) and os.path.isdir(path) and (follow or not is_linked):
                if not is_linked or not any(os.path.commonpath([target, place]) == target for place in (real, top)):
                    waiting.append(path)
    return images


def numbers(paths):
    """Which files these are, each once."""
    return {(os.stat(path).st_dev, os.stat(path).st_ino) for path in paths}


stems = st.sampled_from(["a", "b c", ".hidden", "new\nline", "-", "a.jpg", "@eaDir", "lost+found"]) | st.binary(
    min_size=1, max_size=6
).map(lambda name: os.fsdecode(name.translate(None, b"/\0") or b"x"))
ends = st.sampled_from(["", ".jpg", ".JPEG", ".Png", ".avif", ".txt", "jpg", ".jpg.bak"])
files = st.builds(str.__add__, stems, ends) | st.sampled_from(["run.lock", "metrics.jsonl", "ckp_ep7.pth.tar", ".cache"])
folders = st.lists(st.sampled_from(["a", "b", "deep", ".cache", "x.jpg", "run.lock"]) | stems, max_size=3)
TARGETS = (
    ".",
    "..",
    "a",
    "../a",
    "../b",
    "../../outside",
    "../../outside/deep",
    "../a/x.jpg",
    "a.jpg",
    "../a.jpg",
    __file__,
)
kinds = st.sampled_from([*["file"] * 6, "folder", "pipe", "hard link", "broken link", "loop", *TARGETS])


@settings(max_examples=200, deadline=None)
@given(tree=st.lists(st.tuples(folders, files, kinds), max_size=14))
def test_any_tree_against_a_slow_search(tree):
    with tempfile.TemporaryDirectory() as above:
        top = os.path.join(above, "top")
        fill(Path(above), "top/0.jpg", "outside/1.jpg", "outside/deep/2.jpg")
        os.symlink("..", os.path.join(above, "outside/deep/up"))
        for parents, name, kind in tree:
            here = os.path.join(top, *parents)
            path = os.path.join(here, name)
            try:
                os.makedirs(here, exist_ok=True)
                {
                    "file": lambda: open(path, "x").close(),
                    "folder": lambda: os.mkdir(path),
                    "pipe": lambda: os.mkfifo(path),
                    "hard link": lambda: os.link(os.path.join(top, "0.jpg"), path),
                    "broken link": lambda: os.symlink("nowhere", path),
                    "loop": lambda: os.symlink(name, path),
                }.get(kind, lambda: os.symlink(kind, path))()
            except OSError:  # what is there already is of another kind
                pass
        found, plain = find_images(top), slow(top, follow=False)
        assert found == sorted(found) and all(path.startswith(top + "/") for path in found)
        assert numbers(found) == numbers(slow(top, follow=True)) and len(numbers(found)) == len(found)
        # Where a file has a name without links, it goes by that, and by the first of several.
        first = {next(iter(numbers([path]))): path for path in sorted(plain, reverse=True)}
        assert set(first.values()) <= set(found)


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


def test_what_could_be_taken_for_images_is_told_when_it_is_left_out(tmp_path, monkeypatch, said):
    monkeypatch.setattr("data.extensions.installed", lambda package: package != "rawpy")
    fill(tmp_path, "a.jpg", "b.nef", "c.arw", "clip.mp4", "x.txt", ".hidden.jpg", "@eaDir/a.jpg", "lost+found/b.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "d.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert below(tmp_path) == ["a.jpg"]
    assert said == [
        f"say: {tmp_path}: left out, another name of the same file or folder (1): {tmp_path}/d.jpg",
        f"warn: {tmp_path}: left out pictures (2): {tmp_path}/b.nef, {tmp_path}/c.arw; they are camera raw, which needs: "
        "pip install rawpy",
        f"say: {tmp_path}: left out, excluded (2): {tmp_path}/@eaDir, {tmp_path}/lost+found",
        f"warn: {tmp_path}: left out links that lead nowhere (1): {tmp_path}/gone.jpg",
    ]


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
    fill(tmp_path, "a.jpg", "private/b.jpg")
    fail(monkeypatch, tmp_path / "private", errno.EACCES)
    assert below(tmp_path) == ["a.jpg"]
    assert said == [f"warn: {tmp_path}: left out folders that may not be read (1): {tmp_path}/private"]


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
    assert below(tmp_path / "set") == ["a.jpg", "c/d.jpg", "c/e.jpg", "f.jpg"]
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
