"""k-means against scikit-learn's, and its warm start."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.cluster import KMeans

from utils.clustering import Clusters, cluster_means, describe, kmeans
from utils.errors import InputError


def blobs(n=600, k=12, d=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    return (2 * rng.normal(size=(k, d))[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def test_objective_is_close_to_sklearns_best_of_ten():
    features, _ = blobs()
    best = KMeans(12, n_init=10, random_state=0).fit(features).inertia_
    assert kmeans(features, 12).objective <= 1.003 * best


def test_objective_is_the_sum_of_squared_distances():
    features, _ = blobs()
    found = kmeans(features, 12)
    means = cluster_means(features, found.labels, 12)
    assert ((features - means[found.labels]) ** 2).sum() == pytest.approx(found.objective, rel=1e-2)


def test_warm_start_is_no_worse_than_the_labels_it_starts_from():
    features, labels = blobs()
    start = labels.copy()
    start[:60] = (start[:60] + 1) % 12
    before = ((features - cluster_means(features, start, 12)[start]) ** 2).sum()
    assert kmeans(features, 12, warm_labels=start).objective < before


def test_warm_start_with_an_empty_cluster_and_left_out_images():
    features, labels = blobs()
    labels[labels == 3] = 4
    labels[:5] = -1
    found = kmeans(features, 12, warm_labels=labels)
    assert found.labels.shape == (600,) and 0 <= found.labels.min() and found.labels.max() < 12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 1000))
def test_cluster_means_are_means(n, k, seed):
    rng = np.random.default_rng(seed)
    k = min(n, k)
    features, labels = rng.normal(size=(n, 3)).astype(np.float32), rng.integers(-1, k, size=n)
    means = cluster_means(features, labels, k)
    for label in set(labels) - {-1}:
        assert np.allclose(means[label], features[labels == label].mean(0), atol=1e-5)


def test_same_seed_same_clusters():
    features, _ = blobs()
    assert np.array_equal(kmeans(features, 12, seed=5).labels, kmeans(features, 12, seed=5).labels)


@pytest.mark.parametrize("k", [1, 5])
def test_degenerate(k):
    features = np.ones((5, 4), np.float32)  # all images the same
    assert kmeans(features, k).objective == pytest.approx(0, abs=1e-5)


def test_more_clusters_than_images_and_diverged_features():
    with pytest.raises(InputError, match="6.*5 images"):
        kmeans(np.ones((5, 4), np.float32), 6)
    with pytest.raises(InputError, match="finite"):
        kmeans(np.full((5, 4), np.nan, np.float32), 2)


def test_describe():
    line = describe(Clusters(np.array([0, 0, 0, 2]), 1.5), 4, np.array([1, 1, 1, 0]), np.array([0, 0, 1, 1]))
    assert "0/0/3" in line and "2 empty, 1 singletons" in line and "last 1.0000" in line and "ARI" in line
    assert "ARI" not in describe(Clusters(np.array([0, 1]), 1.5), 2)
