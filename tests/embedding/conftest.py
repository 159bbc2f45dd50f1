"""Fixtures of the tests of embed.py: checkpoints of a tiny net, a folder of photos, a way to run embed.py."""

import os
import signal

import pytest

import models
from galleries import TINY, checkpoint_of, photos
from gallery import intake
from gallery.store import Gallery
from models import readout


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """Reduce to few channels: the maps have 1 x 1 positions, and with more channels roots would amplify rounding errors."""
    monkeypatch.setattr(readout, "REDUCED", 2)


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """Handle Ctrl-C as in a terminal. Tests in the background (`&` in a script) would ignore it, and so would embed.py."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Three checkpoints of a tiny net."""
    return [checkpoint_of(tmp_path_factory.mktemp("run"), seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def tiny(checkpoints):
    """Flags that make this tiny net the ready-made net. It loads fast."""
    return ("--net", "timm/test_resnet", "--weights", checkpoints[2])


@pytest.fixture
def folder(tmp_path):
    """A folder with five photos."""
    photos(tmp_path / "photos", 5)
    return tmp_path / "photos"


@pytest.fixture
def embed(run, tiny, tmp_path, monkeypatch):
    """embed("--flag", ..., images=, out=) runs embed.py with the tiny net, and returns the gallery.

    embed.taken: the names of the files that this run read, in order.
    """

    def call(*more, images=None, out=None):
        images, call.taken = images or tmp_path / "photos", []
        net = () if {"--net", "--checkpoint"} & set(more) else tiny
        hash_of_file = intake.hash_of

        def taking(path):
            call.taken.append(os.path.relpath(path, images))
            return hash_of_file(path)

        with monkeypatch.context() as patch:
            patch.setattr(intake, "hash_of", taking)
            run("embed", "--images", images, "--out", out or tmp_path / "gallery", *TINY, *net, *more)
        return Gallery(out or tmp_path / "gallery")

    return call


@pytest.fixture(scope="module")
def net(checkpoints):
    """The net that makes a gallery of few images."""
    return models.load(checkpoints[2])
