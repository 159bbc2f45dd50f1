"""Reads a gallery: rows of embeddings, thumbprints and hashes, and the table of their files."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from data.lists import Paths, below, shown
from gallery import not_duplicates
from gallery.contents import Contents
from gallery.folder import GalleryFolder
from gallery.not_duplicates import Mark
from gallery.table import HASH_BYTES, Content, Detail, contents_of, hash_rows, notes_of, read_table
from gallery.thumbprints import SIDE
from utils.errors import InputError
from utils.files import written_whole

UNNUMBERED = 1  # pixel version of galleries that do not name one


class Gallery:
    """Reads the folder of a gallery. Raises InputError if it is missing, half-made or of another format."""

    details: Sequence[Detail] = ()  # of each image; empty in galleries that do not record them
    of = 0  # the number of all images, while the first embedding has not come to its end; else 0
    plain = False  # the rows are plain features until the closed form is fitted

    def __init__(self, folder: str | os.PathLike) -> None:
        self.place = GalleryFolder(folder)
        self.folder = self.place.path
        self.about = self.place.read_about()
        self.name: str = self.about["name"]
        self.root: str | None = self.about["root"]  # the folder of the images; None for several folders, or a list
        self.roots: list[str] = self.about.get("roots") or ([self.root] if self.root else [])
        self.stamp: str = self.about["stamp"]
        self.of, self.plain = int(self.about.get("of", 0)), bool(self.about.get("plain"))
        self.pixels: int = self.about.get("pixels", UNNUMBERED)  # pixel version of the rows
        self.embeddings = _read(self.place.array("embeddings"), lambda path: np.load(path, mmap_mode="r"))
        self.prints = _read(self.place.array("prints"), lambda path: np.load(path, mmap_mode="r"))
        table = _read(self.place.table, read_table)
        self.files, self.unreadable, self.left_out = table.files, table.bad, table.left_out
        self.details = table.details
        self.paths = Paths(file.path for file in self.files)
        self.hashes = _read(self.place.table, lambda _: hash_rows(table.hashes, len(self.files)))
        self.contents = Contents(self.place.contents)
        # step 3 of the protocol in gallery/folder.py
        if os.path.exists(self.place.making.about) or self.place.read_about()["stamp"] != self.stamp:
            reason = "embed.py was stopped while it wrote this, or is still writing; run it again"
            raise InputError(f"{shown(self.folder)}: {reason}")
        shapes = [(len(self.files), self.about["dim"]), (len(self.files), SIDE, SIDE)]
        if table.stamp != self.stamp or [self.embeddings.shape, self.prints.shape] != shapes:
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

    def content(self, row: int) -> Content | None:
        """Read what the file of a row says about its picture; None in galleries of format 1."""
        return self.contents_of([row]).get(row)

    def contents_of(self, rows: Sequence[int]) -> dict[int, Content]:
        """Read what the files of these rows say about their pictures; {} in galleries of format 1."""
        with suppress(Exception):  # a damaged file can fail in any way, and nothing depends on it
            return contents_of(self.place.table, rows)
        return {}

    def noted(self) -> list[tuple[str, tuple[str, ...]]]:
        """Read the images with notes (`data.formats.NOTES`), by their paths."""
        with suppress(Exception):
            return [(self.paths[row], notes) for row, notes in notes_of(self.place.table)]
        return []

    def thumbnail(self, row: int) -> bytes | None:
        """Return the thumbnail of a row, a JPEG, if the gallery keeps it."""
        return self.contents.thumbnail(self.hashes[row].tobytes())

    # ---- kept beside the gallery -------------------------------------------------------------------------------------

    def kept(
        self, name: str, make: Callable[[], dict[str, np.ndarray]], rules: int = 1, again: bool = False
    ) -> dict[str, np.ndarray]:
        """Return the arrays of `make()`, from derived/<name>.npz if that file has the gallery's stamp and these rules.

        rules: the version of how `make` computes; a file that does not name its version has version 1. again: call `make`
        in any case.
        """
        stamp, arrays = self._stored(name, rules)
        if stamp == self.stamp and not again:
            return arrays
        path, arrays = self.place.derived(name), make()
        with suppress(OSError):  # a full or read-only disk: the arrays are made anew each time
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with written_whole(path, sync=False) as file:
                np.savez(file, stamp=np.array(self.stamp), rules=np.array(rules), **arrays)  # type: ignore[arg-type]
        return arrays

    def earlier(self, name: str, rules: int = 1) -> dict[str, np.ndarray]:
        """Return the arrays that `kept` stored in any state of the gallery; {} if there are none."""
        return self._stored(name, rules)[1]

    def _stored(self, name: str, rules: int) -> tuple[str | None, dict[str, np.ndarray]]:
        """Read derived/<name>.npz: the stamp that it was made for, and its arrays."""
        with suppress(Exception), np.load(self.place.derived(name)) as stored:  # a damaged file can fail in any way
            if int(stored.get("rules", 1)) == rules:
                arrays = {key: stored[key] for key in stored.files if key not in ("stamp", "rules")}
                return str(stored["stamp"]), arrays
        return None, {}

    def marks(self, others: Sequence[GalleryFolder] = ()) -> list[Mark]:
        """Read what the user marked as "not duplicates": here, in galleries beside this one, and in `others`."""
        return not_duplicates.marks([self.place, *others], self._rows_named)

    def unmark(self, mark: str, others: Sequence[GalleryFolder] = ()) -> bool:
        """Take a mark back, by its id, wherever `marks` reads it. Returns whether there was one."""
        return not_duplicates.remove([self.place, *others], mark)

    def apart(self) -> list[list[int]]:
        """Read groups of rows that the user marked as "not duplicates", here or in a gallery beside this one."""
        return not_duplicates.apart(self.marks())

    def _rows_named(self, name: str) -> list[int]:
        """Return the rows of a hash, or the row of a key, in hexadecimal digits; none for anything else."""
        if len(name) == 2 * HASH_BYTES:
            with suppress(ValueError):
                return self.rows_of_hash(bytes.fromhex(name)).tolist()
        row = self.row_of(name)
        return [] if row is None else [row]

    def set_apart(self, rows: Iterable[int]) -> str:
        """Remember that these images are not duplicates of each other, whatever they are called. Returns the mark's id."""
        distinct = sorted(set(rows))
        if len(distinct) < 2:
            raise InputError("give two images or more that are not duplicates of each other")
        return not_duplicates.add(self.place, [self.hashes[row].tobytes().hex() for row in distinct])


def _read(path: str, reader: Callable[[str], Any]) -> Any:
    """Read a file by `reader`. Raises an InputError that names a damaged file."""
    try:
        return reader(path)
    except Exception as error:  # a damaged file can fail in any way
        reason = shown(str(error) or type(error).__name__)
        raise InputError(f"{shown(path)}: damaged ({reason}); run embed.py with --again") from None
