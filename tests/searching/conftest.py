"""Fixtures of the tests of search.py: photos with copies and odd names, their gallery, ways to run the program."""

import os
import shutil

import pytest
from PIL import Image
from searched import MARKUP

from galleries import TINY, checkpoint_of, photo, photos
from utils.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_once):
    """A folder with photos (some are copies), a checkpoint, and the gallery that it makes of the photos."""
    top = tmp_path_factory.mktemp("made")
    names = photos(top / "photos", 6)
    shutil.copy(names[0], top / "photos" / "same.jpg")
    with Image.open(names[1]) as picture:
        picture.save(top / "photos" / "worse.jpg", quality=30)
    photo(top / "photos" / MARKUP, 30)
    for name in (b"caf\xe9.jpg", b"new\nline.jpg", "\N{SNOWMAN}.jpg".encode()):
        os.rename(photo(top / "photos" / "x.jpg", sum(name)), os.fsencode(top / "photos") + b"/" + name)
    flags = ("--images", top / "photos", "--checkpoint", checkpoint_of(top, 1), *TINY)
    run_once("embed", *flags, "--out", top / "gallery")
    return top


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the gallery. The photos stay in their place."""
    return shutil.copytree(made / "gallery", tmp_path / "gallery")


@pytest.fixture
def search(run, capsys, monkeypatch):
    """search(COMMAND, ...) returns the output; search.remarks holds the lines on stderr. No graph is written."""
    monkeypatch.setattr("gallery.query_graph.prepare", lambda place, model: None)

    def call(*arguments):
        capsys.readouterr()
        run("search", *arguments)
        out, call.remarks = capsys.readouterr()
        return out

    return call


@pytest.fixture
def refusal(run):
    """refusal(COMMAND, ...) returns the one line of an error."""

    def call(*arguments, kind=InputError):
        with pytest.raises(kind) as caught:
            run("search", *arguments)
        message = getattr(caught.value, "shown", str(caught.value))
        assert message.isprintable()
        return message

    return call


@pytest.fixture
def photos_and_gallery(made, tmp_path, run):
    """A folder of photos for this test alone, its gallery, and `again(...)`, which renews the gallery."""
    shutil.copytree(made / "photos", tmp_path / "photos")
    flags = ("--images", tmp_path / "photos", "--out", tmp_path / "own", *TINY)
    again = lambda *more: run("embed", *flags, *more)
    again("--checkpoint", made / "ckp_ep1.pth.tar")
    return tmp_path / "photos", tmp_path / "own", again
