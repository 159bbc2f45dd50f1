"""Computes Jaccard distances between images from the k-reciprocal neighbours that they share, and clusters by them.

Zhong et al. 2017 (arXiv 1701.08398), with the numbers of Cluster Contrast (Dai et al. 2021, arXiv 2103.11568). No array is
N x N: the distances are a sparse matrix, which holds the short ones.
"""

from typing import Any

import numpy as np
import torch

from utils.clustering.nearest import nearest

NUMBERS_AT_ONCE = 2**22  # numbers in the largest array of a step: 16 MB of float32
PAIRS = 2**21  # pairs whose distances are computed at once
ROWS = 2**13  # images whose neighbours are expanded at once
TIE = 1e-6  # weights are multiples of 1/k2, so many distances between copies equal eps; rounding must not decide them
MOST = 4  # an image keeps its distances to MOST * k1 nearest neighbours


def groups(
    features: np.ndarray,
    k1: int = 30,
    k2: int = 6,
    eps: float = 0.6,
    min_samples: int = 4,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Cluster float32 (N, d) rows of length 1 by DBSCAN (Ester et al. 1996). Returns int64 (N,): 0, 1, ..., -1 for outliers.

    k1, k2: as in `encode`. eps: largest Jaccard distance between neighbours, below 1; a tolerance of TIE is added.
    min_samples: neighbours, itself included, that make an image the core of a cluster. device: where all pairs are compared.
    Raises InputError where a feature is not finite.
    """
    from sklearn.cluster import DBSCAN  # imported here, like scipy below, because `train.py --help` would take seconds

    distances = jaccard(weights_of(features, k1, k2, device), eps + TIE, MOST * max(k1, min_samples))
    labels = DBSCAN(eps=eps + TIE, min_samples=min_samples, metric="precomputed").fit_predict(distances)
    return labels.astype(np.int64)


def weights_of(features: np.ndarray, k1: int, k2: int, device: torch.device | str) -> Any:
    """Return what `encode` returns of float32 (N, d) rows of length 1, from their nearest rows.

    k1, k2: as in `encode`. device: where all pairs are compared. Raises InputError where a feature is not finite.
    """
    return encode(features, nearest(features, k1, device), k1, k2)


def reciprocal(lists: np.ndarray, k: int) -> Any:
    """Return a symmetric CSR matrix (N, N), 1 where two images are among each other's first k neighbours (section 3.2).

    lists: int32 (N, k or more), from `nearest`.
    """
    from scipy.sparse import csr_matrix

    n, k = len(lists), min(k, lists.shape[1])
    named = csr_matrix((np.ones(n * k, np.int32), lists[:, :k].ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return named.multiply(named.T).tocsr()


def encode(features: np.ndarray, lists: np.ndarray, k1: int, k2: int) -> Any:
    """Encode each image as weights of related images, which sum to 1: a float32 CSR matrix (N, N).

    features: float32 (N, d), rows of length 1. lists: int32 (N, k1), from `nearest`. An image's set holds its k1-reciprocal
    neighbours. It also takes the k1/2-reciprocal neighbours of each of these, if over 2/3 of them are in the set already
    (section 3.2, which says "at least"). Weights fall as exp(-d^2) with distance d (section 3.3 has exp(-d)). Then each
    image gets the mean weights of its first k2 neighbours, itself included (section 3.4).
    All this is as in Cluster Contrast's code (clustercontrast/utils/faiss_rerank.py). There, too, k1 counts the image itself
    and k1/2 does not.
    """
    from scipy.sparse import csr_matrix, vstack

    near, half = reciprocal(lists, k1), reciprocal(lists, round(k1 / 2) + 1)
    sizes = np.diff(half.indptr)
    parts = []
    for start in range(0, len(lists), ROWS):
        own = near[start : start + ROWS]
        shared = (own @ half).multiply(own).tocsr()  # images in both the set and the half list of each neighbour
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        rows, columns = (own + shared @ half).nonzero()
        weights = np.exp(2 * similarities(features, start + rows, columns) - 2)  # 2 - 2 s is the squared distance
        weights /= np.bincount(rows, weights)[rows].astype(np.float32)
        parts.append(csr_matrix((weights, (rows, columns)), shape=own.shape))
    encoded = vstack(parts, format="csr")

    n, k2 = len(lists), min(k2, lists.shape[1])
    first = (np.full(n * k2, 1 / k2, np.float32), lists[:, :k2].ravel(), np.arange(0, n * k2 + 1, k2))
    mean = (csr_matrix(first, shape=(n, n)) @ encoded).tocsr()
    mean.sort_indices()
    return mean


def similarities(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the inner product of each pair features[rows], features[columns]: float32 (m,). rows, columns: int (m,)."""
    step, products = max(1, NUMBERS_AT_ONCE // features.shape[1]), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        np.einsum("nd,nd->n", features[rows[part]], features[columns[part]], out=products[part])
    return products


def jaccard(encoded: Any, radius: float, most: int) -> Any:
    """Return the Jaccard distances up to `radius` between all images: a symmetric float32 CSR matrix (N, N).

    encoded: from `encode`. The distance is 1 - o / (2 - o): o is the sum of the lesser of two images' weights, 2 - o of the
    greater (section 3.3). An image's distance from itself, 0, is stored. radius: below 1. most: an image keeps its distances
    to the `most` nearest, and to images that keep a distance to it: at most 2 N most numbers in all.
    """
    from scipy.sparse import csr_matrix, vstack

    n = encoded.shape[0]
    least = 2 * (1 - radius) / (2 - radius)  # overlap at distance `radius`
    by_column = encoded.tocsc()
    pairs = np.diff(by_column.indptr)[encoded.indices]  # for each weight, the number of images with the same column
    pairs = np.append(0, np.cumsum(pairs))[encoded.indptr]
    parts, start = [], 0
    while start < n:
        end = max(start + 1, int(np.searchsorted(pairs, pairs[start] + PAIRS, side="right")) - 1)
        overlap = overlaps(encoded[start:end], by_column)
        rows, columns, values = np.repeat(np.arange(end - start), np.diff(overlap.indptr)), overlap.indices, overlap.data
        values = np.where(columns == start + rows, 2, values)  # nearer than even its copies
        kept = np.flatnonzero(values >= least)
        counts = np.bincount(rows[kept], minlength=end - start)
        if counts.max() > most:
            order = kept[np.lexsort((columns[kept], -values[kept], rows[kept]))]  # by row, the nearest first
            place = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
            kept = np.sort(order[place < most])
        content = values[kept].clip(max=1).astype(np.float32), (rows[kept], columns[kept])
        parts.append(csr_matrix(content, shape=(end - start, n)))
        start = end
    distances = vstack(parts, format="csr")
    distances = distances.maximum(distances.T).tocsr()  # still overlaps: a maximum of distances would drop zeros
    distances.data = 1 - distances.data / (2 - distances.data)
    return distances


def nearest_first(distances: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's nearest other images, int32 (n, most), and their distances, float32, from a symmetric CSR matrix
    (n, n) of distances. Missing neighbours are -1, at distance 1."""
    entries = distances.tocoo()
    other = entries.row != entries.col
    rows, columns, values = entries.row[other], entries.col[other], entries.data[other]
    order = np.lexsort((values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = place < most
    neighbours = np.full((distances.shape[0], most), -1, np.int32)
    distance = np.ones(neighbours.shape, np.float32)
    neighbours[rows[kept], place[kept]] = columns[kept]
    distance[rows[kept], place[kept]] = values[kept]
    return neighbours, distance


def overlaps(block: Any, by_column: Any) -> Any:
    """Sum the lesser of two weights over the columns, for all pairs of rows that share one: a float64 CSR matrix (m, N).

    block: CSR (m, N), a block of rows of the matrix. by_column: CSC (N, N), the whole matrix. Time grows with the number of
    pairs of equal columns, and so, at a fixed number of neighbours, only with m.
    """
    from scipy.sparse import csr_matrix

    lengths = np.diff(by_column.indptr)[block.indices]  # for each weight, the number of images with that column
    ends = np.cumsum(lengths)
    places = np.repeat(by_column.indptr[block.indices] - (ends - lengths), lengths) + np.arange(ends[-1])
    lesser = np.minimum(by_column.data[places], np.repeat(block.data, lengths)).astype(np.float64)
    # a row for each weight of the block: the lesser of it and the other images' weights; then their sums over each image
    of_weights = csr_matrix(
        (lesser, by_column.indices[places], np.append(0, ends)), shape=(len(lengths), by_column.shape[0])
    )
    sums = csr_matrix((np.ones(len(lengths)), np.arange(len(lengths)), block.indptr), shape=(block.shape[0], len(lengths)))
    return sums @ of_weights
