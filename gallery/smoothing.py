"""The nearest neighbours of each image of a gallery, and its rows smoothed over them.

The table of neighbours is kept beside the gallery. When images are added or deleted, only the rows that gain or lose a
neighbour change: one new photo costs one comparison with all rows. Smoothed rows are computed when they are read, so no
second array of the gallery's size is needed. A query reads SHORTLIST of them: as good as all rows, within 0.1 points of the
ten nearest right (four labelled sets). Neighbours from the shortlist alone would need no table, but cost up to 5 points.
"""

import numpy as np

from gallery import index as indexes
from gallery.store import Gallery
from utils import log
from utils.arrays import blocks
from utils.clustering.smooth import CANDIDATES, SPARE, Neighbours, neighbours_among, smoothed_twice, without_copies

SHORTLIST = 200  # most similar images of a query that are put into a new order
EXACT = 20_000  # images: up to this many, all are compared with all for a new table; among more, an inverted file helps
RENEWED = 20  # among more images, a table is renewed if at most one row in RENEWED needs a search
RULES = 1  # raise it when a table would hold anything else: kept tables are made anew


class SmoothedRows:
    """The rows of a gallery, smoothed over their neighbours when they are read: `smoothed[rows]` is float32 (n, d)."""

    def __init__(self, embeddings: np.ndarray, table: Neighbours) -> None:
        self.embeddings, self.table, self.shape = embeddings, table, embeddings.shape

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return smoothed_twice(self.embeddings, self.table, self.embeddings[rows], self.table.of(rows))

    def best_first(
        self, query: np.ndarray, rows: np.ndarray, similarities: np.ndarray, stretch: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put the results of a search into a new order: the first SHORTLIST by smoothed rows, the others as they are.

        query: float32 (d,), smoothed over its results. rows, similarities: int64 and float32 (n,), best first. stretch: the
        wanted part of the new order. Returns the old places of its results and their smoothed similarities: int64 and
        float32 (m,).
        """
        first = slice(None, SHORTLIST)
        near = without_copies(rows[None, first], similarities[None, first])
        (own,) = smoothed_twice(self.embeddings, self.table, query[None], near)
        smoothed = np.empty(len(rows), np.float32)
        smoothed[first] = self[rows[first]] @ own
        order = np.concatenate([np.argsort(-smoothed[first], kind="stable"), np.arange(len(rows))[SHORTLIST:]])[stretch]
        later = order[order >= SHORTLIST]
        smoothed[later] = self[rows[later]] @ own
        return order, smoothed[order]


def neighbours_of(gallery: Gallery) -> Neighbours:
    """Return the table of neighbours of a gallery's rows. It is read, renewed or made."""

    def make() -> dict[str, np.ndarray]:
        names = names_of(gallery.hashes)
        model = np.array(f"{gallery.about['model']} {gallery.about['dtype']} {gallery.pixels}")
        earlier = gallery.earlier("neighbours", RULES)
        if earlier and str(earlier["model"]) == str(model):
            before = Neighbours(earlier["rows"], earlier["similarities"])
            table = renewed(gallery.embeddings, names, before, earlier["names"])
        else:
            table = made(gallery.embeddings)
        return {**table._asdict(), "names": names, "model": model}

    kept = gallery.kept("neighbours", make, RULES)
    return Neighbours(kept["rows"], kept["similarities"])


def names_of(hashes: np.ndarray) -> np.ndarray:
    """Name each row by the hash of its file, and a number among the rows with this hash: uint8 (N, b + 4).

    A photo keeps its name when it is moved. Files with the same hash have the same embedding: it does not matter which gets
    which number.
    """
    _, content = np.unique(_as_items(hashes), return_inverse=True)
    order = np.argsort(content, kind="stable")
    number = np.empty(len(hashes), ">u4")
    number[order] = np.arange(len(hashes)) - np.searchsorted(content[order], content[order])
    return np.hstack([hashes, number[:, None].view(np.uint8)])


def made(embeddings: np.ndarray) -> Neighbours:
    """Find the neighbours of all rows, float32 or float16 (N, d) of length 1, may be memory-mapped."""
    if len(embeddings) <= EXACT:
        return _searched(embeddings, _empty(len(embeddings)), np.arange(len(embeddings)))
    log.say(f"finding the neighbours of {len(embeddings):,} images")
    index, parts = indexes.build(embeddings, EXACT), []
    for rows in blocks(np.arange(len(embeddings))):
        found = index.search(embeddings[rows], CANDIDATES + SPARE)
        parts.append(without_copies(*found, rows))
    rows, similarities = map(np.concatenate, zip(*parts))
    return Neighbours(rows.astype(np.int32), similarities)


def renewed(embeddings: np.ndarray, names: np.ndarray, before: Neighbours, names_before: np.ndarray) -> Neighbours:
    """Return what `made` would, from the table of an earlier state of the gallery.

    names: uint8 (N, b), of each row. Rows of the same name are the same embedding. names_before: of the earlier rows.
    """
    place = _places(names_before, names)
    mapped = np.where(before.rows < 0, -1, place[before.rows])
    lost = (mapped < 0) & (before.rows >= 0)
    holds = (place >= 0) & ~lost.any(1)
    table, new = _empty(len(names)), np.ones(len(names), bool)
    table.rows[place[holds]], table.similarities[place[holds]] = mapped[holds], before.similarities[holds]
    new[place[place >= 0]] = False
    search = np.ones(len(names), bool)
    search[place[holds]] = False
    if len(names) > EXACT and RENEWED * np.count_nonzero(search) > len(names):
        return made(embeddings)
    fresh = np.flatnonzero(new)
    for rows in blocks(np.flatnonzero(~search)) if len(fresh) else ():
        found = neighbours_among(_read(embeddings, rows), _read(embeddings, fresh))
        _put(table, rows, Neighbours(np.where(found.rows < 0, -1, fresh[found.rows]), found.similarities))
    return _searched(embeddings, table, np.flatnonzero(search))


def _searched(embeddings: np.ndarray, table: Neighbours, rows: np.ndarray) -> Neighbours:
    """Put the neighbours of these rows into the table, by comparing them with all rows."""
    for others in blocks(np.arange(len(embeddings))):
        among = _read(embeddings, others)
        for part in blocks(rows):
            found = neighbours_among(_read(embeddings, part), among, part - others[0])
            _put(table, part, Neighbours(np.where(found.rows < 0, -1, found.rows + others[0]), found.similarities))
    return table


def _put(table: Neighbours, rows: np.ndarray, found: Neighbours) -> None:
    """Put neighbours into these rows of the table, where they are more similar than the neighbours there."""
    both = [np.hstack(pair) for pair in zip(table.of(rows), found)]
    order = np.argsort(-both[1], axis=1, kind="stable")[:, :CANDIDATES]
    table.rows[rows], table.similarities[rows] = (np.take_along_axis(part, order, 1) for part in both)


def _places(names: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the row of each name, uint8 (n, b), in `among`, uint8 (m, b): int64 (n,), -1 for none."""
    items = _as_items(np.concatenate([among, names]))
    _, first, number = np.unique(items, return_index=True, return_inverse=True)
    found = first[number[len(among) :]]
    return np.where(found < len(among), found, -1)


def _as_items(rows: np.ndarray) -> np.ndarray:
    """View each row of bytes, uint8 (n, b), as one item: (n,)."""
    return np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()


def _empty(count: int) -> Neighbours:
    shape = count, CANDIDATES
    return Neighbours(np.full(shape, -1, np.int32), np.full(shape, -1, np.float32))


def _read(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(embeddings[rows], np.float32)
