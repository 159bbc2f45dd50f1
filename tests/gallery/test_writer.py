"""Making and renewing a gallery of drawn rows: stops at any moment, full disks, damage."""

import os
import shutil
import tempfile
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from galleries import ABOUT, DIM, KINDS, RAM, File, damage, drawn, files_named, is_drawn, make, put
from gallery import intake, store, writer as gallery_writer
from gallery.folder import PLACES, GalleryFolder
from gallery.store import Gallery
from gallery.table import HASH_BYTES, Bad, Detail
from gallery.thumbprints import SIDE
from gallery.writer import Writer, is_current, known_bad
from utils.errors import InputError, RunError

ABC, ABCD = files_named("a.jpg", "b.jpg", "c.jpg"), files_named("a.jpg", "b.jpg", "c.jpg", "d.jpg")


class Stopped(BaseException):
    """Raised by a test at a chosen moment, to stop the work."""


def stop(*args, **more):
    raise Stopped


@pytest.fixture
def tmp_path():
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        yield Path(folder)


@pytest.fixture
def folder(tmp_path):
    """A gallery of three images."""
    make(tmp_path / "gallery", ABC)
    return tmp_path / "gallery"


def begun(folder, files, indices, flushed=True):
    """Return the Writer of a gallery that was stopped after it wrote the rows at some indices."""
    os.makedirs(folder, exist_ok=True)
    writer = Writer(str(folder), "model", DIM, "float32")
    writer.plan(files)
    put(writer, indices)
    if flushed:
        writer.flush()
    return writer


def wanted(folder, files, **changes):
    """Return the files that would be embedded."""
    settings = {"model": "model", "dim": DIM, "dtype": "float32", **changes}
    return [files[i] for i in Writer(str(folder), **settings).plan(files)]


# ---- renewing --------------------------------------------------------------------------------------------------------


def test_only_what_is_new_or_changed_is_written(tmp_path):
    folder = tmp_path / "gallery"
    assert make(folder, ABC) == ABC and is_drawn(Gallery(folder), ABC)
    assert make(folder, ABC) == []
    changes = {
        "one more": ABCD,
        "one less": files_named("a.jpg", "c.jpg", "d.jpg"),
        "renamed": files_named("a.jpg", "b.jpg", "d.jpg"),
        "another time": sorted([*files_named("a.jpg", "b.jpg"), *files_named("d.jpg", mtime_ns=7)]),
        "another size": sorted([*files_named("b.jpg", "d.jpg", size=101), *files_named("a.jpg")]),
        "all others": files_named("x.jpg", "y.jpg"),
    }
    before = ABC
    for name, files in changes.items():
        assert make(folder, files) == [file for file in files if file not in before], name
        assert is_drawn(Gallery(folder), files), name
        before = files


known_names = st.sampled_from(["a.jpg", "b.jpg", "b/c.jpg", "d.jpg", "e.jpg"])
versions = st.dictionaries(known_names, st.tuples(st.integers(0, 1), st.booleans()), min_size=1)
turns = st.lists(st.tuples(versions, st.sampled_from(["whole", "whole", "flushed", "lost"]), st.integers(0, 5)), max_size=5)


@settings(max_examples=50, deadline=None)
@given(turns=turns)
def test_any_history_of_changes_and_stops(turns):
    """Each turn gives the present files (some are bad), how the turn ends, and after how many rows it stops.

    A turn writes exactly the rows that are not written yet. The result equals a gallery that was made in one go.
    """
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        ready, halfway = set(), set()
        for named, end, count in turns:
            files = sorted(File(f"/photos/{name}", 100, time) for name, (time, _) in named.items())
            bad = [Bad(file, "bad") for file in files if named[file.path.removeprefix("/photos/")][1]]
            GalleryFolder(folder).put_in_place()
            writer = Writer(folder, "model", DIM, "float32")
            todo = writer.plan(files).tolist()
            assert [files[i] for i in todo] == [file for file in files if file not in ready | halfway]
            good = [file for file in files if file not in {entry.file for entry in bad}]
            written = [i for i in todo if files[i] in good]
            written = written if end == "whole" else written[:count]
            put(writer, written)
            if end == "flushed" or not good:
                writer.flush()
            elif end == "whole":
                writer.finish(bad, ABOUT)
                assert is_drawn(Gallery(folder), good) and known_bad(folder, files) == bad
                ready, halfway = set(good), set()
            if end != "whole" or not good:  # rows of earlier turns are kept if their files are still there
                halfway = (halfway | ready) & set(files) | ({files[i] for i in written} if end == "flushed" else set())


def test_rows_of_another_model_or_dtype_are_not_kept(folder):
    assert wanted(folder, ABC) == []
    begun(folder, ABCD, [3])
    assert wanted(folder, ABCD) == []
    assert wanted(folder, ABCD, model="other") == ABCD  # rows of the unfinished gallery are not kept either
    assert wanted(folder, ABCD, dtype="float16") == ABCD
    assert is_drawn(Gallery(folder), ABC)  # the gallery did not change


def test_float16(tmp_path):
    make(tmp_path, ABC, dtype="float16")
    assert make(tmp_path, ABCD, dtype="float16") == ABCD[3:] and is_drawn(Gallery(tmp_path), ABCD, "float16")


def test_an_open_gallery_does_not_change(folder):
    """A new gallery only becomes visible when it is complete."""
    before = Gallery(folder)
    writer = begun(folder, ABCD, [3])
    assert is_drawn(before, ABC) and is_drawn(Gallery(folder), ABC)
    writer.finish([], ABOUT)
    assert is_drawn(before, ABC) and is_drawn(Gallery(folder), ABCD)
    assert Gallery(folder).stamp != before.stamp and not (folder / "making").exists()


def test_rows_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_writer, "ROWS_AT_ONCE", 2)
    many = files_named(*(f"{i}.jpg" for i in range(9)))
    make(tmp_path, many)
    assert make(tmp_path, many[1:]) == [] and is_drawn(Gallery(tmp_path), many[1:])


# ---- unreadable files ------------------------------------------------------------------------------------------------


def test_unreadable_files_are_remembered_until_they_change(folder):
    bad = [Bad(ABCD[1], "b.jpg: broken"), Bad(ABCD[3], "d.jpg: broken")]
    make(folder, ABCD, bad[1:])
    assert known_bad(str(folder), ABCD) == bad[1:] and Gallery(folder).bad == [(ABCD[3].path, "d.jpg: broken")]
    changed = files_named("d.jpg", mtime_ns=7)
    assert known_bad(str(folder), [*ABC, *changed]) == known_bad(str(folder), ABC) == []
    make(folder, ABCD, bad)  # b.jpg has a row already, but the list of bad files counts
    assert is_drawn(Gallery(folder), [ABCD[0], ABCD[2]]) and known_bad(str(folder), ABCD) == bad
    assert known_bad(str(folder / "nowhere"), ABCD) == []
    (folder / "images.sqlite").write_bytes(b"noise")
    assert known_bad(str(folder), ABCD) == []


def test_unreadable_files_are_tried_again_when_they_may_be_readable(folder, monkeypatch):
    """With a package that is installed by now, with more memory, or after other bytes came with the old time."""
    for reason, found, memory in (
        ("HEIC, which needs: pip install pi-heif", False, 10**9),
        ("9 x 9 pixels take 3.0 GB, and the limit is 2.0 GB", True, 2 * 10**9),
    ):
        make(folder, ABCD, [Bad(ABCD[3], f"d.jpg: cannot be read as an image ({reason})")])
        monkeypatch.setattr(intake, "installed", lambda package, found=found: found)
        assert len(known_bad(str(folder), ABCD, (), memory)) == 1
        monkeypatch.setattr(intake, "installed", lambda package: True)
        assert known_bad(str(folder), ABCD, (), 4 * 10**9) == []
    make(folder, ABCD, [Bad(ABCD[3], "d.jpg: broken")])
    written = os.stat(folder / "images.sqlite").st_mtime_ns
    for ctime, count in ((written - 1, 1), (written + 1, 0)):
        assert len(known_bad(str(folder), ABCD, [Detail(ctime)] * len(ABCD))) == count


def test_a_row_that_nobody_wrote(folder):
    writer = begun(folder, ABCD, [])
    with pytest.raises(RunError, match="rows are missing; run the same command again"):
        writer.finish([], ABOUT)
    assert is_drawn(Gallery(folder), ABC)


# ---- stops -----------------------------------------------------------------------------------------------------------


def test_what_is_marked_as_done_is_on_the_disk(tmp_path, monkeypatch):
    """Rows are marked as done only after they are on the disk. Otherwise, a power cut could leave rows of zeros."""
    brought = []

    def flush(array):
        brought.append(os.path.basename(array.filename))
        if brought[-1] != "done.npy":
            assert not np.load(tmp_path / "making" / "done.npy").any()

    writer = begun(tmp_path, ABC, [0, 2], flushed=False)
    assert not np.load(tmp_path / "making" / "done.npy").any()
    with monkeypatch.context() as patch:
        patch.setattr(np.memmap, "flush", flush)
        writer.flush()
    assert brought[-1] == "done.npy" and set(brought[:-1]) == {"embeddings.npy", "prints.npy", "hashes.npy"}
    assert np.load(tmp_path / "making" / "done.npy").tolist() == [True, False, True]
    assert wanted(tmp_path, ABC) == ABC[1:2]


def test_every_some_seconds(tmp_path, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(gallery_writer, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    writer = begun(tmp_path, ABC, [0], flushed=False)
    done = lambda: np.load(tmp_path / "making" / "done.npy").tolist()
    seconds[0] += gallery_writer.FLUSH_SECONDS - 1
    put(writer, [1])
    assert done() == [False, False, False]
    seconds[0] += 2
    put(writer, [2])
    assert done() == [True, True, True]


@pytest.mark.parametrize("moved", range(len(PLACES) + 1))
@pytest.mark.parametrize("files", [ABCD, files_named("b.jpg", "c.jpg", "z.jpg")], ids=["one more", "renamed"])
def test_stopped_while_files_move_to_their_places(folder, monkeypatch, moved, files):
    """A reader refuses a mixture of old and new files. The next embed.py repairs it."""
    making = folder / "making"
    writer = begun(folder, files, [len(files) - 1])
    (making / "model.pth.tar").write_text("a new model")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(GalleryFolder, "put_in_place", stop)
        writer.finish([], ABOUT)
    for name in PLACES[:moved]:
        os.replace(making / name, folder / name)
    if 0 < moved < len(PLACES):
        with pytest.raises(InputError) as caught:
            Gallery(folder)
        assert str(folder) in str(caught.value) and "run it again" in str(caught.value)
    elif moved:
        assert is_drawn(Gallery(folder), files)
    GalleryFolder(folder).put_in_place()
    assert is_drawn(Gallery(folder), files)
    assert (folder / "model.pth.tar").read_text() == "a new model"
    assert make(folder, files) == [] and not making.exists()


@pytest.mark.parametrize("part", ["embeddings.npy", "prints.npy", "images.sqlite"])
@pytest.mark.parametrize("moved", range(len(PLACES) + 1))
def test_a_reader_that_comes_while_files_move(folder, monkeypatch, moved, part):
    """Files move just before the reader reads one of them. It gets all old files, all new files, or is told to wait."""
    files, making, aside = files_named("b.jpg", "c.jpg", "z.jpg"), folder / "making", folder / "aside"
    writer = begun(folder, files, [2])
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(GalleryFolder, "put_in_place", stop)
        writer.finish([], ABOUT)
    making.rename(aside)
    moves = []

    def moving(read):
        def read_after_the_move(path, *args, **more):
            if str(path).endswith(part) and not moves:
                moves.append(aside.rename(making))
                for name in PLACES[:moved]:
                    with suppress(FileNotFoundError):
                        os.replace(making / name, folder / name)
                if moved == len(PLACES):
                    shutil.rmtree(making)
            return read(path, *args, **more)

        return read_after_the_move

    monkeypatch.setattr(np, "load", moving(np.load))
    monkeypatch.setattr(store, "read_table", moving(store.read_table))
    try:
        gallery = Gallery(folder)
    except InputError as error:
        assert "--again" not in str(error)  # the gallery is not damaged, so --again is not the remedy
    else:
        assert is_drawn(gallery, ABC) or is_drawn(gallery, files)
    assert moves


def test_no_file_is_missing_while_files_move(folder, monkeypatch):
    """A reader at that moment finds the old or the new file."""
    replace, moved = os.replace, []

    def watched(source, target):
        if os.path.dirname(target) == str(folder):
            moved.append(os.path.basename(target))
            assert os.path.exists(target), target
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    make(folder, ABCD)
    assert set(moved) >= set(PLACES) - {"model.pth.tar"} and is_drawn(Gallery(folder), ABCD)


CALLS = [(os, "makedirs"), (os, "rename"), (os, "replace"), (shutil, "rmtree"), (gallery_writer, "write_table")]


@pytest.mark.parametrize("call", range(1, 9))
def test_stopped_while_a_stopped_one_is_laid_out_again(tmp_path, monkeypatch, call):
    """Stop before and after each change in the folder. Neither flushed rows nor the model get lost."""
    for after in (False, True):
        folder = tmp_path / f"gallery {after}"
        begun(folder, ABC, [0, 2])
        (folder / "making" / "model.pth.tar").write_text("the model")
        calls = []

        def stopping(original, *args, after=after, calls=calls, **more):
            calls.append(original)
            number = len(calls)
            if number == call and not after:
                raise Stopped
            result = original(*args, **more)
            if number == call:
                raise Stopped
            return result

        with monkeypatch.context() as patch:
            for owner, name in CALLS:
                original = getattr(owner, name)
                patch.setattr(owner, name, lambda *args, original=original, **more: stopping(original, *args, **more))
            try:
                Writer(str(folder), "model", DIM, "float32").plan(ABCD)
            except Stopped:
                pass
            else:
                assert len(calls) < call, "it stops where it is told to"
        GalleryFolder(folder).put_in_place()  # as embed.py does at its start
        assert (folder / "making" / "model.pth.tar").read_text() == "the model", (call, after)
        assert wanted(folder, ABCD) == [ABCD[1], ABCD[3]], (call, after)


def test_stopped_while_bad_files_are_taken_out(tmp_path, monkeypatch):
    """The gallery is written again without the rows of bad files."""
    writer = begun(tmp_path, ABC, [0, 2])
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop)
        with pytest.raises(Stopped):
            writer.finish([Bad(ABC[1], "bad")], ABOUT)
    GalleryFolder(tmp_path).put_in_place()
    assert wanted(tmp_path, ABC) == [ABC[1]]


# ---- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, size", [("float32", 4), ("float16", 2)])
def test_a_disk_without_room(folder, monkeypatch, dtype, size):
    usage = namedtuple("usage", "total used free")
    begun(folder, ABCD, [3])
    need = 4 * (size * DIM + SIDE * SIDE + HASH_BYTES + 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - need + 1, need - 1))
        with pytest.raises(RunError) as caught:
            wanted(folder, ABCD, dtype=dtype)
    message = str(caught.value)
    assert message.startswith(f"{folder}: 4 images take ") and "GB are free; make room" in message and "\n" not in message
    assert is_drawn(Gallery(folder), ABC) and wanted(folder, ABCD) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - need, need))
    assert len(wanted(folder, ABCD, dtype=dtype)) == (4 if dtype == "float16" else 0)


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["embeddings.npy", "prints.npy", "images.sqlite", "about.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_gallery_is_made_anew(folder, part, kind):
    """A damaged gallery is never taken for one that is up to date."""
    assert is_current(str(folder), "model", "float32", ABC, [])
    damage(folder / part, kind)
    assert not is_current(str(folder), "model", "float32", ABC, [])
    if kind == "a folder":
        (folder / part).rmdir()
    assert make(folder, ABCD) == ABCD and is_drawn(Gallery(folder), ABCD)


@pytest.mark.parametrize("part", ["embeddings.npy", "prints.npy", "hashes.npy", "done.npy", "images.sqlite", "plan.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_what_was_being_made(folder, part, kind):
    begun(folder, ABCD, [3])
    damage(folder / "making" / part, kind)
    assert make(folder, ABCD) == ABCD[3:] and is_drawn(Gallery(folder), ABCD)


def test_arrays_of_another_shape(folder):
    """Another version of this program could have left them."""
    for name, shape in (("embeddings", (3, DIM + 1)), ("embeddings", (2, DIM)), ("prints", (3, 16, 16)), ("prints", (3,))):
        whole = (folder / f"{name}.npy").read_bytes()
        np.save(folder / f"{name}.npy", np.zeros(shape, np.uint8))
        assert wanted(folder, ABC) == ABC, (name, shape)
        shutil.rmtree(folder / "making")
        (folder / f"{name}.npy").write_bytes(whole)


def test_is_current(folder):
    def current(files=ABC, bad=(), model="model", dtype="float32"):
        return is_current(str(folder), model, dtype, files, bad)

    assert current() and not current(ABCD) and not current(ABC[:2]) and not current([])
    assert not current(model="other") and not current(dtype="float16")
    assert not current(files_named("a.jpg", "b.jpg", "c.jpg", size=101))
    a, b = Bad(ABC[0], "bad"), Bad(ABC[1], "bad")
    assert not current(bad=[a])
    make(folder, ABC, [b, a])
    assert current(ABC[2:], [a, b]) and not current(ABC[2:], [a]) and not current(ABC[2:]) and not current()


def test_drawn_rows_tell_files_apart():
    """The tests here rely on it."""
    one, other = drawn(ABC[0]), drawn(files_named("a.jpg", mtime_ns=1)[0])
    assert all(np.array_equal(a, b) for a, b in zip(one, drawn(ABC[0])))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other))
