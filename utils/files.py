"""Files and folders: written whole or not at all, hashed, and the nearest folder that exists."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, BinaryIO


@contextmanager
def written_whole(path: str | PathLike, sync: bool = True, alone: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file, open for bytes, that takes the place of `path` when the block ends.

    After a crash there is the new file or the one before. An error in the block leaves the one before and nothing else.
    The new file's `name` may be handed to a library that writes by path. Raises OSError.
    sync: the file and its name are on the disk at the end. Without it, a power cut can leave an empty file.
    alone: no other process writes this file meanwhile. The next call then overwrites what a killed process left.
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
    """Have a folder on the disk, and with it the renames in it."""
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


def write_json(path: str | PathLike, value: Any) -> None:
    """Write a JSON file, whole or not at all. Raises OSError."""
    text = json.dumps(value, indent=1)
    with written_whole(path) as file:
        file.write(text.encode())


def file_digest(path: str | PathLike, algorithm: Any = "sha256") -> str:
    """Return the hash of a file in hexadecimal digits. Raises OSError.

    algorithm: a name that hashlib knows, or one of its hashes, which goes on from what it was already given.
    """
    total = hashlib.new(algorithm) if isinstance(algorithm, str) else algorithm
    with open(path, "rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def existing_folder(path: str | PathLike) -> str:
    """Return the absolute path of the folder, or of the nearest folder above it that exists. It lies on the same disk."""
    nearest = os.path.abspath(path)
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    return nearest
