"""How many clusters to make of images, told without labels: by what two halves of them agree on."""

import numpy as np

from utils.arrays import blocks
from utils.clustering.kmeans import cluster_means, kmeans

TRIED = 8192  # images on which the number of clusters is chosen, at the most
SPLITS = 4  # at most, of few images; of many, one alone says as much
LEAST = 4  # images that each cluster has on average, at the least, of the numbers that are tried
ENOUGH = 0.98  # of the most agreement: below it more clusters say more
PASSED = 0.95  # two numbers of clusters in a row with less than this share of the most: the best lies behind
SIMILARITIES = 2**25  # at once: 128 MB


def choose_k(rows: np.ndarray, seed: int = 0) -> int:
    """The number of clusters of which most is sure, for float32 (n, d) rows of length 1: 1 to n / LEAST, and at most
    TRIED / LEAST, because of more rows only TRIED are looked at.

    With few clusters there is little to say about an image. With too many, which cluster it is in depends on chance. So the
    images are split into two halves, each half is clustered, and all images are assigned to both sets of centres. What the
    two clusterings tell of each other, in nats, less what they would tell by chance, is highest in between (`_agreement`).
    Numbers are tried in steps of 2 until it falls, then of sqrt(2) around the best. The result is the least that comes
    to ENOUGH of the most. Of closed forms it is, by seed, 45 or 64 for GroceryStore (81 classes), 64 or 91 for CUB100 (100),
    and of 2 to 300 made clusters within a step. The silhouette does not serve: on GroceryStore it takes 2, or all it may.
    """
    if len(rows) > TRIED:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), TRIED, replace=False))]
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    largest = len(rows) // LEAST
    splits = min(max(TRIED // (2 * len(rows)), 1), SPLITS)
    scores = {1: 0.0}  # in one cluster there is nothing to tell

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
    """I - E[I] of two clusterings of (n, d) rows with the centres of one random half each.

    I is their mutual information; E[I] that of random clusterings of the same sizes (Vinh, Epps and Bailey 2010, JMLR 11).
    """
    from sklearn.metrics import mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    shuffled = np.random.default_rng(seed).permutation(len(rows))
    halves = shuffled[: len(rows) // 2], shuffled[len(rows) // 2 :]
    both = [nearest_centre(rows, centres_of(rows[np.sort(half)], k, seed)) for half in halves]
    table = contingency_matrix(*both, sparse=True, dtype=np.int64)
    return float(mutual_info_score(None, None, contingency=table) - expected_mutual_information(table, len(rows)))


def centres_of(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """float32 (k, d), of length 1, of float32 (n, d) rows."""
    centres = cluster_means(rows, kmeans(rows, k, seed=seed, spherical=True).labels, k)
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def nearest_centre(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 (n,): the most similar centre of each row."""
    parts = blocks(rows, max(1, SIMILARITIES // len(centres)))
    return np.concatenate([(part @ centres.T).argmax(1) for part in parts])
