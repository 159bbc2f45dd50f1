"""Which earlier rows hold: unchanged, touched, moved and copied files, with as little reading as possible."""

import hashlib
import os
import shutil
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from gallery import earlier_rows
from gallery.earlier_rows import Earlier, kept_rows
from gallery.table import Detail, File, hash_of


def look(folder):
    """(files, details) of a folder, as a survey gives them."""
    paths = sorted(os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    states = [os.stat(path) for path in paths]
    files = [File(path, s.st_size, s.st_mtime_ns) for path, s in zip(paths, states)]
    return files, [Detail(s.st_ctime_ns, s.st_ino, s.st_dev) for s in states]


def earlier(folder):
    files, details = look(folder)
    hashes = np.array([np.frombuffer(hash_of(file.path), np.uint8) for file in files], np.uint8).reshape(-1, 16)
    return Earlier(files, details, hashes, range(len(files)))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        (folder / f"{i}.jpg").write_bytes(bytes([i]) * (100 + i // 2))
        os.utime(folder / f"{i}.jpg", ns=(0, 10**18 + i))
    return folder


class Reader:
    """Counts the files that are read."""

    def __init__(self):
        self.read = []

    def __call__(self, path):
        self.read.append(os.path.basename(path))
        return hash_of(path)


def kept(folder, before):
    reader = Reader()
    found = kept_rows(*look(folder), before, reader)
    names = [os.path.basename(file.path) for file in look(folder)[0]]
    before_names = [os.path.basename(file.path) for file in before.files]
    return {names[i]: before_names[row] for i, row in found.pairs}, found.moved, sorted(reader.read)


ALL = {f"{i}.jpg": f"{i}.jpg" for i in range(8)}


def test_unchanged_files_are_not_read(photos):
    assert kept(photos, earlier(photos)) == (ALL, 0, [])


def test_a_renamed_folder_is_not_read(photos, tmp_path):
    before = earlier(photos)
    (tmp_path / "elsewhere").mkdir()
    photos.rename(tmp_path / "elsewhere" / "other")
    assert kept(tmp_path / "elsewhere", before) == (ALL, 8, [])


def test_a_folder_copied_with_its_times_is_not_read(photos, tmp_path):
    before = earlier(photos)
    shutil.copytree(photos, tmp_path / "copy")
    assert kept(tmp_path / "copy", before) == (ALL, 8, [])


def test_all_files_written_anew_in_their_places_are_not_read(photos):
    """As by a backup: each has a new ctime, and the same size and mtime."""
    before = earlier(photos)
    time.sleep(0.02)
    for path in photos.iterdir():
        content, state = path.read_bytes(), path.stat()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(0, state.st_mtime_ns))
    assert kept(photos, before) == (ALL, 0, [])


def test_a_file_changed_under_the_same_size_and_time_is_seen(photos):
    before = earlier(photos)
    time.sleep(0.02)
    for name, content in (("2.jpg", b"x" * 101), ("3.jpg", None)):  # the second is only touched
        state = (photos / name).stat()
        (photos / name).write_bytes(content or (photos / name).read_bytes())
        os.utime(photos / name, ns=(0, state.st_mtime_ns))
    assert kept(photos, before) == ({k: v for k, v in ALL.items() if k != "2.jpg"}, 0, ["2.jpg", "3.jpg"])


def test_renamed_files_are_found_by_their_bytes(photos):
    before = earlier(photos)
    (photos / "0.jpg").rename(photos / "new.jpg")
    os.utime(photos / "4.jpg")  # a new time
    (photos / "unknown.jpg").write_bytes(b"another size")
    expected = {**ALL, "new.jpg": "0.jpg"}
    del expected["0.jpg"]
    assert kept(photos, before) == (expected, 2, ["4.jpg", "new.jpg"])


def test_names_that_come_twice_are_read(photos, tmp_path):
    """Two cameras can give two photos the same name, size and time."""
    for name, content in (("a", b"1" * 50), ("b", b"2" * 50)):
        (photos / name).mkdir()
        (photos / name / "same.jpg").write_bytes(content)
        os.utime(photos / name / "same.jpg", ns=(0, 5))
    before = earlier(photos)
    photos.rename(tmp_path / "moved")
    found = kept_rows(*look(tmp_path / "moved"), before, reader := Reader())
    assert [os.path.basename(path) for path in reader.read] == ["same.jpg"] * 2 and len(found.pairs) == 10
    files = look(tmp_path / "moved")[0]
    assert all(hash_of(files[i].path) == before.hashes[row].tobytes() for i, row in found.pairs)


@pytest.mark.parametrize("kept_before", [False, True])
def test_a_new_file_with_the_name_size_and_time_of_another_folders_is_read(tmp_path, kept_before):
    """Archives can give all files one time, and pictures without compression have one size."""
    for name, content in (("a", b"1" * 50), ("b", b"2" * 50)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.bmp").write_bytes(content)
        os.utime(tmp_path / name / "1.bmp", ns=(0, 5))
    files, details = look(tmp_path)
    before, skipped = earlier(tmp_path / "a"), int(kept_before)  # the first file may have found its row already
    present = {file.path for file in files}
    found = kept_rows(files[skipped:], details[skipped:], before, reader := Reader(), present)
    assert found.pairs == [(0, 0)][skipped:] and reader.read == ["1.bmp"]


def test_many_touched_files_are_not_read(photos, monkeypatch):
    monkeypatch.setattr(earlier_rows, "MANY", 3)
    before = earlier(photos)
    time.sleep(0.02)
    for i in range(5):
        state = (photos / f"{i}.jpg").stat()
        os.utime(photos / f"{i}.jpg", ns=(0, state.st_mtime_ns))
    assert kept(photos, before) == (ALL, 0, [])


content = st.binary(min_size=1, max_size=2)
folders = st.dictionaries(
    st.sampled_from(["a/x", "a/y", "b/x", "b/y", "z"]), st.tuples(content, st.integers(0, 1)), max_size=5
)


@settings(max_examples=150, deadline=None)
@given(before=folders, now=folders)
def test_no_row_of_other_bytes_is_kept_while_times_tell(before, now):
    """Without files on a disk: times are times of writing, so equal names, sizes and times mean equal bytes here."""

    def digest(data):
        return hashlib.blake2b(data, digest_size=16).digest()

    def files_of(folder):  # mtime tells the content, as a clock would
        return [File(f"/{name}", len(data), int.from_bytes(data, "big") * 2 + time) for name, (data, time) in folder.items()]

    old = files_of(before)
    hashes = np.array([np.frombuffer(digest(data), np.uint8) for data, _ in before.values()], np.uint8).reshape(-1, 16)
    whole = Earlier(old, [Detail()] * len(old), hashes, range(len(old)))
    new, by_path = files_of(now), {f"/{name}": data for name, (data, _) in now.items()}
    found = kept_rows(new, [Detail()] * len(new), whole, lambda path: digest(by_path[path]))
    datas = [data for data, _ in now.values()]
    assert all(digest(datas[i]) == hashes[row].tobytes() for i, row in found.pairs)
    known = {row.tobytes() for row in hashes}
    assert {i for i, _ in found.pairs} == {i for i, data in enumerate(datas) if digest(data) in known}
