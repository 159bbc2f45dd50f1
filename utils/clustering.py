"""k-means pseudo-labels, and what the log says about them."""

from typing import NamedTuple

import faiss
import numpy as np
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from utils.errors import InputError

ITERATIONS = 100  # at most: it stops when an iteration gains less than SETTLED of the objective
SETTLED = 1e-4
RESTARTS = 5  # of a cold start, the best objective wins
GREEDY_UP_TO = 1000  # clusters; beyond, greedy seeding takes longer than the k-means itself


class Clusters(NamedTuple):
    """A clustering of N features."""

    labels: np.ndarray  # int64 (N,), values in 0..k-1
    objective: float  # sum of squared distances to the own centroid


def kmeans(features, k, warm_labels=None, seed=0):
    """k-means (faiss) of float32 (N, d) into k clusters.

    warm_labels: int64 (N,), an earlier clustering. It starts from the means of *these* features over those clusters:
    unlike the earlier centroids they fit whatever the network has become since, and another feature space too. Without
    it, k-means++ (Arthur and Vassilvitskii 2007) chooses the start.
    Raises InputError when there are fewer features than clusters, or one is not finite.
    """
    n = len(features)
    if not 1 <= k <= n:
        raise InputError(f"--num_clusters {k}: k-means needs 1 to {n} clusters for {n} images")
    if not np.isfinite(features).all():
        raise InputError("features are not finite: training has diverged; lower --lr, or start from pretrained weights")
    if warm_labels is not None:
        starts = [cluster_means(features, warm_labels, k, seed)]
    elif k <= GREEDY_UP_TO:  # scikit-learn's seeding tries several candidates for each centroid, faiss's only one
        starts = (kmeans_plusplus(features, k, random_state=seed + redo)[0] for redo in range(RESTARTS))
    else:
        starts = [None]
    return min((_lloyd(features, k, start, seed) for start in starts), key=lambda found: found.objective)


def _lloyd(features, k, start, seed):
    """k-means from the centroids `start`, or from faiss's own k-means++."""
    solver = faiss.Kmeans(features.shape[1], k, niter=ITERATIONS, seed=seed + 1, early_stop_threshold=SETTLED,
                          init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
                          min_points_per_centroid=1, max_points_per_centroid=len(features))
    solver.train(features, init_centroids=start)
    distances, labels = solver.assign(features)
    return Clusters(labels.astype(np.int64), float(distances.sum()))


def cluster_means(features, labels, k, seed=0):
    """Mean of the float32 (N, d) features over each label 0..k-1: float32 (k, d). A label that does not occur gets a
    random feature; negative labels belong to no cluster."""
    counts = np.bincount(labels[labels >= 0], minlength=k)
    order = np.argsort(labels, kind="stable")[(labels < 0).sum():]
    means = features[np.random.default_rng(seed).choice(len(features), k, replace=False)]
    present = np.flatnonzero(counts)
    starts = np.cumsum(counts)[present] - counts[present]
    means[present] = np.add.reduceat(features[order], starts, axis=0) / counts[present, None]
    return means


def describe(clusters, k, last_labels=None, true_labels=None):
    """One line about a clustering; `true_labels`, where there are any, only serve this print."""
    sizes = np.bincount(clusters.labels, minlength=k)
    parts = [f"objective {clusters.objective:.6g}",
             f"sizes {sizes.min()}/{int(np.median(sizes))}/{sizes.max()} (min/median/max)",
             f"{(sizes == 0).sum()} empty, {(sizes == 1).sum()} singletons"]
    if last_labels is not None:
        parts.append(f"NMI with the last {normalized_mutual_info_score(last_labels, clusters.labels):.4f}")
    if true_labels is not None:
        parts.append(f"with the true labels NMI {normalized_mutual_info_score(true_labels, clusters.labels):.4f} "
                     f"ARI {adjusted_rand_score(true_labels, clusters.labels):.4f}")
    return ", ".join(parts)
