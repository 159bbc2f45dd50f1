"""Smooths rows over their nearest neighbours, without labels and without training.

A row takes in a share of its neighbours. Most neighbours show the same class, and their differences cancel out. This is
database-side augmentation (Arandjelovic and Zisserman 2012, CVPR; weighted as by Radenovic et al. 2018, arXiv 1711.02512).

Many neighbours find more images of the class, but can lose the nearest one. So `smoothed_twice` first smooths over FEW
neighbours, then over the MORE neighbours nearest after that, and adds the row as it was. The constants are the same for all
galleries: `scripts/smoothing.py` compares them on labelled sets.
"""

from typing import NamedTuple

import numpy as np

from utils.arrays import blocks, nearest_rows

COPY = 1 - 1e-4  # rows at least this similar show the same picture, which says nothing new
CANDIDATES = 20  # nearest rows that `smoothed_twice` chooses neighbours from
SPARE = 8  # further rows that a search asks for, in place of copies and of the query itself
FEW, MORE = 2, 10  # neighbours in the first and in the second smoothing
H = 1.0  # weight of a neighbour with similarity 1
ROWS_AT_ONCE = 512  # rows whose neighbours are gathered at once


class Neighbours(NamedTuple):
    """The most similar rows of each query, best first, without copies and without the query itself."""

    rows: np.ndarray  # integers (q, k); -1 where there are no more
    similarities: np.ndarray  # float32 (q, k); -1 where there are no more

    def of(self, places: np.ndarray | slice) -> "Neighbours":
        """Return the neighbours of these queries."""
        return Neighbours(self.rows[places], self.similarities[places])


def smoothed(rows: np.ndarray, neighbours: np.ndarray, similarities: np.ndarray, h: float = H) -> np.ndarray:
    """Return x_i + h sum_j max(0, s_ij) x_j over the neighbours j of each row i, scaled to length one: float32 (n, d).

    rows: float32 or float16 (n, d) of length 1. neighbours: integers (n, k), -1 for none. similarities: float32 (n, k), s.
    A neighbour with a similarity of COPY or more is left out.
    """
    return _with_neighbours(rows, rows, neighbours, np.where((neighbours < 0) | (similarities >= COPY), 0, h * similarities))


def smoothed_twice(rows: np.ndarray, table: Neighbours, own: np.ndarray, near: Neighbours) -> np.ndarray:
    """Smooth `own` over FEW neighbours, then over the MORE nearest after that, and add `own` itself: float32 (m, d).

    rows: float32 or float16 (n, d) of length 1, may be memory-mapped. table: the neighbours of each row.
    own: float32 or float16 (m, d), rows to smooth, of `rows` or new. near: their neighbours among `rows`.
    """
    parts = [_twice(rows, table, own[part], near.of(part)) for part in blocks(np.arange(len(own)), ROWS_AT_ONCE)]
    return np.concatenate([np.empty((0, rows.shape[1]), np.float32), *parts])


def _twice(rows: np.ndarray, table: Neighbours, own: np.ndarray, near: Neighbours) -> np.ndarray:
    once = _once(rows, own, near)
    needed, places = np.unique(near.rows, return_inverse=True)  # row -1 is smoothed in vain, and gets no weight
    places = places.reshape(near.rows.shape)
    others = _once(rows, rows[needed], table.of(needed))
    similarities = np.matmul(others[places], once[:, :, None])[..., 0]
    similarities[near.rows < 0] = -1
    best = np.argsort(-similarities, axis=1, kind="stable")[:, :MORE]
    weights = H * np.take_along_axis(similarities, best, 1)
    return _unit(own + _with_neighbours(once, others, np.take_along_axis(places, best, 1), weights))


def _once(rows: np.ndarray, own: np.ndarray, near: Neighbours) -> np.ndarray:
    return _with_neighbours(own, rows, near.rows[:, :FEW], H * near.similarities[:, :FEW])


def _with_neighbours(own: np.ndarray, rows: np.ndarray, neighbours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add to each row of `own` its neighbours among `rows`, times weights above 0: float32 (m, d) of length 1."""
    sums, weights = own.astype(np.float32), np.maximum(weights, 0).astype(np.float32)
    for part in blocks(np.arange(len(own)), ROWS_AT_ONCE):
        sums[part] += np.matmul(weights[part, None], rows[neighbours[part]].astype(np.float32, copy=False))[:, 0]
    return _unit(sums)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


# ---- neighbours ------------------------------------------------------------------------------------------------------


def neighbours_among(queries: np.ndarray, rows: np.ndarray, own: np.ndarray | None = None) -> Neighbours:
    """Compare queries, float32 (q, d), with rows, float32 (n, d), all of length 1. own: as `without_copies` takes it."""
    pairs = [nearest_rows(part, rows, min(CANDIDATES + SPARE, len(rows))) for part in blocks(queries)]
    found, similarities = map(np.concatenate, zip(*pairs))
    return without_copies(found, similarities, own)


def without_copies(found: np.ndarray, similarities: np.ndarray, own: np.ndarray | None = None) -> Neighbours:
    """Drop copies from the results of a search, int64 and float32 (q, m), and keep CANDIDATES of each query.

    own: int64 (q,), the row of each query, which is dropped as well.
    """
    none = (found < 0) | (similarities >= COPY)
    if own is not None:
        none |= found == own[:, None]
    order = np.argsort(none, axis=1, kind="stable")
    kept = Neighbours(np.where(none, -1, found), np.where(none, -1, similarities).astype(np.float32))
    missing = ((0, 0), (0, max(0, CANDIDATES - found.shape[1])))
    return Neighbours(*(np.pad(np.take_along_axis(x, order, 1), missing, constant_values=-1)[:, :CANDIDATES] for x in kept))
