"""embed.py stopped at any moment, two calls at once, and several processes."""

import os
import shutil
import signal

import numpy as np
import pytest
from made_galleries import at_put, by_two, holds, in_a_child, many, refusal, same_rows, two_are_bad

from galleries import photo
from gallery import model as gallery_model
from gallery.folder import GalleryFolder
from gallery.store import Gallery
from utils.errors import InputError, Interrupted
from utils.lock import locked


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_loses_nothing(embed, folder, tmp_path, monkeypatch, number, code):
    """The result is bit by bit that of a run without the stop."""
    embed("--batch_size", 2)
    many(folder)
    shutil.copytree(tmp_path / "gallery", tmp_path / "unstopped")
    with monkeypatch.context() as patch:
        at_put(patch, 2, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as caught:
            embed("--batch_size", 2)
    assert caught.value.code == code and len(embed.taken) == 4
    assert len(Gallery(tmp_path / "gallery")) == 5  # it stays the old gallery until the new one is complete
    before = set(embed.taken)
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) == 7 and not before & set(embed.taken) and len(gallery) == 16
    assert same_rows(gallery, embed("--batch_size", 2, out=tmp_path / "unstopped"))


def test_a_stop_where_some_are_bad(embed, folder, tmp_path, monkeypatch):
    many(folder)
    two_are_bad(folder)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    gallery = embed("--batch_size", 2)
    assert 8 <= len(embed.taken) <= 10  # bad images among the first eight may be tried again
    assert len(gallery) == 14 and len(gallery.bad) == 2
    assert same_rows(gallery, embed(out=tmp_path / "unstopped"), tolerance=1e-6)


@pytest.mark.parametrize("every, lost", [(0, 0), (10**6, 4)])
@pytest.mark.parametrize("before", [False, True])
def test_killed(embed, folder, tmp_path, monkeypatch, every, lost, before):
    """Flushed rows are not embedded again, in a first gallery and in one that is renewed."""
    if before:
        embed("--batch_size", 2)
        shutil.copytree(tmp_path / "gallery", tmp_path / "unstopped")
    many(folder)
    with monkeypatch.context() as patch:
        patch.setattr("gallery.writer.FLUSH_SECONDS", every)
        at_put(patch, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert in_a_child(lambda: embed("--batch_size", 2)) == signal.SIGKILL
    if before:
        assert len(Gallery(tmp_path / "gallery")) == 5
    else:
        with pytest.raises(InputError, match="no gallery; make it with embed.py"):
            Gallery(tmp_path / "gallery")
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) == 16 - 5 * before - 4 + lost
    assert same_rows(gallery, embed("--batch_size", 2, out=tmp_path / "unstopped"))


def test_stopped_while_the_files_move(embed, folder, net, monkeypatch, tmp_path):
    embed()
    os.rename(folder / "000.jpg", folder / "zzz.jpg")

    def stopping(place):
        if not os.path.exists(place.making.about):
            return  # at the start, nothing is complete yet
        os.replace(place.making.array("embeddings"), place.array("embeddings"))
        raise Interrupted("by SIGKILL", 137)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(GalleryFolder, "put_in_place", stopping)
        embed()
    assert "run it again" in refusal(lambda: Gallery(tmp_path / "gallery"))
    assert holds(embed(), net, sorted(map(str, folder.rglob("*.jpg")))) and embed.taken == []


def test_the_old_gallery_can_be_read_while_it_is_renewed(embed, folder, net, monkeypatch, tmp_path):
    old, before = embed(), sorted(map(str, folder.rglob("*.jpg")))
    rows, readable = old.embeddings.copy(), []
    os.rename(folder / "000.jpg", tmp_path / "000.jpg")
    photo(folder / "zzz.jpg", 50)
    with monkeypatch.context() as patch:
        at_put(patch, 1, lambda: readable.append(same_rows(Gallery(tmp_path / "gallery"), old)))
        new = embed()
    assert readable == [True] and old.stamp != new.stamp
    assert list(old.paths) == before and np.array_equal(old.embeddings, rows)


def test_two_at_once(embed, folder, tmp_path):
    """The second run is refused, and neither harms the other."""
    embed()
    photo(folder / "new.jpg", 50)
    ready, held = os.pipe()
    if not (child := os.fork()):
        with locked(str(tmp_path / "gallery")):
            os.write(held, b"!")
            signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert refusal(embed).startswith(f"--out {tmp_path}/gallery: in use by another run, pid {child} on host ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(embed()) == 6


def test_two_processes_give_the_rows_of_one(embed, folder, tmp_path, monkeypatch):
    many(folder)
    two_are_bad(folder)
    assert by_two(monkeypatch, lambda: embed("--batch_size", 4)) == [0, 0]
    both, one = Gallery(tmp_path / "gallery"), embed("--batch_size", 4, out=tmp_path / "one")
    assert same_rows(both, one, tolerance=1e-6) and len(both) == 14 and len(both.bad) == 2
    assert embed().stamp == both.stamp and embed.taken == []  # one process continues what two have made
    photo(folder / "000.jpg", 70)
    assert by_two(monkeypatch, embed) == [0, 0]  # there is one image for two processes
    assert Gallery(tmp_path / "gallery").stamp != both.stamp
    assert by_two(monkeypatch, embed) == [0, 0]  # there is no image
    (folder / "zzz.jpg").write_text("no image")
    assert by_two(monkeypatch, embed) == [0, 0]
    assert len(Gallery(tmp_path / "gallery")) == 14 and len(Gallery(tmp_path / "gallery").bad) == 3


def test_two_processes_use_one_closed_form(embed, folder, tmp_path, monkeypatch):
    assert by_two(monkeypatch, lambda: embed("--head", "closed_form")) == [0, 0]
    gallery = Gallery(tmp_path / "gallery")
    assert gallery.about["kind"] == "closed_form" and gallery.about["fitted_to"] == len(gallery) == 5
    model = gallery_model.of_gallery(gallery)  # both processes used the model that is saved
    assert np.allclose(model.embed(gallery.paths), gallery.embeddings, atol=1e-5)
