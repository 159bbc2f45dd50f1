"""k-means and its warm start, against scikit-learn."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.cluster import KMeans, kmeans_plusplus

from utils.clustering.kmeans import Clusters, cluster_means, describe, greedy_seeding, kmeans
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
@pytest.mark.parametrize("spherical", [False, True])
def test_degenerate(k, spherical):
    features = np.full((5, 4), 0.5, np.float32)  # all images are equal
    assert kmeans(features, k, spherical=spherical).objective == pytest.approx(0, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 1000), st.booleans())
def test_no_cluster_is_empty(n, k, distinct, seed, warm):
    """This holds even if there are fewer distinct features than clusters."""
    rng, k = np.random.default_rng(seed), min(n, k)
    features = rng.normal(size=(distinct, 3)).astype(np.float32)[rng.integers(distinct, size=n)]
    found = kmeans(features, k, warm_labels=np.zeros(n, int) if warm else None, seed=seed)
    assert (np.bincount(found.labels, minlength=k) > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 30), st.booleans(), st.integers(0, 1000))
def test_one_cluster_and_a_cluster_for_every_feature(n, dim, distinct, warm, seed):
    """One cluster has the spread around the mean as its objective; a cluster for each feature has 0."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(distinct, dim)).astype(np.float32)[rng.integers(distinct, size=n)]
    one, own = (kmeans(features, k, warm_labels=rng.integers(-1, k, size=n) if warm else None, seed=seed) for k in (1, n))
    assert not one.labels.any() and sorted(own.labels) == list(range(n))
    assert one.objective == pytest.approx(((features - features.mean(0, dtype=np.float64)) ** 2).sum(), rel=1e-3, abs=1e-4)
    assert warm or own.objective == pytest.approx(0, abs=1e-4)
    assert describe(own, n, own.labels, one.labels).startswith("objective ")


def test_seeding_is_better_than_plain_kmeans_plusplus():
    features, _ = blobs(k=40)

    def cost(centroids):
        return ((features[:, None] - centroids) ** 2).sum(2).min(1).sum()

    def mean_cost(trials):
        return np.mean([cost(greedy_seeding(features, 40, np.random.default_rng(s), trials)) for s in range(10)])

    plain = np.mean([cost(kmeans_plusplus(features, 40, random_state=s, n_local_trials=1)[0]) for s in range(10)])
    assert mean_cost(12) < mean_cost(1) and mean_cost(12) < 0.95 * plain
    assert mean_cost(1) < 1.05 * plain  # with one trial, it is plain k-means++


def test_spherical_centroids_have_length_one():
    """The objective is then the sum of 2 - 2 cos. The reference is a slow spherical k-means from the same start."""
    features, labels = blobs()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = kmeans(features, 12, warm_labels=labels, spherical=True)
    centroids = cluster_means(features, labels, 12)
    for _ in range(50):
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        nearest = (features @ centroids.T).argmax(1)
        centroids = cluster_means(features, nearest, 12)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    assert found.objective == pytest.approx((2 - 2 * (features @ centroids.T).max(1)).sum(), rel=1e-3)


def test_centroids_from_a_sample_label_everything(monkeypatch):
    features, labels = blobs(n=3000)
    monkeypatch.setattr("utils.clustering.kmeans.TRAINING_POINTS", 50)  # 50 x 12 x 4 is less than 3000, so a sample is taken
    found = kmeans(features, 12)
    whole = cluster_means(features, labels, 12)
    assert found.labels.shape == (3000,)
    assert found.objective < 1.1 * ((features - whole[labels]) ** 2).sum()


def test_threads_do_not_change_the_labels():
    features, _ = blobs(d=64)
    threads = faiss.omp_get_max_threads()
    try:
        found = []
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            found.append(kmeans(features, 12).labels)
    finally:
        faiss.omp_set_num_threads(threads)
    assert np.array_equal(*found)


def test_memory_mapped_features(tmp_path):
    features, _ = blobs()
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert np.array_equal(kmeans(mapped, 12).labels, kmeans(features, 12).labels)


def test_more_clusters_than_images_and_diverged_features():
    with pytest.raises(InputError, match="6.*5 images"):
        kmeans(np.ones((5, 4), np.float32), 6)
    with pytest.raises(InputError, match="finite"):
        kmeans(np.full((5, 4), np.nan, np.float32), 2)


def test_describe():
    line = describe(Clusters(np.array([0, 0, 0, 2]), 1.5), 4, np.array([1, 1, 1, 0]), np.array([0, 0, 1, 1]))
    assert "0/0/3" in line and "1 singletons" in line and "last 1.0000" in line and "ARI" in line
    assert "ARI" not in describe(Clusters(np.array([0, 1]), 1.5), 2)
