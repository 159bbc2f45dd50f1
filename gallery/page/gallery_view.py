"""A gallery as the page shows it: images as items, neighbours, groups, duplicates, the map."""

import os
import time
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from data.formats import NOTES
from data.lists import below, shown
from gallery.derived import Places, usual_threshold
from gallery.index import Index
from gallery.keep import Traits, traits
from gallery.page.request_params import Refusal
from gallery.page.uploads import Embed
from gallery.search import Query, look_alikes, query_of_row
from gallery.store import Gallery
from gallery.table import Detail


class GalleryView:
    """One gallery as the page shows it. search.py makes it; the routes of `create_app` call it."""

    def __init__(self, gallery: Gallery, index: Index, embed: Embed, side: int = 256) -> None:
        """index: of the gallery. embed: RGB pictures, shorter side `side` pixels -> float32 (n, d), rows of length 1."""
        self.gallery, self.index, self.embed, self.side = gallery, index, embed, side
        self.name, self.model, self.stamp = text(gallery.name), gallery.about["model"], gallery.stamp
        self.gone = np.zeros(len(gallery.paths), bool)  # files that are not there any more; see gallery/page/shelf.py
        self.root = os.path.realpath(gallery.root) if gallery.root else None  # as it was when the page was started
        first, last = gallery.paths[0], gallery.paths[-1]  # the paths are sorted, so all share the prefix of these two
        self.folder = gallery.root or os.path.dirname(os.path.commonprefix([first, last]))
        self.repeated = repeated_names(gallery.paths)
        gallery.row_of("")  # makes the table of keys now, so that the first visitor does not wait
        self.alike = usual_threshold(gallery, index)

    @property
    def count(self) -> int:
        """The number of images that are shown."""
        return len(self.gone) - int(self.gone.sum())

    def facts(self) -> dict[str, Any]:
        """Return what the page's header says of the gallery."""
        bad, left_out = len(self.gallery.bad), len(self.gallery.left_out)
        facts = {"name": self.name, "count": self.count, "alike": self.alike, "bad": bad, "left_out": left_out}
        return {**facts, "of": self.gallery.of}

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows whose files are there."""
        return rows[~self.gone[rows]]

    # ---- images ------------------------------------------------------------------------------------------------------

    def item(self, row: int) -> dict[str, Any]:
        row = int(row)
        path = self.path(row)
        item = {"key": self.gallery.keys[row], "name": path.rpartition("/")[2], "path": path}
        folder = path.rpartition("/")[0]
        if folder and _ends(self.gallery.paths[row])[0] in self.repeated:
            again = _ends(self.gallery.paths[row])[1] in self.repeated
            item["folder"] = folder if again else folder.rpartition("/")[2]  # tells images of one name apart
        return item

    def to_select(self, row: int) -> dict[str, Any]:
        """Describe an image as a selection needs it. odd: its path cannot be copied as one line of text."""
        return self.item(row) | {"bytes": self.gallery.files[row].size, "odd": is_odd(self.gallery.paths[row])}

    def chosen(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Describe images as a selection needs them. A single one has its traits too: the large view shows them."""
        by_row = traits(self.gallery, rows) if len(rows) == 1 else {}
        return [(self.traits(row, by_row[row]) if by_row else {}) | self.to_select(row) for row in rows]

    def path(self, row: int) -> str:
        """Return the path of an image as it is shown."""
        return self._below(self.gallery.files[row].path)

    def row(self, key: str) -> int:
        """Return the row of an image. Raises Refusal for an unknown key."""
        row = self.gallery.row_of(key)
        if row is None:
            raise Refusal(404, f"There is no such image in `{self.name}`.")
        return row

    def rows(self, keys: Iterable[str]) -> list[int]:
        """Return the rows of the images that are still there. keys: of images, unknown ones are left out."""
        rows = map(self.gallery.row_of, dict.fromkeys(keys))
        return [row for row in rows if row is not None and not self.gone[row]]

    def real(self, row: int) -> str | None:
        """Return the real path of an image when its folder was read; None if the gallery does not record it."""
        detail = self.gallery.details[row] if self.gallery.details else Detail()
        return detail.real or self.gallery.paths[row] if detail != Detail() else None

    def bad(self) -> list[dict[str, str]]:
        """List the files that could not be read, with the reasons."""
        folder = shown(self.folder).rstrip(os.sep) + os.sep
        reasons = [why.removeprefix(f"{shown(path)}: ").replace(folder, "") for path, why in self.gallery.bad]
        return [{"path": self._below(path), "reason": text(why)} for (path, _), why in zip(self.gallery.bad, reasons)]

    def left_out(self) -> list[dict[str, str]]:
        """List the images with a remark, then the files that are no images or that a rule leaves out."""
        noted = [(path, "; ".join(NOTES[note] for note in notes)) for path, notes in self.gallery.noted()]
        others = [(entry.path, f"{entry.category}: {self._why(entry.why)}") for entry in self.gallery.left_out]
        return [{"path": self._below(path), "reason": text(why)} for path, why in (*noted, *others)]

    def _below(self, path: str) -> str:
        """Return a path as text, relative to the folder of the images, whose place stays private."""
        inside = below(path, self.folder)
        return text(inside if inside != path else os.path.basename(path))

    def _why(self, why: str) -> str:
        """Return a reason, "of /photos/a.jpg" for example, with its path as `_below` gives it."""
        start, is_path, path = why.partition(f" {os.sep}")
        return f"{start} {self._below(os.sep + path)}" if is_path else why

    def card(self, number: int, name: str, rows: np.ndarray) -> dict[str, Any]:
        """Describe a group for the start view. rows: int64, the most central first."""
        items = [self.item(row) for row in rows[:4]]
        return {"id": number, "name": name, "size": len(rows), "items": items}

    def group(
        self, rows: Sequence[int], similarity: float, by_row: dict[int, Traits], reference: Container[int] = ()
    ) -> dict[str, Any]:
        """Describe a group of duplicates.

        rows: the one that should stay comes first. by_row: traits of those to show. reference: rows that stay in any case.
        """
        shown = [row for row in rows if row in by_row]
        items = [
            self.item(row) | self.traits(row, by_row[row]) | ({"stays": True} if row in reference else {}) for row in shown
        ]
        return {"similarity": round(float(similarity), 4), "size": len(rows), "items": items}

    def traits(self, row: int, known: Traits) -> dict[str, Any]:
        """Describe an image as people compare it with its copies. odd: its path cannot be copied as one line of text."""
        odd = {"odd": True} if is_odd(self.gallery.paths[row]) else {}
        date = {"date": known.date[:16], "camera": known.by_camera}
        return {"pixels": known.pixels, "format": known.format, "bytes": known.size, **date, "cut": known.cut} | odd

    def sameness(self, rows: Sequence[int]) -> dict[str, bool]:
        """Tell whether all these files have the same bytes ("same"), and whether some of them have ("twice")."""
        contents = len({self.gallery.hashes[row].tobytes() for row in rows})
        return {"same": contents == 1, "twice": contents < len(rows)}

    def map(self, places: Places, groups: Sequence[tuple[str, np.ndarray]]) -> dict[str, Any]:
        """Describe the map, without the names of its images, which `to_select` has. groups: names and rows."""
        there = ~self.gone[places.rows]
        x, y = places.places[there].astype(float).round(4).T.tolist()
        keys, labels = [self.gallery.keys[row] for row in places.rows[there]], places.labels[there].tolist()
        on_map = np.unique(labels).tolist()  # a small group may have no image there
        legend = [{"id": label, "name": groups[label][0], "size": len(groups[label][1])} for label in on_map]
        return {"keys": keys, "x": x, "y": y, "cluster": labels, "shown": len(keys), "total": self.count, "groups": legend}

    # ---- neighbours --------------------------------------------------------------------------------------------------

    def neighbours(self, rows: Sequence[int], sent: Sequence[Query], start: int, count: int) -> dict[str, Any]:
        """Return results `start` to `start + count` of a query by images and by uploaded pictures."""
        began = time.perf_counter()
        own = [query_of_row(self.gallery, row) for row in rows]
        nearest = look_alikes(self.gallery, self.index, [*own, *sent], start, count, np.flatnonzero(self.gone).tolist())
        items = [
            self.item(row) | {"similarity": round(min(1.0, max(-1.0, similarity)), 4), "closer_than": closer_than}
            for row, similarity, closer_than in zip(nearest.rows, nearest.similarities.tolist(), nearest.closer_than)
        ]
        total = self.count - sum(not self.gone[row] for row in set(rows))
        milliseconds = round(1000 * (time.perf_counter() - began), 1)
        nothing_like_it = nearest.nothing_like_it
        return {"items": items, "total": total, "nothing_like_it": nothing_like_it, "milliseconds": milliseconds}


def is_odd(path: str) -> bool:
    """Tell whether a path is not one line of valid text."""
    return text(path) != path or any(end in path for end in "\n\r")


def repeated_names(paths: Iterable[str]) -> set[str]:
    """Return the file names that several paths share, and the names with their folder, "a/b.jpg", that several share."""
    counts = Counter(end for path in paths for end in _ends(path))
    return {end for end, count in counts.items() if count > 1}


def _ends(path: str) -> tuple[str, str]:
    """Return the name of a file, and its name with its folder."""
    parts = path.rsplit("/", 2)
    return parts[-1], "/".join(parts[-2:])


def text(name: str) -> str:
    """Return a file name as valid text: bytes that are not text become `?`."""
    return name.encode("utf-8", "replace").decode()
