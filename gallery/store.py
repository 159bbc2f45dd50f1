"""Reads a gallery: rows of embeddings, thumbprints and hashes, and the table of their files."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from data.lists import Paths, below, shown
from gallery.folder import GalleryFolder
from gallery.thumbprints import SIDE
from utils.errors import InputError, RunError
from utils.files import written_whole

HASH_BYTES = 16
UNNUMBERED = 1  # pixel version of galleries that do not name one


class File(NamedTuple):
    """An image file at the time when its folder was read."""

    path: str
    size: int
    mtime_ns: int


class Detail(NamedTuple):
    """What the disk says of a file beyond its File. 0 and "" in galleries that do not record it."""

    ctime_ns: int = 0
    inode: int = 0
    device: int = 0
    real: str = ""  # its path behind all links


class LeftOut(NamedTuple):
    """A file or folder that is no image, or that a rule leaves out: see data/folders.py."""

    path: str
    category: str
    why: str


class Bad(NamedTuple):
    """A file that cannot be read as an image."""

    file: File  # mtime_ns 0: it will be tried again
    reason: str


class Gallery:
    """Reads the folder of a gallery. Raises InputError if it is missing, half-made or of another format."""

    details: Sequence[Detail] = ()  # of each image; empty in galleries that do not record them

    def __init__(self, folder: str | os.PathLike) -> None:
        self.place = GalleryFolder(folder)
        self.folder = self.place.path
        self.about = self.place.read_about()
        self.name: str = self.about["name"]
        self.root: str | None = self.about["root"]
        self.roots: list[str] = self.about.get("roots", [self.root] if self.root else [])
        self.stamp: str = self.about["stamp"]
        self.pixels: int = self.about.get("pixels", UNNUMBERED)  # pixel version of the rows
        self.embeddings = _read(self.place.array("embeddings"), lambda path: np.load(path, mmap_mode="r"))
        self.prints = _read(self.place.array("prints"), lambda path: np.load(path, mmap_mode="r"))
        stamp, self.files, hashes, self.unreadable = _read(self.place.table, read_table)
        self.paths = Paths(file.path for file in self.files)
        self.hashes = _read(self.place.table, lambda _: hash_rows(hashes, len(self.files)))
        # step 3 of the protocol in gallery/folder.py
        if os.path.exists(self.place.making.about) or self.place.read_about()["stamp"] != self.stamp:
            reason = "embed.py was stopped while it wrote this, or is still writing; run it again"
            raise InputError(f"{shown(self.folder)}: {reason}")
        shapes = [(len(self.files), self.about["dim"]), (len(self.files), SIDE, SIDE)]
        if stamp != self.stamp or [self.embeddings.shape, self.prints.shape] != shapes:
            raise InputError(f"{shown(self.folder)}: damaged (its files do not belong together); run embed.py with --again")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def bad(self) -> list[tuple[str, str]]:
        """The unreadable files, as (path, reason)."""
        return [(entry.file.path, entry.reason) for entry in self.unreadable]

    @cached_property
    def keys(self) -> list[str]:
        """The name of each image, the same in every gallery: 16 hexadecimal digits, the hash of its path."""
        return [hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest() for path in self.paths]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    def row_of(self, key: str) -> int | None:
        """Return the row of the image with this key, or None."""
        return self._rows.get(key)

    @cached_property
    def _first_halves(self) -> np.ndarray:
        """The first 8 bytes of each hash, uint64 (N,), for the search through all rows."""
        return np.ascontiguousarray(self.hashes[:, :8]).view(np.uint64).ravel()

    def rows_of_hash(self, digest: bytes) -> np.ndarray:
        """Return the images whose files have this hash, int64 (n,)."""
        rows = np.flatnonzero(self._first_halves == np.frombuffer(digest, np.uint64, 1)[0])
        return rows[(self.hashes[rows] == np.frombuffer(digest, np.uint8)).all(1)]

    @cached_property
    def row_of_path(self) -> dict[str, int]:
        """absolute path -> row"""
        return {path: row for row, path in enumerate(self.paths)}

    def shown(self, row: int) -> str:
        """Return the path of an image as text, relative to the folder of the images if there is one."""
        return os.fsencode(below(self.paths[row], self.root)).decode("utf-8", "replace")

    # ---- kept beside the gallery -------------------------------------------------------------------------------------

    def kept(self, name: str, make: Callable[[], dict[str, np.ndarray]], rules: int = 1) -> dict[str, np.ndarray]:
        """Return the arrays of `make()`, from derived/<name>.npz if that file has the gallery's stamp and these rules.

        rules: the version of how `make` computes; a file that does not name its version has version 1.
        """
        path = self.place.derived(name)
        with suppress(Exception), np.load(path) as stored:  # a damaged file can fail in any way
            if str(stored["stamp"]) == self.stamp and int(stored.get("rules", 1)) == rules:
                return {key: stored[key] for key in stored.files if key not in ("stamp", "rules")}
        arrays = make()
        with suppress(OSError):  # a full or read-only disk: the arrays are made anew each time
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with written_whole(path, sync=False) as file:
                np.savez(file, stamp=np.array(self.stamp), rules=np.array(rules), **arrays)  # type: ignore[arg-type]
        return arrays

    def apart(self) -> list[list[int]]:
        """Read the groups of rows that the user marked as "not duplicates"."""
        try:
            with open(self.place.not_duplicates, encoding="ascii", errors="replace") as file:
                lines = [line.split() for line in file]
        except FileNotFoundError:
            return []
        groups = [sorted({row for key in line if (row := self.row_of(key)) is not None}) for line in lines]
        return [rows for rows in groups if len(rows) > 1]

    def set_apart(self, rows: Iterable[int]) -> None:
        """Remember that these images are not duplicates of each other, as long as they keep their names."""
        keys = [self.keys[row] for row in sorted(set(rows))]
        if len(keys) < 2:
            raise InputError("give two images or more that are not duplicates of each other")
        try:
            with open(self.place.not_duplicates, "a", encoding="ascii") as file:
                file.write(" ".join(keys) + "\n")
        except OSError as error:
            raise RunError(f"{shown(self.place.not_duplicates)}: {error.strerror}") from None


def _read(path: str, reader: Callable[[str], Any]) -> Any:
    """Read a file by `reader`. Raises an InputError that names a damaged file."""
    try:
        return reader(path)
    except Exception as error:  # a damaged file can fail in any way
        reason = shown(str(error) or type(error).__name__)
        raise InputError(f"{shown(path)}: damaged ({reason}); run embed.py with --again") from None


# ---- the table of files ----------------------------------------------------------------------------------------------


def write_table(path: str, stamp: str, files: Sequence[File], hashes: Sequence[str], bad: Sequence[Bad]) -> None:
    """Write images.sqlite. hashes: hexadecimal, of each file, or "" if it is not known yet. A path that is not valid text is
    stored as bytes."""
    with written_whole(path) as file, closing(sqlite3.connect(file.name)) as base, base:
        base.execute("BEGIN")  # else SQLite would sync after each table
        base.execute("CREATE TABLE images (row INTEGER PRIMARY KEY, path, size INTEGER, mtime_ns INTEGER, hash TEXT)")
        base.execute("CREATE TABLE bad (path, size INTEGER, mtime_ns INTEGER, reason TEXT)")
        base.execute("CREATE TABLE about (stamp TEXT)")
        base.execute("INSERT INTO about VALUES (?)", (stamp,))
        rows = ((row, _stored(f.path), f.size, f.mtime_ns, h) for row, (f, h) in enumerate(zip(files, hashes)))
        base.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", rows)
        rows_of_bad = ((_stored(b.file.path), b.file.size, b.file.mtime_ns, shown(b.reason)) for b in bad)
        base.executemany("INSERT INTO bad VALUES (?, ?, ?, ?)", rows_of_bad)


def read_table(path: str) -> tuple[str, list[File], list[str], list[Bad]]:
    """Read the stamp, files, hashes and unreadable files from images.sqlite.

    Raises OSError, ValueError or sqlite3.Error if it is missing or damaged.
    """
    if not os.path.isfile(path):
        raise OSError(f"{os.path.basename(path)} is missing")
    with closing(sqlite3.connect(path)) as base:
        ((stamp,),) = base.execute("SELECT stamp FROM about").fetchall()
        images = base.execute("SELECT path, size, mtime_ns, hash FROM images ORDER BY row").fetchall()
        bad = base.execute("SELECT path, size, mtime_ns, reason FROM bad").fetchall()
    files = [File(_named(name), size, mtime) for name, size, mtime, _ in images]
    unreadable = [Bad(File(_named(name), size, mtime), reason) for name, size, mtime, reason in bad]
    return stamp, files, [hashed for *_, hashed in images], unreadable


def hash_rows(hashes: Sequence[str], count: int) -> np.ndarray:
    """Convert hexadecimal hashes to uint8 (count, HASH_BYTES). Raises ValueError or TypeError for an invalid hash."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(count, HASH_BYTES)


def _stored(path: str) -> str | bytes:
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return os.fsencode(path)


def _named(stored: Any) -> str:
    if not isinstance(stored, str | bytes):
        raise ValueError("a path is missing")
    return stored if isinstance(stored, str) else os.fsdecode(stored)
