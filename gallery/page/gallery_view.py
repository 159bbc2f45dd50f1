"""A gallery as the page shows it: images as items, neighbours, groups, duplicates, the map."""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.lists import shown
from gallery.derived import Places
from gallery.duplicates import usual_likeness
from gallery.index import Index
from gallery.page.request_params import Refusal
from gallery.page.uploads import Embed, Uploaded
from gallery.store import Gallery


class Collection:
    """What search.py gives to `create_app` of one gallery, and what the routes ask of it."""

    def __init__(self, gallery: Gallery, index: Index, embed: Embed, side: int = 256) -> None:
        """index: of the gallery. embed: RGB pictures, shorter side `side` pixels -> float32 (n, d), rows of length 1."""
        self.gallery, self.index, self.embed, self.side = gallery, index, embed, side
        self.name, self.count = text(gallery.name), len(gallery.paths)
        self.root = os.path.realpath(gallery.root) if gallery.root else None  # as it was when the page was started
        first, last = gallery.paths[0], gallery.paths[-1]  # in order, so that what these share all share
        self.folder = gallery.root or os.path.dirname(os.path.commonprefix([first, last]))
        self._starts = np.ascontiguousarray(gallery.hashes[:, :8]).view(np.uint64).ravel()  # (N,): half of each hash
        gallery.row_of("")  # makes its table of keys now, for the first visitor not to wait
        self._lock = threading.Lock()
        self.alike = usual_likeness(gallery.embeddings, gallery.hashes, index.search)

    # ---- images ------------------------------------------------------------------------------------------------------

    def item(self, row: int, similarity: float | None = None) -> dict[str, Any]:
        """An image as the page gets it."""
        row = int(row)
        path = self._below(self.gallery.paths[row])
        item = {"key": self.gallery.keys[row], "name": path.rpartition("/")[2], "path": path}
        return item if similarity is None else item | {"similarity": round(min(1.0, max(-1.0, float(similarity))), 4)}

    def row(self, key: str) -> int:
        """The row of an image. Raises Refusal for an unknown key."""
        row = self.gallery.row_of(key)
        if row is None:
            raise Refusal(404, f"There is no such image in `{self.name}`.")
        return row

    def bad(self) -> list[dict[str, str]]:
        """The files that could not be read, and why."""
        folder = shown(self.folder).rstrip(os.sep) + os.sep
        reasons = [why.removeprefix(f"{shown(path)}: ").replace(folder, "") for path, why in self.gallery.bad]
        return [{"path": self._below(path), "reason": text(why)} for (path, _), why in zip(self.gallery.bad, reasons)]

    def _below(self, path: str) -> str:
        """A path as text, below the folder of the images: where that lies is nobody's business."""
        below = path.removeprefix(self.folder.rstrip(os.sep) + os.sep)
        return text(below if below != path else os.path.basename(path))

    def card(self, number: int, rows: np.ndarray) -> dict[str, Any]:
        """A cluster as the start view shows it. rows: int64, the most central first."""
        items = [self.item(row) for row in rows[:4]]
        return {"id": number, "name": items[0]["name"], "size": len(rows), "items": items}

    def group(self, rows: np.ndarray, similarity: float, most: int) -> dict[str, Any]:
        """A group of duplicates, with `most` of its images."""
        items = [self.item(row) for row in rows[:most]]
        return {"similarity": round(float(similarity), 4), "size": len(rows), "items": items}

    def map(self, places: Places) -> dict[str, Any]:
        """The map as the page draws it."""
        x, y = places.places.astype(float).round(4).T.tolist()
        keys = [self.gallery.keys[row] for row in places.rows]
        return {"keys": keys, "x": x, "y": y, "cluster": places.labels.tolist(), "shown": len(keys), "total": self.count}

    def set_apart(self, rows: Sequence[int]) -> None:
        """Remember that these images are no duplicates of each other."""
        if len(set(rows)) < 2:
            raise Refusal(400, "Give two different images, or more.")
        with self._lock:
            self.gallery.set_apart(rows)

    # ---- neighbours --------------------------------------------------------------------------------------------------

    def neighbours(
        self, rows: Sequence[int], uploads: Sequence[tuple[Uploaded, int]], start: int, count: int
    ) -> dict[str, Any]:
        """Results `start` to `start + count` of a query by images and uploaded pictures."""
        began = time.perf_counter()
        own = np.unique(np.asarray(rows, np.int64))
        vectors = [self.gallery.embeddings[own].astype(np.float32), *(u.embeddings[g][None] for u, g in uploads)]
        mean = np.concatenate(vectors).mean(0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        hashes = {bytes(self.gallery.hashes[row]) for row in own} | {uploaded.hashed for uploaded, _ in uploads}
        copies = np.setdiff1d(np.concatenate([self._copies(hashed) for hashed in hashes]), own)
        first = [(row, 1.0) for row in copies[start : start + count]]
        wanted = min(self.count, start + count + len(own) + len(copies))
        found, similarities = self.index.search(mean[None], wanted) if len(first) < count else (np.empty((1, 0)),) * 2
        others = (found[0] >= 0) & ~np.isin(found[0], own) & ~np.isin(found[0], copies)
        begin = max(0, start - len(copies))
        ranked = list(zip(found[0][others], similarities[0][others]))[begin : begin + count - len(first)]
        items = [self.item(row, similarity) for row, similarity in first + ranked]
        milliseconds = round(1000 * (time.perf_counter() - began), 1)
        return {"items": items, "total": self.count - len(own), "milliseconds": milliseconds}

    def _copies(self, hashed: bytes) -> np.ndarray:
        """int64 (n,): the images whose files hold the same bytes."""
        rows = np.flatnonzero(self._starts == np.frombuffer(hashed, np.uint64, 1)[0])
        return rows[(self.gallery.hashes[rows] == np.frombuffer(hashed, np.uint8)).all(1)]


def text(name: str) -> str:
    """A file name as valid text: what is none in it becomes `?`."""
    return name.encode("utf-8", "replace").decode()
