"""images.sqlite: the files of a gallery, what is known of each, and the files that are not in it."""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from data.folders import LeftOut
from data.lists import shown
from data.pixels import Facts
from utils.errors import InputError
from utils.files import file_digest, written_whole

HASH_BYTES = 16
ROWS_AT_ONCE = 1000  # of a question to SQLite


class File(NamedTuple):
    """An image file at the time when its folder was read."""

    path: str
    size: int
    mtime_ns: int


class Detail(NamedTuple):
    """What the disk says of a file, beyond File. 0 and "" in galleries of format 1."""

    ctime_ns: int = 0
    inode: int = 0
    device: int = 0
    real: str = ""  # its path behind all links


class Bad(NamedTuple):
    """A file that cannot be read as an image."""

    file: File  # mtime_ns 0: it will be tried again
    reason: str


class Content(NamedTuple):
    """What a file's content says: see `data.pixels.Picture`."""

    facts: Facts
    notes: tuple[str, ...]


class Table(NamedTuple):
    """The rows of images.sqlite, without what `contents_of` reads."""

    stamp: str
    files: list[File]
    details: list[Detail]
    hashes: list[str]  # hexadecimal, "" if it is not known yet
    bad: list[Bad]
    left_out: list[LeftOut]


DETAILS = ("ctime_ns INTEGER", "inode INTEGER", "device INTEGER", "real")
FACTS = (
    "width INTEGER",
    "height INTEGER",
    "format TEXT",
    "taken TEXT",
    "camera TEXT",
    "orientation INTEGER",
    "profile TEXT",
)
IMAGES = ("row INTEGER PRIMARY KEY", "path", "size INTEGER", "mtime_ns INTEGER", "hash TEXT", *DETAILS, *FACTS, "notes TEXT")


def without(bad: Sequence[Bad], files: Sequence[File], details: Sequence[Detail]) -> tuple[list[File], list[Detail]]:
    """Return the files, and their details, that are not among the unreadable ones."""
    unreadable = {entry.file.path for entry in bad}
    readable = [file.path not in unreadable for file in files]
    return list(compress(files, readable)), list(compress(details, readable))


def write_table(path: str, table: Table, contents: Iterable[Content | None]) -> None:
    """Write images.sqlite. contents: of each file, None if it is not known. A path that is no valid text
    is stored as bytes."""
    with written_whole(path) as file, closing(sqlite3.connect(file.name)) as base, base:
        base.execute("BEGIN")  # else SQLite would sync after each table
        base.execute(f"CREATE TABLE images ({', '.join(IMAGES)})")
        base.execute("CREATE TABLE bad (path, size INTEGER, mtime_ns INTEGER, reason TEXT)")
        base.execute("CREATE TABLE about (stamp TEXT)")
        base.execute("INSERT INTO about VALUES (?)", (table.stamp,))
        rows = (
            (row, _stored(file.path), file.size, file.mtime_ns, digest, *_of_detail(detail), *_of_content(content))
            for row, (file, detail, digest, content) in enumerate(
                zip(table.files, table.details, table.hashes, contents, strict=True)
            )
        )
        base.executemany(f"INSERT INTO images VALUES ({', '.join('?' * len(IMAGES))})", rows)
        bad = ((_stored(b.file.path), b.file.size, b.file.mtime_ns, shown(b.reason)) for b in table.bad)
        base.executemany("INSERT INTO bad VALUES (?, ?, ?, ?)", bad)
        _write_left_out(base, table.left_out)


def replace_left_out(path: str, left_out: Sequence[LeftOut]) -> None:
    """Replace the list of the files that are left out."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("BEGIN")
        base.execute("DROP TABLE IF EXISTS left_out")
        _write_left_out(base, left_out)


def _write_left_out(base: sqlite3.Connection, left_out: Sequence[LeftOut]) -> None:
    base.execute("CREATE TABLE left_out (path, category TEXT, why TEXT)")
    base.executemany(
        "INSERT INTO left_out VALUES (?, ?, ?)", ((_stored(e.path), e.category, shown(e.why)) for e in left_out)
    )


def read_table(path: str) -> Table:
    """Read images.sqlite. Raises OSError, ValueError or sqlite3.Error if it is missing or damaged."""
    if not os.path.isfile(path):
        raise OSError(f"{os.path.basename(path)} is missing")
    with closing(sqlite3.connect(path)) as base:
        ((stamp,),) = base.execute("SELECT stamp FROM about").fetchall()
        columns = {name for _, name, *_ in base.execute("PRAGMA table_info(images)")}
        names = ["path", "size", "mtime_ns", "hash", *(Detail._fields if set(Detail._fields) <= columns else ())]
        images = base.execute(f"SELECT {', '.join(names)} FROM images ORDER BY row").fetchall()
        bad = base.execute("SELECT path, size, mtime_ns, reason FROM bad").fetchall()
        has_left_out = base.execute("SELECT 1 FROM sqlite_master WHERE name = 'left_out'").fetchone()
        left_out = base.execute("SELECT path, category, why FROM left_out").fetchall() if has_left_out else []
    return Table(
        stamp,
        [File(_named(path), size, mtime) for path, size, mtime, *_ in images],
        [_detail(detail) if detail else Detail() for _, _, _, _, *detail in images],
        [digest for _, _, _, digest, *_ in images],
        [Bad(File(_named(path), size, mtime), reason) for path, size, mtime, reason in bad],
        [LeftOut(_named(path), category, why) for path, category, why in left_out],
    )


def contents_of(path: str, rows: Sequence[int]) -> dict[int, Content]:
    """Read what is known of the contents of these rows' files; {} in galleries of format 1."""
    query = f"SELECT row, notes, {', '.join(Facts._fields)} FROM images WHERE width IS NOT NULL AND row IN"
    found: list[tuple] = []
    with closing(sqlite3.connect(path)) as base, suppress(sqlite3.OperationalError):  # no such columns
        for start in range(0, len(rows), ROWS_AT_ONCE):
            found += base.execute(f"{query} ({', '.join(map(str, rows[start : start + ROWS_AT_ONCE]))})").fetchall()
    return {row: Content(Facts(*facts), tuple((notes or "").split())) for row, notes, *facts in found}


def notes_of(path: str) -> list[tuple[int, tuple[str, ...]]]:
    """Read the rows with notes on their pictures, in order. Raises sqlite3.Error for a gallery of format 1."""
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute("SELECT row, notes FROM images WHERE notes != '' ORDER BY row").fetchall()
    return [(row, tuple(notes.split())) for row, notes in rows]


def hash_of(path: str) -> bytes:
    """Hash the bytes of a file with BLAKE2b. Raises InputError for a file that cannot be read."""
    try:
        return bytes.fromhex(file_digest(path, hashlib.blake2b(digest_size=HASH_BYTES)))
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({error.strerror})") from None


def hash_rows(hashes: Sequence[str], count: int) -> np.ndarray:
    """Convert hexadecimal hashes to uint8 (count, HASH_BYTES). Raises ValueError or TypeError for an invalid hash."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(count, HASH_BYTES)


def _of_detail(detail: Detail) -> tuple:
    return (*(_signed(number) for number in detail[:3]), _stored(detail.real))


def _of_content(content: Content | None) -> tuple:
    return (*content.facts, " ".join(content.notes)) if content else (None,) * (len(FACTS) + 1)


def _detail(columns: Sequence[Any]) -> Detail:
    ctime, inode, device, real = columns
    return Detail(ctime, inode % 2**64, device % 2**64, _named(real))


def _signed(number: int) -> int:
    """A file number may have 64 bits without a sign, and SQLite's integers have one."""
    return number - 2**64 if number >= 2**63 else number


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
