"""Which rows of an earlier gallery still hold: for files that are unchanged, that have moved, or whose bytes are known."""

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from gallery.table import Detail, File
from utils.errors import InputError
from utils.progress import bar

MANY = 1000  # files with a new ctime: fewer are hashed, more are most likely moved
HASHERS = 4  # files that are hashed at once

Hash = Callable[[str], bytes]  # path -> hash of the file; InputError if it cannot be read


class Earlier(NamedTuple):
    """The rows of an earlier gallery that are whole."""

    files: Sequence[File]
    details: Sequence[Detail]
    hashes: np.ndarray  # uint8 (n, HASH_BYTES)
    rows: Sequence[int]  # their numbers, increasing


class Kept(NamedTuple):
    """Files whose earlier rows hold."""

    pairs: list[tuple[int, int]]  # (index of the file, earlier row)
    moved: int  # how many of the files have another path than before


def kept_rows(
    files: Sequence[File], details: Sequence[Detail], earlier: Earlier, hash_of: Hash, present: Container[str] = frozenset()
) -> Kept:
    """Find the earlier row of each file, reading as few files as possible.

    1. Same path, size and mtime: the row holds. A ctime that has changed says that somebody touched the file, so its hash is
       compared; but if (nearly) all files have a new ctime, the whole folder was copied or moved, and nothing is read.
    2. Same name, size and mtime in another folder, only one such file before and now, and the earlier one is gone: it has
       moved.
    3. The size of an earlier file, and its hash.

    present: paths of other files that are there, besides `files`.
    """
    row_of = {earlier.files[row]: row for row in earlier.rows}
    same = {index: row_of[file] for index, file in enumerate(files) if file in row_of}
    touched = [i for i, row in same.items() if 0 != earlier.details[row].ctime_ns != details[i].ctime_ns != 0]
    if len(touched) == len(same) > 1 or len(touched) > max(MANY, len(same) // 2):
        touched = []
    for index, digest in _hashed([files[index] for index in touched], touched, hash_of):
        if digest != earlier.hashes[same[index]].tobytes():
            del same[index]
    compared = set(touched)
    rest = [index for index in range(len(files)) if index not in same and index not in compared]
    here = {file.path for file in files}
    gone = [row for row in earlier.rows if (path := earlier.files[row].path) not in here and path not in present]
    moved = _moved(files, rest, earlier, gone)
    rest = [index for index in rest if index not in moved]
    sizes = {earlier.files[row].size for row in earlier.rows}
    by_hash = {earlier.hashes[row].tobytes(): row for row in reversed(earlier.rows)} if rest else {}
    candidates = [index for index in rest if files[index].size in sizes]
    for index, digest in _hashed([files[index] for index in candidates], candidates, hash_of):
        if digest in by_hash:
            moved[index] = by_hash[digest]
    return Kept(sorted({**same, **moved}.items()), len(moved))


def _moved(files: Sequence[File], rest: Sequence[int], earlier: Earlier, gone: Sequence[int]) -> dict[int, int]:
    """Match files and rows whose files are gone, if they alone have their name, size and mtime."""

    def key(file: File) -> tuple[str, int, int]:
        return os.path.basename(file.path), file.size, file.mtime_ns

    before = Counter(key(earlier.files[row]) for row in earlier.rows)
    now = Counter(key(files[index]) for index in rest)
    row_of = {key(earlier.files[row]): row for row in gone}
    return {index: row_of[k] for index in rest if before[k := key(files[index])] == now[k] == 1 and k in row_of}


def _hashed(files: Sequence[File], indices: Sequence[int], hash_of: Hash) -> Iterable[tuple[int, bytes]]:
    """Yield the hashes of files that can be read, with their indices."""

    def digest(file: File) -> bytes:
        try:
            return hash_of(file.path)
        except InputError:
            return b""

    with ThreadPoolExecutor(HASHERS) as pool:
        digests = pool.map(digest, files)
        yield from zip(indices, bar(digests, total=len(files), desc="comparing", unit="img", leave=False))
