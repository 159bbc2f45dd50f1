"""Makes k-means pseudo-labels, and describes them for the log."""

from typing import Any, NamedTuple

import numpy as np

from utils.errors import InputError

ITERATIONS = 100  # at most: k-means stops when an iteration gains less than SETTLED of the objective
SETTLED = 1e-4
TRIAL_ITERATIONS = 4  # iterations of each trial of a cold start; the best trial goes on
SMALL = 1000  # up to this number of clusters, a cold start tries several starts
CANDIDATES = 48  # points whose distances to all others come from one matrix product
TRAINING_POINTS = 256  # for each cluster, as faiss's default; the other points are only assigned


class Clusters(NamedTuple):
    """A clustering of N features."""

    labels: np.ndarray  # int64 (N,), values in 0..k-1; each occurs
    objective: float  # sum of the features' squared distances to their centroids


def kmeans(
    features: np.ndarray, k: int, warm_labels: np.ndarray | None = None, seed: int = 0, spherical: bool = False
) -> Clusters:
    """Cluster float32 (N, d) features into k clusters by k-means (faiss). No cluster is empty.

    warm_labels: int64 (N,), an earlier clustering to start from. The start is the mean of *these* features over each of its
    clusters. The old centroids would not fit: since then the network, or the choice of features, has changed.
    Without it, greedy k-means++ chooses the start. Up to SMALL clusters it does so three times, and the best start wins.
    spherical: centroids of length 1, for features of length 1 (Dhillon and Modha 2001). The nearest is the most similar.
    Beyond 4 k * TRAINING_POINTS features, the centroids come from a random sample. Otherwise features are not copied. They
    may be memory-mapped. Uses the GPU where faiss has one.
    Raises InputError when there are fewer features than clusters, or a feature is not finite.
    """
    n = len(features)
    if not 1 <= k <= n:
        raise InputError(f"{k}: k-means needs 1 to {n} clusters for {n} images", setting="num_clusters")
    if not all(np.isfinite(features[i : i + 65536]).all() for i in range(0, n, 65536)):
        remedy = "lower the learning rate, or start from pretrained weights"
        raise InputError(f"features are not finite: training has diverged; {remedy}")
    rng = np.random.default_rng(seed)
    sample = features
    if n > 4 * k * TRAINING_POINTS:  # a smaller saving would not be worth the copy
        sample = features[np.sort(rng.choice(n, k * TRAINING_POINTS, replace=False))]
    if warm_labels is not None:
        start = cluster_means(features, warm_labels, k, seed)
    elif k <= SMALL:
        trials = [lloyd(sample, greedy_seeding(sample, k, rng, trials=12), TRIAL_ITERATIONS, spherical) for _ in range(3)]
        start = min(trials, key=lambda solver: solver.obj[-1] * (-1 if spherical else 1)).centroids
    else:
        start = greedy_seeding(sample, k, rng, trials=4)
    return assign(lloyd(sample, start, ITERATIONS, spherical), features)


def greedy_seeding(features: np.ndarray, k: int, rng: np.random.Generator, trials: int) -> np.ndarray:
    """Choose k of the float32 (N, d) features to start k-means from: float32 (k, d).

    k-means++ (Arthur and Vassilvitskii 2007, section 2.2) in its greedy form. Each next centroid is the best of `trials`
    features, drawn in proportion to D^2, their squared distance from the centroids so far. To save time, the trials of
    several next centroids are drawn from the same D^2, so that one product gives all their distances. The winner among the
    trials is then chosen centroid by centroid, with the newest D^2.
    """
    squares = np.einsum("nd,nd->n", features, features)
    chosen = [rng.integers(len(features))]
    nearest = np.maximum(squares - 2 * (features @ features[chosen[0]]) + squares[chosen[0]], 0)  # D^2
    while len(chosen) < k:
        together = min(CANDIDATES // trials, 1 + k // 25, k - len(chosen))  # more would make D^2 too old
        mass = np.cumsum(nearest, dtype=np.float64)
        drawn = np.searchsorted(mass, rng.random(together * trials) * mass[-1]).clip(max=len(features) - 1)
        distances = features[drawn] @ features.T
        distances *= -2
        distances += squares
        distances += squares[drawn, None]
        for candidates, to_all in zip(drawn.reshape(together, trials), distances.reshape(together, trials, -1)):
            np.minimum(to_all, nearest, out=to_all)
            best = to_all.sum(1).argmin()
            nearest = to_all[best].clip(min=0)
            chosen.append(candidates[best])
    return features[chosen]


def lloyd(
    features: np.ndarray, start: np.ndarray, iterations: int, spherical: bool = False, settled: float = SETTLED
) -> Any:
    """Return a faiss.Kmeans, trained on float32 (N, d) features from the centroids `start`, float32 (k, d)."""
    import faiss  # imported here, like scipy and scikit-learn below, because `train.py --help` would take seconds

    points = {"min_points_per_centroid": 1, "max_points_per_centroid": len(features)}
    gpu, d, k = faiss.get_num_gpus() > 0, features.shape[1], len(start)
    solver = faiss.Kmeans(d, k, niter=iterations, spherical=spherical, gpu=gpu, early_stop_threshold=settled, **points)
    solver.train(features, init_centroids=start)
    return solver


def assign(solver: Any, features: np.ndarray) -> Clusters:
    """Assign features to the centroids of a trained faiss.Kmeans. Each empty cluster is given a feature."""
    distances, labels = solver.assign(features)
    if solver.cp.spherical:
        distances = 2 - 2 * distances  # they are similarities
    labels = labels.astype(np.int64)
    _fill_empty(labels, distances, solver.k)
    return Clusters(labels, float(distances.sum(dtype=np.float64)))


def _fill_empty(labels: np.ndarray, distances: np.ndarray, k: int) -> None:
    """Give each empty cluster, in place, the farthest feature from its centroid that is not alone in its cluster."""
    sizes = np.bincount(labels, minlength=k)
    empty = list(np.flatnonzero(sizes == 0))
    for point in np.argsort(-distances, kind="stable") if empty else ():
        if empty and sizes[labels[point]] > 1:
            sizes[labels[point]] -= 1
            labels[point], distances[point] = empty.pop(), 0


def cluster_means(features: np.ndarray, labels: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Return the mean of the float32 (N, d) features of each label 0..k-1: float32 (k, d). A label that does not occur gets
    a random feature. Negative labels belong to no cluster."""
    from scipy.sparse import csr_matrix

    n, clustered = len(features), np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[clustered], minlength=k)
    sums = csr_matrix((np.ones(len(clustered), np.float32), (labels[clustered], clustered)), shape=(k, n)) @ features
    means = sums / np.maximum(counts, 1)[:, None].astype(np.float32)
    missing = np.flatnonzero(counts == 0)
    means[missing] = features[np.random.default_rng(seed).choice(n, len(missing), replace=False)]
    return means


def describe(
    clusters: Clusters, k: int, last_labels: np.ndarray | None = None, true_labels: np.ndarray | None = None
) -> str:
    """Describe a clustering in one line. `true_labels`, if any, are used for nothing else."""
    from sklearn.metrics import adjusted_rand_score as ari, normalized_mutual_info_score as nmi

    labels, sizes = clusters.labels, np.bincount(clusters.labels, minlength=k)
    line = f"objective {clusters.objective:.6g}, sizes {sizes.min()}/{int(np.median(sizes))}/{sizes.max()} (min/median/max)"
    line += f", {(sizes == 1).sum()} singletons"
    if last_labels is not None:
        line += f", NMI with the last {nmi(last_labels, labels):.4f}"
    if true_labels is not None:
        line += f", with the true labels NMI {nmi(true_labels, labels):.4f} ARI {ari(true_labels, labels):.4f}"
    return line
