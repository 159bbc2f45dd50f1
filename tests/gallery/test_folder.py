"""How a writer and its readers share a gallery's folder: writers that are killed at any call, readers at any moment."""

import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from galleries import RAM, files_named, is_drawn, make
from gallery import index as indexes
from gallery.folder import PLACES, GalleryFolder
from gallery.search import open_gallery
from gallery.store import Gallery
from utils.errors import InputError

OLD, NEW = files_named("a.jpg", "b.jpg", "c.jpg"), files_named("b.jpg", "c.jpg", "d.jpg")
CALLS = [(os, "replace"), (os, "rename"), (os, "makedirs"), (shutil, "rmtree"), (shutil, "copyfile")]


@pytest.fixture
def folder():
    """A gallery of three images."""
    with tempfile.TemporaryDirectory(dir=RAM) as top:
        make(Path(top, "gallery"), OLD)
        yield Path(top, "gallery")


def killed_at(number, after, work):
    """Run `work()` in a process that is killed before or after its call number `number` among CALLS. Returns its exit
    status."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = []

    def watched(original):
        def call(*args, **more):
            calls.append(original)
            own_number = len(calls)  # one of CALLS may call another
            if own_number == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*args, **more)
            finally:
                if own_number == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for owner, name in CALLS:
        setattr(owner, name, watched(getattr(owner, name)))
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def opened(folder):
    """Return which gallery a reader gets, "old" or "new", or None if it is told to wait."""
    try:
        gallery = Gallery(folder)
    except InputError as error:
        assert "run it again" in str(error) and "\n" not in str(error)
        return None
    assert is_drawn(gallery, OLD) or is_drawn(gallery, NEW)
    return "old" if is_drawn(gallery, OLD) else "new"


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_that_is_killed_at_any_call(folder, after):
    """Readers see the old gallery, the new one, or a line that says to wait. The next writer finishes the work."""
    whole = shutil.copytree(folder, folder.parent / "whole")
    reader, seen, number = Gallery(folder), [], 0
    while True:
        number += 1
        status = killed_at(number, after, lambda: make(folder, NEW))
        seen.append(opened(folder))
        assert is_drawn(reader, OLD)  # a gallery that is already open stays the old one
        make(folder, NEW)
        assert opened(folder) == "new" and sorted(os.listdir(folder)) == sorted(set(PLACES) - {"model.pth.tar"})
        if status == 0:  # the writer ended before that call
            break
        assert status == -signal.SIGKILL
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        reader = Gallery(folder)
    assert number > 8 and {"old", None, "new"} <= set(seen)  # all three cases occurred
    first_new = next(place for place, state in enumerate(seen) if state != "old")
    assert "old" not in seen[first_new:]  # after the first change, nobody sees the old gallery again


def test_no_reader_sees_two_galleries_mixed(folder):
    """One thread writes galleries in turns, while others read all the time."""
    done, faults, seen = threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                seen.append(opened(folder))
            except BaseException as error:
                faults.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(30):
        make(folder, (NEW, OLD)[turn % 2])
    done.set()
    for reader in readers:
        reader.join()
    assert not faults, faults
    assert {"old", "new"} <= set(seen)


def test_results_of_an_old_reader_are_not_used_for_the_new_gallery(folder):
    """Derived results and the index of the old gallery are not used, although they have the same names in the same
    folder."""
    old = Gallery(folder)
    make(folder, NEW)
    old.kept("rows", lambda: {"rows": old.embeddings[:]})
    indexes.save(indexes.build(old.embeddings, exact_up_to=0), old.folder, old.about["model"], old.stamp)
    gallery, index = open_gallery(str(folder))
    assert np.array_equal(gallery.kept("rows", lambda: {"rows": gallery.embeddings[:]})["rows"], gallery.embeddings)
    assert index.search(np.asarray(gallery.embeddings), 1)[0].ravel().tolist() == [0, 1, 2]
    assert index.about["kind"] == "exact"


def test_names_of_files_stand_in_one_place():
    """No other module spells them."""
    root = Path(__file__).parents[2]
    names = [*PLACES, "index.json", "index.faiss", "not_duplicates.txt", "hashes.npy", "done.npy", "plan.json", "making"]
    ours = [
        path
        for room in ("models", "losses", "data", "evaluations", "gallery", "utils")
        for path in (root / room).rglob("*.py")
    ]
    assert root / "gallery" / "folder.py" in ours
    for path in {*ours, *root.glob("*.py")} - {root / "gallery" / "folder.py"}:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in names if f'"{name}"' in text], path


def test_the_folder_of_a_gallery_may_be_named_in_any_way(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in ("gallery", "./gallery/", folder, str(folder)):
        place = GalleryFolder(name)
        assert place.path == str(folder) and os.fspath(place.making) == str(folder / "making")
