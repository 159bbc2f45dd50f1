"""Pairs of thumbprints that may be copies of each other, found among millions without comparing all with all."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallery.thumbprints import INVERSE, SIDE, VIEWS, view_of
from utils.arrays import blocks

FREQUENCIES = 8  # of the cosine transform that a descriptor holds, in each direction: 57 numbers in all
INSET = 0.025  # of the side, from each end
LIKELY = 0.8  # cosine of two descriptors from which a pair is a candidate
NEIGHBOURS = 16  # candidates of a print, at most, in each view; groups that are larger are looked at again
EXACT = 50_000  # prints up to which all are compared with all, and beyond it so many comparisons
PROBES = 24  # lists of the inverted file that a query looks into
LISTS = 2  # times the root of the number of prints: how many lists there are
TRAINING_POINTS = 64  # for each list
PRINTS_AT_ONCE = 2**14  # prints at a time


class Candidates(NamedTuple):
    """Pairs: the print `first`, in `view` (see gallery.thumbprints.view_of), may be like the print `second`."""

    first: np.ndarray  # int64 (m,)
    second: np.ndarray  # int64 (m,), greater than first
    view: np.ndarray  # int64 (m,)


def descriptors(prints: np.ndarray, inset: float = 0.0) -> np.ndarray:
    """float32 (m, 57), of length 1, from prints uint8 (m, SIDE, SIDE) without their outermost `inset`, in sides.

    The low frequencies of the cosine transform, but for the mean. Those of photos fall with the frequency; weighted with
    its root they part different pictures best (measured: weights 0, 1/2 and 1, up to 8 or 12 frequencies).
    """
    wave = np.arange(FREQUENCIES)
    frequency = np.hypot(wave[:, None], wave)
    low = (frequency > 0) & (frequency <= FREQUENCIES)
    weights, transform = np.sqrt(frequency[low]).astype(np.float32), _cosines(inset)
    found = np.empty((len(prints), len(weights)), np.float32)
    for rows in blocks(np.arange(len(prints)), PRINTS_AT_ONCE):
        found[rows] = (transform @ prints[rows].astype(np.float32) @ transform.T)[:, low] * weights
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)


def _cosines(inset: float) -> np.ndarray:
    """float32 (FREQUENCIES, SIDE): samples a line without its ends, by linear interpolation, and transforms the samples."""
    along = (np.arange(SIDE) + 0.5) / SIDE
    at = (inset + along * (1 - 2 * inset)) * SIDE - 0.5
    samples = np.maximum(1 - np.abs(at[:, None] - np.arange(SIDE)), 0)
    return (np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * along) @ samples).astype(np.float32)


def candidates(
    prints: np.ndarray, views: Sequence[int] = (0,), queries: np.ndarray | None = None, exact_up_to: int = EXACT
) -> Candidates:
    """Candidates among prints uint8 (n, SIDE, SIDE), each pair and view once, in order.

    views: those in which a copy is looked for; with a view also its inverse is found. queries: int64, rows whose partners
    are wanted; without it, all.
    A query is the print without its ends (INSET), the others are whole. A copy that was cropped by up to 5 % from either end
    is then off by 2.5 % at most, seen from the larger picture, which is a query too. With whole queries, a tenth of such
    copies would have more than NEIGHBOURS others before them among a million photos, with these one or two in a hundred.
    """
    count = len(prints)
    queries = np.arange(count) if queries is None else queries
    if count < 2 or not len(queries):
        return Candidates(*np.empty((3, 0), np.int64))
    search = _searcher(descriptors(prints), exact=count * len(queries) <= exact_up_to**2)
    found = []
    for view in views:
        for rows in blocks(queries, PRINTS_AT_ONCE):
            similarities, others = search(descriptors(view_of(prints[rows], view), INSET), min(NEIGHBOURS + 1, count))
            likely = (similarities >= LIKELY) & (others >= 0) & (others != rows[:, None])
            first, second = np.repeat(rows, likely.sum(1)), others[likely]
            way = np.where(first < second, view, INVERSE[view])
            found.append((np.minimum(first, second) * count + np.maximum(first, second)) * VIEWS + way)
    keys = np.unique(np.concatenate(found))
    return Candidates(*np.divmod(keys // VIEWS, count), keys % VIEWS)


def _searcher(vectors: np.ndarray, exact: bool) -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """faiss's search among these: exact, or in an inverted file (a row of -1 where it finds too few)."""
    import faiss

    count, dim = vectors.shape
    index: Any = faiss.IndexFlatIP(dim)
    if not exact:
        lists = int(LISTS * count**0.5)
        index = faiss.IndexIVFFlat(index, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid, index.nprobe = 0, 10, 1, PROBES
        index.train(np.ascontiguousarray(vectors[:: max(1, count // (TRAINING_POINTS * lists))]))
    index.add(vectors)
    return index.search
