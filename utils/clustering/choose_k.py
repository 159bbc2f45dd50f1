"""Chooses the number of clusters without labels: the number on which two halves of the data agree most."""

import numpy as np

from utils.arrays import blocks
from utils.clustering.kmeans import cluster_means, kmeans

TRIED = 8192  # largest number of images on which k is chosen
SPLITS = 4  # largest number of splits into halves, for few images; for many images one split is as good
LEAST = 4  # images in an average cluster, at least: it limits k
ENOUGH = 0.98  # share of the largest agreement that is good enough; the smallest such k is chosen
PASSED = 0.95  # the search ends after two k in a row with less than this share of the largest agreement
SIMILARITIES = 2**25  # numbers computed at once: 128 MB
TIE = 1e-6  # similarities closer than this are equal: a matrix product rounds the same row differently at different places


def choose_k(rows: np.ndarray, seed: int = 0) -> int:
    """Return the k on which two halves of the data agree most, for float32 (n, d) rows of length 1.

    k is 1 to n / LEAST, and at most TRIED / LEAST, because more than TRIED rows are sampled. Few clusters say little about
    an image; with too many, an image's cluster depends on chance. So the images are split into two halves, each half is
    clustered, and all images are assigned to both sets of centres. The mutual information of the two clusterings, less its
    value by chance (`_agreement`), is highest in between. k doubles until the agreement falls; then sqrt(2) around the best
    k is tried. The result is the smallest k with ENOUGH of the largest agreement. On embeddings by the closed form it is 45
    or 64 (by seed) for GroceryStore (81 classes), and 64 or 91 for CUB100 (100 classes). For 2 to 300 synthetic clusters it
    is right within a step. The silhouette does not work: on GroceryStore it chooses 2, or the largest k.
    """
    if len(rows) > TRIED:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), TRIED, replace=False))]
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    largest = len(rows) // LEAST
    splits = min(max(TRIED // (2 * len(rows)), 1), SPLITS)
    scores = {1: 0.0}  # one cluster carries no information

    def attempt(k: int) -> None:
        if k <= largest and k not in scores:
            scores[k] = float(np.mean([_agreement(rows, k, seed + split) for split in range(splits)]))

    k, low = 2, 0
    while k <= largest and low < 2:
        attempt(k)
        low = low + 1 if scores[k] < PASSED * max(scores.values()) else 0
        k *= 2
    best = max(scores, key=lambda k: scores[k])
    for factor in (0.5, 2):
        attempt(round(best * factor**0.5))
    most = max(scores.values())
    return min(k for k, score in scores.items() if score >= ENOUGH * most)


def _agreement(rows: np.ndarray, k: int, seed: int) -> float:
    """Return I - E[I], in nats, of two clusterings of (n, d) rows, each by the centres of one random half.

    I is their mutual information. E[I] is its mean over random clusterings of the same sizes (Vinh et al. 2010, JMLR 11).
    """
    from sklearn.metrics import mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    shuffled = np.random.default_rng(seed).permutation(len(rows))
    halves = shuffled[: len(rows) // 2], shuffled[len(rows) // 2 :]
    both = [nearest_centre(rows, centres_of(rows[np.sort(half)], k, seed)) for half in halves]
    table = contingency_matrix(*both, sparse=True, dtype=np.int64)
    return float(mutual_info_score(None, None, contingency=table) - expected_mutual_information(table, len(rows)))


def centres_of(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the k cluster centres of float32 (n, d) rows: float32 (k, d), of length 1."""
    centres = cluster_means(rows, kmeans(rows, k, seed=seed, spherical=True).labels, k)
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def nearest_centre(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the most similar centre of each row, int64 (n,). Of centres that are equal up to rounding, the first."""
    parts = (part @ centres.T for part in blocks(rows, max(1, SIMILARITIES // len(centres))))
    return np.concatenate([(similar > similar.max(1, keepdims=True) - TIE).argmax(1) for similar in parts])
