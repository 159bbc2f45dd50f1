"""Finds pairs of thumbprints that may be copies, among millions, without comparing all with all."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallery.thumbprints import INVERSE, SIDE, VIEWS, view_of
from utils.arrays import blocks

FREQUENCIES = 8  # of the cosine transform, in each direction; a descriptor holds 57 numbers in all
INSET = 0.025  # of the side: a query leaves out this much at each end
LIKELY = 0.8  # lowest cosine of the descriptors of a candidate pair
NEIGHBOURS = 16  # candidates of a print in each view, at most; larger groups are searched again
EXACT = 50_000  # prints: up to EXACT x EXACT comparisons are exact, more go through an inverted file
PROBES = 24  # lists of the inverted file that a query searches
LISTS = 2  # the number of lists is LISTS times the root of the number of prints
TRAINING_POINTS = 64  # for each list
PRINTS_AT_ONCE = 2**12  # prints that are processed at once; after each such block the share that is done is told

Tell = Callable[[float], None]  # is called with the share that is done, 0 to 1


class Candidates(NamedTuple):
    """Pairs of prints: `first`, seen in `view` (gallery.thumbprints.view_of), may be a copy of `second`."""

    first: np.ndarray  # int64 (m,)
    second: np.ndarray  # int64 (m,), greater than first
    view: np.ndarray  # int64 (m,)


def descriptors(prints: np.ndarray, inset: float = 0.0) -> np.ndarray:
    """Describe prints, uint8 (m, SIDE, SIDE) without their outermost `inset` in sides, by float32 (m, 57) of length 1.

    A descriptor holds the low frequencies of the cosine transform, without the mean. Amplitudes of photos fall with the
    frequency. Weights of its root part different pictures best (measured: powers 0, 1/2 and 1, up to 8 or 12 frequencies).
    """
    wave = np.arange(FREQUENCIES)
    frequency = np.hypot(wave[:, None], wave)
    low = (frequency > 0) & (frequency <= FREQUENCIES)
    weights, transform = np.sqrt(frequency[low]).astype(np.float32), _cosines(inset)
    vectors = np.empty((len(prints), len(weights)), np.float32)
    for rows in blocks(np.arange(len(prints)), PRINTS_AT_ONCE):
        vectors[rows] = (transform @ prints[rows].astype(np.float32) @ transform.T)[:, low] * weights
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _cosines(inset: float) -> np.ndarray:
    """Return the matrix, float32 (FREQUENCIES, SIDE), that samples a line without its ends (linearly) and transforms it."""
    along = (np.arange(SIDE) + 0.5) / SIDE
    positions = (inset + along * (1 - 2 * inset)) * SIDE - 0.5
    samples = np.maximum(1 - np.abs(positions[:, None] - np.arange(SIDE)), 0)
    return (np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * along) @ samples).astype(np.float32)


def untold(share: float) -> None:
    """Tell nobody how much is done."""


def candidates(
    prints: np.ndarray,
    views: Sequence[int] = (0,),
    queries: np.ndarray | None = None,
    exact_up_to: int = EXACT,
    tell: Tell = untold,
) -> Candidates:
    """Find candidates among prints uint8 (n, SIDE, SIDE), each pair and view once, in order.

    views: the views in which to look for copies; each also finds its inverse. queries: int64, rows whose partners are
    wanted; without it, all rows.
    A query leaves out the ends of its print (INSET); the other prints are whole. A copy may be cropped by up to 5 % at
    either end. Seen from the larger picture, which is a query too, it is then off by 2.5 % at most. Among a million photos,
    whole queries would rank a tenth of such copies behind NEIGHBOURS others; queries without ends one or two in a hundred.
    """
    count = len(prints)
    queries = np.arange(count) if queries is None else queries
    if count < 2 or not len(queries):
        return Candidates(*np.empty((3, 0), np.int64))
    search = _searcher(descriptors(prints), exact=count * len(queries) <= exact_up_to**2)
    parts, steps = [], [(view, rows) for view in views for rows in blocks(queries, PRINTS_AT_ONCE)]
    for done, (view, rows) in enumerate(steps):
        tell(done / len(steps))
        similarities, others = search(descriptors(view_of(prints[rows], view), INSET), min(NEIGHBOURS + 1, count))
        likely = (similarities >= LIKELY) & (others >= 0) & (others != rows[:, None])
        first, second = np.repeat(rows, likely.sum(1)), others[likely]
        way = np.where(first < second, view, INVERSE[view])
        parts.append((np.minimum(first, second) * count + np.maximum(first, second)) * VIEWS + way)
    keys = np.unique(np.concatenate(parts))
    return Candidates(*np.divmod(keys // VIEWS, count), keys % VIEWS)


def _searcher(vectors: np.ndarray, exact: bool) -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """Return faiss's search among the vectors: exact, or in an inverted file (which fills up with row -1)."""
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
