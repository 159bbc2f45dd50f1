"""A first gallery, which grows state by state."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from made_galleries import by_two, in_a_child, same_rows, two_are_bad

from galleries import hash_of, photos
from gallery import growth, model as gallery_model, renew
from gallery.folder import PLACES, GalleryFolder
from gallery.store import Gallery
from gallery.writer import Writer
from models import readout
from utils.errors import InputError


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """A folder of 30 photos, two of them bad. Nobody changes it."""
    folder = tmp_path_factory.mktemp("growing") / "photos"
    photos(folder, 30)
    two_are_bad(folder)
    return folder


@pytest.fixture
def growing(embed, thirty, monkeypatch):
    """growing(out) embeds `thirty`. A first gallery has four states: of 4, 8 (both by plain features), 12 and all images."""
    monkeypatch.setattr(renew, "FIRST", 4)
    monkeypatch.setattr(growth, "FIRST", 4)
    monkeypatch.setattr(growth, "COST", 1e9)
    monkeypatch.setattr(growth, "LEAST_SECONDS", 0)
    monkeypatch.setattr(renew, "PREVIEW_SECONDS", 0)
    return lambda out: embed("--batch_size", 1, "--head", "closed_form", images=thirty, out=out)


@pytest.fixture
def grown_at_once(growing, thirty, monkeypatch):
    """The gallery of `thirty` that is put in place once; it is made once for all tests."""
    out = thirty.parent / "at once"
    with monkeypatch.context() as patch:
        patch.setattr(renew, "FIRST", 100)
        patch.setattr(growth, "FIRST", 100)
        return Gallery(out) if out.exists() else growing(out)


def states_of(monkeypatch):
    """Return a list that gets each state of a gallery when it is put in place."""
    finish, states = Writer.finish, []

    def finishing(self, *args):
        finish(self, *args)
        states.append(Gallery(self.place))

    monkeypatch.setattr(Writer, "finish", finishing)
    return states


def same_bytes(one, other):
    """Return True if the arrays of two galleries are the same, byte by byte, and so is what else they hold."""
    arrays = [[Path(g.place.array(name)).read_bytes() for name in ("embeddings", "prints")] for g in (one, other)]
    facts = [[g.content(row) for row in range(len(g))] + [g.thumbnail(row) for row in range(len(g))] for g in (one, other)]
    return arrays[0] == arrays[1] and facts[0] == facts[1] and same_rows(one, other) and one.details == other.details


def test_a_first_gallery_grows(embed, growing, grown_at_once, tmp_path, monkeypatch):
    states = states_of(monkeypatch)
    gallery = growing(tmp_path / "gallery")
    assert [(state.of, state.plain) for state in states] == [(30, True), (30, True), (30, False), (0, False)]
    paths = [set(state.paths) for state in states]
    assert len(paths[0]) <= 4 and len(paths[-1]) == 28
    assert all(before < after for before, after in zip(paths, paths[1:]))
    assert same_bytes(gallery, grown_at_once)
    by_plain_features = 8
    assert len(embed.taken) <= 30 + by_plain_features
    assert sorted(os.listdir(gallery.folder)) == sorted([*PLACES, "contents.sqlite", "run.lock"])
    growing(gallery.folder)
    assert embed.taken == [] and len(states) == 4


def test_a_finished_gallery_stays_until_all_is_embedded(embed, growing, thirty, tmp_path, monkeypatch):
    shutil.copytree(thirty, tmp_path / "photos")
    embed()
    photos(tmp_path / "photos", 30, first=50)
    states = states_of(monkeypatch)
    assert len(embed()) == 58 and len(states) == 1


def test_again_has_one_state(embed, growing, thirty, monkeypatch):
    states = states_of(monkeypatch)
    assert len(embed("--again", images=thirty)) == 28 and len(states) == 1


def test_two_processes_grow_together(growing, grown_at_once, tmp_path, monkeypatch):
    out = tmp_path / "gallery"
    assert by_two(monkeypatch, lambda: growing(out)) == [0, 0]
    gallery = Gallery(out)
    assert gallery.files == grown_at_once.files and gallery.bad == grown_at_once.bad and not gallery.of
    own = gallery_model.of_gallery(gallery)
    assert np.allclose(own.embed(gallery.paths), gallery.embeddings, atol=1e-5)
    assert all(gallery.thumbnail(row) for row in range(len(gallery)))


MOMENTS = [  # (owner, name, number of a call, whether it is made before the process is killed)
    *((Writer, "finish", number, made) for number, made in ((1, False), (2, True), (3, True))),
    *((Writer, "plan", number, True) for number in (1, 3, 5)),
    *((Writer, "put", number, False) for number in (7, 30)),
    *((GalleryFolder, "put_in_place", number, False) for number in (3, 5)),
    *((gallery_model.Model, "save", number, True) for number in (1, 2)),
    (readout.Fitter, "__call__", 1, False),
    *((os, "replace", number, True) for number in (10, 17, 26, 34)),  # between two moves of `put_in_place`
]


@pytest.mark.parametrize("owner, name, number, made", MOMENTS)
def test_killed_while_it_grows(growing, grown_at_once, tmp_path, monkeypatch, owner, name, number, made):
    """What is in place is whole, at any moment, and the same command ends with the same bytes."""
    original, calls = getattr(owner, name), []

    def killing(*args, **more):
        calls.append(1)
        own_number = len(calls)
        if own_number == number and not made:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **more)
        if own_number == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    out = tmp_path / "gallery"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        patch.setattr("gallery.writer.FLUSH_SECONDS", 0)
        assert in_a_child(lambda: growing(out)) == signal.SIGKILL
    shown = paths_in_place(out)
    states = states_of(monkeypatch)
    gallery = growing(out)
    for state in states:  # what was shown stays
        assert shown <= set(state.paths)
        shown = set(state.paths)
    assert same_bytes(gallery, grown_at_once)
    assert sorted(os.listdir(out)) == sorted([*PLACES, "contents.sqlite", "run.lock"])


def paths_in_place(folder):
    """Check the gallery that a killed run left, and return its paths; none where the next run has to move files first."""
    try:
        gallery = Gallery(folder)
    except InputError as error:
        assert "no gallery" in str(error) or "run it again" in str(error)
        return set()
    own = gallery_model.of_gallery(gallery)
    assert np.allclose(own.embed(gallery.paths), gallery.embeddings, atol=1e-5)
    assert all(np.array_equal(hash_of(path), digest) for path, digest in zip(gallery.paths, gallery.hashes))
    assert all(gallery.thumbnail(row) for row in range(len(gallery)))
    assert gallery.of == (30 if len(gallery) < 28 else 0) and gallery.plain == (gallery.about["kind"] == "pooled")
    return set(gallery.paths)
