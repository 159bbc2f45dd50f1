"""Makes a gallery: rows of unchanged files are kept, new rows are added, and a stop loses at most some seconds of work.

The gallery grows in the folder `making`, in memory-mapped arrays with a row for each file from the start. After the last row
the files move to their places (gallery/folder.py); until then the old gallery can be searched.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress, zip_longest
from typing import Any, NamedTuple

import numpy as np

from data.lists import shown
from data.pixels import MEMORY, PIXELS
from gallery.contents import Contents, Entry
from gallery.earlier_rows import Earlier, kept_rows
from gallery.folder import GalleryFolder, read_json, remove
from gallery.intake import holds
from gallery.store import UNNUMBERED, Gallery
from gallery.table import HASH_BYTES, Bad, Detail, File, LeftOut, Table, hash_of, hash_rows, read_table, write_table
from gallery.thumbprints import SIDE
from utils.distributed import Group
from utils.errors import InputError, RunError

ROWS_AT_ONCE = 2**16  # rows that are copied at once
THUMBNAIL_BYTES = 20_000  # of a large photo; 7 to 11 kB were measured for pictures of 160 to 227 pixels
FLUSH_SECONDS = 10  # between two flushes: the most that a power cut may cost


class Rows(NamedTuple):
    """Rows that an earlier run embedded."""

    files: list[File]
    details: list[Detail]
    arrays: dict[str, np.ndarray]  # by the names of Writer.shapes
    unfinished: bool  # the rows are in `making`
    again: bool  # `making` was begun without the rows of the gallery


class Writer:
    """Makes or renews the gallery in `folder`. Each process of a group has a Writer for its share of the rows.

    with locked(folder):
        writer = Writer(folder, model, dim, dtype, group)
        for indices in its share of writer.plan(files): ... writer.put(indices, embeddings, prints, hashes)
        writer.finish(bad, about)
    """

    def __init__(
        self, folder: str, model: str, dim: int, dtype: str, group: Group = Group(), thumbnails: bool = False
    ) -> None:
        """model: its digest; rows of another model are not kept. dtype: "float32" or "float16". thumbnails: of each file."""
        self.place, self.group = GalleryFolder(folder), group
        self.model, self.dtype = model, dtype
        self.shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "embeddings": (dtype, (dim,)),
            "prints": ("uint8", (SIDE, SIDE)),
            "hashes": ("uint8", (HASH_BYTES,)),
            "done": ("bool", ()),
        }
        self.contents = Contents(self.place.contents)
        self.bytes_each = THUMBNAIL_BYTES if thumbnails else 0
        self.files: list[File] = []
        self.details: list[Detail] = []
        self.moved = 0  # files whose rows were found again under another path
        self.arrays: dict[str, np.memmap] = {}
        self._again = False
        self._flushed = time.monotonic()
        self._waiting: list[tuple[np.ndarray, Sequence[Entry]]] = []  # rows that are written but not marked as done

    # ---- planning the work -------------------------------------------------------------------------------------------

    def plan(self, files: Sequence[File], again: bool = False, details: Sequence[Detail] | None = None) -> np.ndarray:
        """Prepare a gallery of these files. Returns the indices of the files to embed, int64, in all processes.

        again: keep no rows of the gallery, only the rows of a stopped run that also had `again`.
        """
        self.files, self.details = list(files), [Detail()] * len(files) if details is None else list(details)
        if self.group.rank == 0:
            self._again = again
            self._lay_out(self.files, self.details, (rows for rows in self._known() if not again or rows.again))
        self.group.gather_objects(None)  # the others wait for the files to be there
        self.arrays = self._open(self.place.making)
        return np.flatnonzero(~self.arrays["done"])

    def _known(self) -> Iterator[Rows]:
        """Yield rows of this model and the current pixel version, from the gallery and from a stopped `making`."""
        for place, unfinished in ((self.place, False), (self.place.making, True)):
            with suppress(Exception):  # a damaged file can fail in any way; nothing is lost but time
                about = read_json(place.plan if unfinished else place.about)
                table = read_table(place.table)
                files = table.files
                names = self.shapes if unfinished else ("embeddings", "prints")
                arrays = {name: np.load(place.array(name), mmap_mode="r") for name in names}
                if not unfinished:
                    arrays |= {"hashes": hash_rows(table.hashes, len(files)), "done": np.ones(len(files), bool)}
                if comes_from(about) == (self.model, self.dtype, PIXELS) and self._fit(arrays, len(files)):
                    yield Rows(files, table.details, arrays, unfinished, about.get("again", False))

    def _fit(self, arrays: dict[str, np.ndarray], rows: int) -> bool:
        """Tell whether the arrays have this many rows of the right shape and dtype."""
        wanted = {name: (np.dtype(dtype), (rows, *shape)) for name, (dtype, shape) in self.shapes.items()}
        return {name: (array.dtype, array.shape) for name, array in arrays.items()} == wanted

    def _lay_out(self, files: list[File], details: list[Detail], earlier: Iterable[Rows]) -> None:
        """Make the folder `making` anew, with a row for each file, and copy the earlier rows that hold into it."""
        new = self.place.laid_out
        remove(new.path)
        os.makedirs(new)
        self._need_space(self.size(len(files), 0), len(files))
        arrays = self._open(new, len(files))
        missing, present = np.arange(len(files)), {file.path for file in files}
        for rows in earlier:
            whole = Earlier(rows.files, rows.details, rows.arrays["hashes"], np.flatnonzero(rows.arrays["done"]).tolist())
            kept = kept_rows([files[i] for i in missing], [details[i] for i in missing], whole, hash_of, present)
            if kept.pairs:
                places, sources = np.array(kept.pairs, np.int64).T
                for name, array in arrays.items():
                    _copy(array, missing[places], rows.arrays[name], sources)
                missing = np.delete(missing, places)
            self.moved += kept.moved
        self._need_space(self.size(0, len(missing)), len(missing))
        for array in arrays.values():
            array.flush()
        write_table(new.table, Table("", files, details, [""] * len(files), [], []), [None] * len(files))
        with open(new.plan, "w", encoding="utf-8") as file:
            json.dump({"model": self.model, "dtype": self.dtype, "pixels": PIXELS, "again": self._again}, file)
        with suppress(FileNotFoundError):
            shutil.copyfile(self.place.making.model, new.model)
        self.place.replace_making()

    def _open(self, place: GalleryFolder, rows: int | None = None) -> dict[str, np.memmap]:
        """Open the arrays in a folder. rows: create them with this many rows instead."""
        opened = {}
        for name, (dtype, shape) in self.shapes.items():
            path = place.array(name)
            if rows is None:
                opened[name] = np.lib.format.open_memmap(path, mode="r+")
            else:
                opened[name] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(rows, *shape))
                if hasattr(os, "posix_fallocate"):  # else another program could fill the disk under the mapped file
                    with open(path, "r+b") as file:
                        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        return opened

    def size(self, rows: int, new: int) -> int:
        """Forecast the bytes of a gallery on the disk, without its net: of its arrays, and of the thumbnails of new rows."""
        each = sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in self.shapes.values())
        return rows * each + new * self.bytes_each

    def _need_space(self, need: int, rows: int) -> None:
        """Raise RunError if the disk has no room: a full disk under a mapped file would kill the process."""
        free = shutil.disk_usage(self.place).free
        if need > free:
            what = f"{rows} images take {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            remedy = "make room, give another --out, --dtype float16, or --thumbnails no"
            raise RunError(f"{shown(self.place.path)}: {what}; {remedy}")

    # ---- doing it ----------------------------------------------------------------------------------------------------

    def put(
        self,
        indices: np.ndarray,
        embeddings: np.ndarray,
        prints: np.ndarray,
        hashes: np.ndarray,
        entries: Sequence[Entry] = (),
    ) -> None:
        """Write the rows of these files, and what is kept of their contents. They are flushed every FLUSH_SECONDS."""
        self.arrays["embeddings"][indices] = embeddings
        self.arrays["prints"][indices] = prints
        self.arrays["hashes"][indices] = hashes
        self._waiting.append((indices, entries))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring the written rows to the disk, then mark them as done."""
        for name in ("embeddings", "prints", "hashes"):
            self.arrays[name].flush()
        self.contents.put(entry for _, entries in self._waiting for entry in entries)
        for indices, _ in self._waiting:
            self.arrays["done"][indices] = True
        self.arrays["done"].flush()
        self._waiting.clear()
        self._flushed = time.monotonic()

    def finish(self, bad: Sequence[Bad], about: dict[str, Any], left_out: Sequence[LeftOut] = ()) -> None:
        """Put the gallery in place. bad: the unreadable files of all processes. about: for about.json."""
        self.flush()
        self.group.gather_objects(None)
        if self.group.rank:
            return
        unreadable = {entry.file.path for entry in bad}
        readable = [file.path not in unreadable for file in self.files]
        if not all(readable):
            self.files = list(compress(self.files, readable))
            self.details = list(compress(self.details, readable))
            self._lay_out(self.files, self.details, [rows for rows in self._known() if rows.unfinished])
            self.arrays = self._open(self.place.making)
        if not self.arrays["done"].all():
            raise RunError(f"{shown(self.place.making.path)}: rows are missing; run the same command again")
        stamp = secrets.token_hex(8)
        digests = [row.tobytes() for row in self.arrays["hashes"]]
        table = Table(stamp, self.files, self.details, [digest.hex() for digest in digests], list(bad), list(left_out))
        write_table(self.place.making.table, table, self.contents.of(digests))
        self.arrays.clear()
        of_rows = {"model": self.model, "dtype": self.dtype, "pixels": PIXELS, "images": len(self.files), "stamp": stamp}
        self.place.making.write_about({**about, **of_rows})
        self.place.put_in_place()
        self.contents.keep_only(digests)


def comes_from(about: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the model, dtype and pixel version of the rows of a gallery. about: its about.json or plan.json."""
    return about.get("model"), about.get("dtype"), about.get("pixels", UNNUMBERED)


def is_current(
    folder: str,
    model: str,
    dtype: str,
    files: Sequence[File],
    bad: Sequence[Bad] = (),
    details: Sequence[Detail] | None = None,
) -> bool:
    """Tell whether the gallery in `folder` is finished, of this model and of just these files, readable and unreadable."""
    try:
        gallery = Gallery(folder)
    except InputError:
        return False
    same_files = not gallery.of and gallery.files == list(files) and (details is None or gallery.details == list(details))
    same_bad = {entry.file for entry in gallery.unreadable} == {entry.file for entry in bad}
    return same_files and same_bad and comes_from(gallery.about) == (model, dtype, PIXELS)


def known_bad(folder: str, files: Sequence[File], details: Sequence[Detail] = (), memory: int = MEMORY) -> list[Bad]:
    """Return the unchanged files among `files` that the gallery lists as unreadable, and that would be so again."""
    place = GalleryFolder(folder)
    with suppress(Exception):  # a damaged file can fail in any way
        since = os.stat(place.table).st_mtime_ns
        now = {file for file, detail in zip_longest(files, details) if detail is None or detail.ctime_ns < since}
        if comes_from(read_json(place.about))[2] == PIXELS:  # another version may have read more files
            return [bad for bad in read_table(place.table).bad if bad.file in now and holds(bad.reason, memory)]
    return []


def _copy(target: np.ndarray, targets: np.ndarray, source: Any, sources: np.ndarray) -> None:
    """target[targets] = source[sources], block by block."""
    for begin in range(0, len(targets), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        target[targets[part]] = source[sources[part]]
