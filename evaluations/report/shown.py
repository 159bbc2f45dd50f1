"""Chooses the images of a report: queries with their neighbours, the worst mistakes, and clusters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluations.ranking import count_positives
from evaluations.retrieval import nearest
from utils.arrays import evenly
from utils.clustering.grouping import group

SHOWN = 2_000  # training images in a report, at most
FOUND = 8  # nearest images of a query
QUERIES, MISTAKES = 6, 6
CLUSTERS, IMAGES = 3, 8  # clusters under each heading, and images of each cluster
SMALLEST = 3  # images that a cluster needs to be shown as tight or loose
MOST = 20_000  # images that are clustered, at most


class Embedded(NamedTuple):
    """Images with their embeddings, in the same order."""

    paths: Sequence[str]
    labels: np.ndarray | None  # int64 (n,)
    rows: np.ndarray  # float32 (n, d) of length 1


class Query(NamedTuple):
    """An image with its nearest images."""

    path: str
    label: int | None
    found: list[tuple[str, float, bool | None]]  # path, similarity, whether the class is the same


class Cluster(NamedTuple):
    """Images that lie together, the most central first."""

    size: int
    tightness: float  # mean similarity with the most central direction
    paths: list[str]


def choose_queries(queries: Embedded, gallery: Embedded | None, seed: int = 0) -> tuple[list[Query], list[Query]]:
    """Choose queries at random and, if there are labels, the worst mistakes: the nearest image is of another class and most
    similar. Without a gallery the queries are searched among themselves. A query without a positive is no mistake.
    """
    others = gallery or queries
    indices, similarities = nearest(queries.rows, None if gallery is None else gallery.rows, FOUND)
    right = None
    if queries.labels is not None and others.labels is not None:
        right = others.labels[indices] == queries.labels[:, None]

    def query_of(row: int) -> Query:
        neighbours = [
            (others.paths[index], float(similarity), None if right is None else bool(right[row, place]))
            for place, (index, similarity) in enumerate(zip(indices[row].tolist(), similarities[row].tolist()))
            if index >= 0
        ]
        return Query(queries.paths[row], None if queries.labels is None else int(queries.labels[row]), neighbours)

    chosen = np.random.default_rng(seed).permutation(len(queries.rows))[:QUERIES]
    mistakes: list[int] = []
    if right is not None and queries.labels is not None and others.labels is not None:
        has_positive = count_positives(queries.labels, None if gallery is None else gallery.labels).numpy() > 0
        wrong = np.flatnonzero(~right[:, 0] & has_positive)
        mistakes = wrong[np.argsort(-similarities[wrong, 0], kind="stable")][:MISTAKES].tolist()
    return [query_of(row) for row in chosen.tolist()], [query_of(row) for row in mistakes]


def choose_clusters(images: Embedded, seed: int = 0) -> tuple[dict[str, list[Cluster]], np.ndarray]:
    """Choose the largest clusters, and the tightest and loosest with SMALLEST images or more. Return them and the cluster of
    each image, int64 (n,). Beyond MOST images only an even sample is clustered; the other images have -1."""
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
    return {name: chosen for name, chosen in named.items() if chosen}, labels
