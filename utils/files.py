"""Writes files whole or not at all, hashes files, and finds the nearest existing folder."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, BinaryIO


@contextmanager
def written_whole(path: str | PathLike, sync: bool = True, alone: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file, open for bytes, that takes the place of `path` when the block ends.

    After a crash there is the new file or the old one. An error in the block leaves only the old file.
    The new file's `name` may be handed to a library that writes by path. Raises OSError.
    sync: put the file and its name on the disk before the end. Without it, a power cut can leave an empty file.
    alone: no other process writes this file meanwhile. The next call then overwrites the remains of a killed process.
    """
    temporary = f"{os.fspath(path)}.tmp" if alone else f"{os.fspath(path)}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            _sync_folder(os.path.dirname(path))
    finally:
        with suppress(OSError):
            os.remove(temporary)  # if it was not renamed


def _sync_folder(folder: str) -> None:
    """Put a folder, and the renames in it, on the disk."""
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def write_json(path: str | PathLike, value: Any, sync: bool = True) -> None:
    """Write a JSON file, whole or not at all. sync: as for `written_whole`. Raises OSError."""
    text = json.dumps(value, indent=1)
    with written_whole(path, sync) as file:
        file.write(text.encode())


def file_digest(path: str | PathLike, algorithm: Any = "sha256") -> str:
    """Return the hash of a file in hexadecimal digits. Raises OSError, also for a pipe, which might never end.

    algorithm: a name for hashlib, or a hash of hashlib, which is then updated.
    """
    total = hashlib.new(algorithm) if isinstance(algorithm, str) else algorithm
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "not a file")
    with open(handle, "rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def existing_folder(path: str | PathLike) -> str:
    """Return the absolute path of the folder, or of the nearest folder above it that exists. It lies on the same disk."""
    nearest = os.path.abspath(path)
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    return nearest
