"""Files: written whole or not at all, hashed; and the nearest folder that exists."""

import hashlib
import json
import os
import signal
import subprocess

import pytest

from utils.files import existing_folder, file_digest, write_json, written_whole


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    write_json(str(path), {"a": [1, "ü"]})
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    with pytest.raises(TypeError):
        write_json(str(path), {"a": [2], "b": object()})
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(OSError):
        write_json(str(tmp_path / "none" / "a.json"), {})


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_the_file_is_the_old_one_until_the_block_ends(tmp_path, sync, there):
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), written_whole(path, sync) as file:
        file.write(b"half of")
        raise KeyboardInterrupt
    assert [(name.name, name.read_bytes()) for name in tmp_path.iterdir()] == [("file", b"old")] * there
    with written_whole(path, sync) as file:
        file.write(b"new")
        assert not there or path.read_bytes() == b"old"
    assert [(name.name, name.read_bytes()) for name in tmp_path.iterdir()] == [("file", b"new")]


def test_a_library_may_write_by_the_name_of_the_file(tmp_path):
    with written_whole(str(tmp_path / "file")) as file, open(file.name, "wb") as other:
        other.write(b"by name")
    assert (tmp_path / "file").read_bytes() == b"by name"


def test_two_processes_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with written_whole(path) as file:
        file.write(b"ours")
        if not (child := os.fork()):
            with written_whole(path) as theirs:
                theirs.write(b"theirs")
            os._exit(0)
        os.waitpid(child, 0)
        assert path.read_bytes() == b"theirs"
    assert path.read_bytes() == b"ours" and os.listdir(tmp_path) == ["file"]


def test_one_that_writes_alone_overwrites_what_a_killed_process_left(tmp_path):
    path = tmp_path / "file"
    if not (child := os.fork()):
        with written_whole(path, alone=True) as file:
            file.write(b"much more than the next one")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    with written_whole(path, alone=True) as file:
        file.write(b"all")
    assert path.read_bytes() == b"all" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_hashes_are_those_of_other_programs(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert file_digest(path) == printed.split()[0]
    assert file_digest(str(path), "md5") == hashlib.md5(path.read_bytes()).hexdigest()
    begun = hashlib.sha1(b"before")
    assert file_digest(path, begun) == hashlib.sha1(b"before" + path.read_bytes()).hexdigest()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(OSError, match="not a file"):
        file_digest(tmp_path / "x")


def test_the_nearest_folder_that_exists(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert existing_folder("a/b/c") == existing_folder("a") == existing_folder("a/file/d") == str(tmp_path / "a")
    assert existing_folder("x") == str(tmp_path)
