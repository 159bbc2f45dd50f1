"""Tells how high a similarity is in a gallery, and when nothing in it is like a query.

Each net and each folder has its own range of similarities: 0.3 is high in one gallery and low in the next. So a result is
compared with the neighbours of the gallery's own images, CANDIDATES of each, copies aside. The very nearest alone would not
do: two thirds of the first 60 results are less similar than all of those.

The scale is of smoothed rows (gallery/smoothing.py), which decide the order of results. The similarity shown beside it is of
the rows as they are. By smoothed rows, the place on the scale falls from result to result and tells right from wrong better.
Among the first 60 results of birds, a right one stands higher than a wrong one with probability 0.88. By the rows as they
are it is 0.68 (groceries: 0.79 and 0.63, cars: 0.73 and 0.70), and a third of the right ones would be below 1 %.

The rows as they are tell whether anything is like a query. A picture from elsewhere is smoothed over the images that it
finds, so smoothed rows judge its neighbours rather than it. In a gallery of birds they would say that nothing is like 30 %
of the birds of other species; the rows as they are say so of 7 %.
"""

from typing import NamedTuple

import numpy as np

from gallery.store import Gallery
from utils.arrays import evenly
from utils.clustering.smooth import Neighbours, smoothed_twice

SAMPLE = 256  # images whose neighbours are measured, at most
TEN = 10  # nearest images that tell whether anything is like a query; the very nearest alone misses more foreign pictures
FAR = 0.03  # share of the images whose ten nearest are far; scripts/benchmarks/unlike.py compares shares
FEWEST = 100  # images: fewer cannot tell where the last hundredths lie
RULES = 2  # raise it when a scale would be another one: kept scales are measured anew


class Scale(NamedTuple):
    """Where the neighbours of a gallery's images lie."""

    percents: np.ndarray  # float32 (100,): 1 %, 2 %, ... of the neighbours are at most this similar; (0,) if unknown
    usual: float = -1.0  # the similarity of half of the images to their nearest, by rows as they are
    far: float = -1.0  # the mean similarity to the ten nearest, by rows as they are, is lower for FAR of the images

    def closer_than(self, similarities: np.ndarray) -> list[int | None]:
        """Return the per cent of neighbours that are less similar; None if unknown. similarities: float32 (n,), smoothed."""
        if not len(self.percents):
            return [None] * len(similarities)
        return np.searchsorted(self.percents, similarities).tolist()

    def nothing_like(self, similarities: np.ndarray) -> bool:
        """Tell whether no result is like the query. similarities: float32 (n,), of rows as they are, best first.

        Its nearest image is further away than usual, and its ten nearest are far. A picture that the folder holds once, in
        another size, has a near image and nine others that say nothing.
        """
        few = similarities[:TEN]
        return len(few) > 0 and bool(few[0] < self.usual and few.mean() < self.far)


UNKNOWN = Scale(np.empty(0, np.float32))


def scale_of(gallery: Gallery, table: Neighbours) -> Scale:
    """Return the scale of a gallery, which is kept beside it. table: the neighbours of its rows."""

    def make() -> dict[str, np.ndarray]:
        usual, far = limits(table)
        return {"percents": measured(gallery.embeddings, table), "usual": np.array(usual), "far": np.array(far)}

    kept = gallery.kept("scale", make, RULES)
    return Scale(kept["percents"], float(kept["usual"]), float(kept["far"]))


def measured(embeddings: np.ndarray, table: Neighbours) -> np.ndarray:
    """Measure `Scale.percents` on a sample. embeddings: float32 or float16 (N, d) of length 1, may be memory-mapped."""
    rows = evenly(len(embeddings), SAMPLE)
    neighbours = table.rows[rows]
    needed, places = np.unique(np.hstack([rows[:, None], neighbours]), return_inverse=True)
    places = places.reshape(len(rows), -1)
    smoothed = smoothed_twice(embeddings, table, embeddings[needed], table.of(needed))
    similarities = np.matmul(smoothed[places[:, 1:]], smoothed[places[:, 0]][:, :, None])[neighbours >= 0]
    return np.quantile(similarities, np.arange(1, 101) / 100).astype(np.float32) if len(similarities) else UNKNOWN.percents


def limits(table: Neighbours) -> tuple[float, float]:
    """Return `Scale.usual` and `Scale.far`."""
    nearest = table.similarities[:, :TEN]
    nearest = nearest[nearest[:, -1] > -1]
    if len(nearest) < FEWEST:
        return -1.0, -1.0
    return float(np.median(nearest[:, 0])), float(np.quantile(nearest.mean(1), FAR))
