"""Which images a report shows: queries with what they find, the worst mistakes, and clusters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluations.ranking import count_positives
from evaluations.retrieval import nearest
from utils.arrays import evenly
from utils.clustering.grouping import group

SHOWN = 2_000  # training images that a report is made of, at most
FOUND = 8  # nearest images of a query
QUERIES, MISTAKES = 6, 6
CLUSTERS, IMAGES = 3, 8  # of each kind, and of each cluster
SMALLEST = 3  # images that a cluster has which is shown as tight or loose
MOST = 20_000  # images that clusters are made of


class Embedded(NamedTuple):
    """Images with their embeddings, in the same order."""

    paths: Sequence[str]
    labels: np.ndarray | None  # int64 (n,)
    rows: np.ndarray  # float32 (n, d) of length 1


class Query(NamedTuple):
    """An image with the images that are nearest to it."""

    path: str
    label: int | None
    found: list[tuple[str, float, bool | None]]  # path, similarity, whether it is of the same kind


class Cluster(NamedTuple):
    """Images that lie together, the most central first."""

    size: int
    tightness: float  # mean similarity with the most central direction
    paths: list[str]


def choose_queries(queries: Embedded, gallery: Embedded | None, seed: int = 0) -> tuple[list[Query], list[Query]]:
    """Some queries at random, and, where there are labels, the worst mistakes: those whose nearest image is of another kind
    and the most similar. Without a gallery the queries are searched among themselves. One without a positive is no mistake.
    """
    others = gallery or queries
    indices, similarities = nearest(queries.rows, None if gallery is None else gallery.rows, FOUND)
    right = None
    if queries.labels is not None and others.labels is not None:
        right = others.labels[indices] == queries.labels[:, None]

    def made(row: int) -> Query:
        found = [
            (others.paths[index], float(similarity), None if right is None else bool(right[row, place]))
            for place, (index, similarity) in enumerate(zip(indices[row].tolist(), similarities[row].tolist()))
            if index >= 0
        ]
        return Query(queries.paths[row], None if queries.labels is None else int(queries.labels[row]), found)

    chosen = np.random.default_rng(seed).permutation(len(queries.rows))[:QUERIES]
    mistakes: list[int] = []
    if right is not None and queries.labels is not None and others.labels is not None:
        has_positive = count_positives(queries.labels, None if gallery is None else gallery.labels).numpy() > 0
        wrong = np.flatnonzero(~right[:, 0] & has_positive)
        mistakes = wrong[np.argsort(-similarities[wrong, 0], kind="stable")][:MISTAKES].tolist()
    return [made(row) for row in chosen.tolist()], [made(row) for row in mistakes]


def choose_clusters(images: Embedded, seed: int = 0) -> tuple[dict[str, list[Cluster]], np.ndarray]:
    """The largest clusters, and of those with SMALLEST images or more the tightest and the loosest; and the cluster of each
    image, int64 (n,), which of more than MOST images only so many evenly spread ones have (-1 for the others)."""
    kept = evenly(len(images.rows), MOST)
    rows = np.ascontiguousarray(images.rows[kept])
    grouping = group(rows, seed=seed)
    labels = np.full(len(images.rows), -1, dtype=np.int64)
    labels[kept] = grouping.labels
    clusters = []
    for members in grouping.order:
        middle = rows[members].mean(0)
        tightness = float((rows[members] @ (middle / max(np.linalg.norm(middle), 1e-12))).mean())
        clusters.append(Cluster(len(members), tightness, [images.paths[kept[row]] for row in members[:IMAGES]]))
    enough = sorted((cluster for cluster in clusters if cluster.size >= SMALLEST), key=lambda cluster: -cluster.tightness)
    named = {"Largest": clusters[:CLUSTERS], "Tightest": enough[:CLUSTERS], "Loosest": enough[::-1][:CLUSTERS]}
    return {name: found for name, found in named.items() if found}, labels
