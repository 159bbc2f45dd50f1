"""contents.sqlite: what a gallery keeps of each content, by the hash of the file: its facts, and a thumbnail.

The file grows while images are read, by several processes at once. It does not belong to a stamp: equal bytes have the same
thumbnail in any gallery, under any name. So a page can read it while embed.py writes.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from data.pixels import Facts
from gallery.table import Content

WAIT = 60  # seconds that a process waits for another one's transaction


class Entry(NamedTuple):
    """What is known of a content after it was read."""

    digest: bytes  # BLAKE2b of the file
    content: Content
    thumbnail: bytes | None  # JPEG


class Contents:
    """Reads and writes contents.sqlite. Each call has its own connection, so several threads may call at once."""

    def __init__(self, path: str | PathLike) -> None:
        self.path = path

    def put(self, entries: Iterable[Entry]) -> None:
        """Add entries in place of earlier ones of the same contents, and bring them to the disk. Raises sqlite3.Error."""
        rows = [(e.digest, json.dumps([*e.content.facts, e.content.notes]), e.thumbnail) for e in entries]
        if not rows:
            return
        try:
            self._write(rows)
        except sqlite3.OperationalError:  # a full disk, say: the file is whole
            raise
        except sqlite3.DatabaseError:  # a damaged file: only thumbnails are lost
            for path in (f"{os.fspath(self.path)}-journal", self.path):
                with suppress(FileNotFoundError):
                    os.remove(path)
            self._write(rows)

    def _write(self, rows: Sequence[tuple]) -> None:
        with closing(sqlite3.connect(self.path, timeout=WAIT)) as base, base:
            base.execute("CREATE TABLE IF NOT EXISTS contents (hash BLOB PRIMARY KEY, facts TEXT, thumbnail BLOB)")
            base.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)

    def of(self, digests: Iterable[bytes]) -> Iterator[Content | None]:
        """Yield what is known of each of these contents."""
        try:
            base = self._reader()
        except sqlite3.Error:
            yield from (None for _ in digests)
            return
        with closing(base):
            for digest in digests:
                content = None
                with suppress(sqlite3.Error, ValueError, TypeError):
                    row = base.execute("SELECT facts FROM contents WHERE hash = ?", (digest,)).fetchone()
                    if row:
                        *facts, notes = json.loads(row[0])
                        content = Content(Facts(*facts), tuple(notes))
                yield content

    def thumbnail(self, digest: bytes) -> bytes | None:
        """Return the thumbnail of a content, a JPEG; None if there is none."""
        with suppress(sqlite3.Error), closing(self._reader()) as base:
            row = base.execute("SELECT thumbnail FROM contents WHERE hash = ?", (digest,)).fetchone()
            return row[0] if row else None
        return None

    def keep_only(self, digests: Iterable[bytes]) -> None:
        """Forget the contents that are not in `digests`: photos that were deleted."""
        if not os.path.exists(self.path):
            return
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(self.path, timeout=WAIT)) as base, base:
            base.execute("PRAGMA secure_delete = ON")
            base.execute("CREATE TEMP TABLE present (hash BLOB PRIMARY KEY)")
            base.executemany("INSERT OR IGNORE INTO present VALUES (?)", ((digest,) for digest in digests))
            base.execute("DELETE FROM contents WHERE hash NOT IN present")

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{Path(self.path).as_uri()}?mode=ro", timeout=1, uri=True)  # else it would make the file
