"""Groups look-alikes among any number of embeddings: k-means on a sample finds centres; each embedding joins the nearest."""

from typing import NamedTuple

import numpy as np

from utils.arrays import blocks, row_blocks, sample_rows
from utils.clustering.choose_k import centres_of, choose_k, nearest_centre
from utils.errors import InputError

SAMPLE = 50_000  # size of the sample that the centres come from; it is larger for more than SAMPLE / PER_CLUSTER clusters
PER_CLUSTER = 64  # images of the sample for each cluster, at least


class Grouping(NamedTuple):
    """Clusters of N images, the largest first. Equally large clusters are sorted by their first row."""

    labels: np.ndarray  # int64 (N,), values in 0..len(order)-1; each occurs
    order: list[np.ndarray]  # the rows of each cluster, int64, the most central first; equally central ones by row


def group(embeddings: np.ndarray, k: int | None = None, seed: int = 0) -> Grouping:
    """Cluster float32 or float16 (N, d) embeddings of length 1, which may be memory-mapped, by spherical k-means.

    k: the number of clusters; None: `choose_k` chooses it. Fewer different images than k give fewer clusters.
    The most central image of a cluster has the largest inner product with the mean of all its images.
    Centres come from a random sample of SAMPLE images (more if k is large, all if there are no more). Every image joins the
    most similar centre. Memory holds the sample and blocks of rows. The same embeddings and seed give the same clusters on
    a machine.
    Raises InputError for a k below 1, and when an embedding of the sample is not finite.
    """
    if k is not None and k < 1:
        raise InputError(f"{k} clusters: give 1 or more")
    if not len(embeddings):
        return Grouping(np.empty(0, np.int64), [])
    if k is None:
        k = choose_k(embeddings, seed)
    k = min(k, len(embeddings))
    centres = centres_of(sample_rows(embeddings, max(SAMPLE, PER_CLUSTER * k), seed)[1], k, seed)
    labels = np.concatenate([nearest_centre(rows, centres) for rows in row_blocks(embeddings)])
    return _ordered(labels, _centrality(embeddings, labels, k))


def _centrality(embeddings: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return each row's inner product with the sum of its cluster, float32 (N,). The mean would give the same order."""
    from scipy.sparse import csr_matrix

    sums = np.zeros((k, embeddings.shape[1]))
    for rows, member in zip(row_blocks(embeddings), blocks(labels)):
        sums += csr_matrix((np.ones(len(rows)), member, np.arange(len(rows) + 1)), (len(rows), k)).T @ rows
    totals, pairs = sums.astype(np.float32), zip(row_blocks(embeddings), blocks(labels))
    return np.concatenate([np.einsum("nd,nd->n", rows, totals[member]) for rows, member in pairs])


def _ordered(labels: np.ndarray, centrality: np.ndarray) -> Grouping:
    """Return the Grouping for any labels, int64 (N,), and the centrality of each row, float32 (N,)."""
    _, first, labels, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    by_size = np.lexsort((first, -sizes))
    labels = by_size.argsort()[labels]
    rows = np.lexsort((-centrality, labels))  # stable: equally central rows stay in order
    return Grouping(labels, np.split(rows, np.cumsum(sizes[by_size])[:-1]))
