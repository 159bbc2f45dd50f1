"""Jaccard distances of k-reciprocal neighbours and DBSCAN on them, against a slow dense version."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from sklearn.cluster import DBSCAN

from utils.clustering import reciprocal
from utils.errors import InputError

some_n, some_dim, some_seed = st.integers(1, 40), st.integers(3, 8), st.integers(0, 10**6)
some_k1, some_k2, some_spread = st.integers(1, 12), st.integers(1, 5), st.sampled_from([0.2, 0.6, 3.0])


def blobs(n, dim=8, spread=0.6, seed=0, kinds=4):
    """Return rows of length 1 around `kinds` centres: float32 (n, dim)."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(kinds, dim))[rng.integers(kinds, size=n)] + spread * rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_distances(features, k1, k2):
    """Compute dense distances, float64 (N, N), image by image with sets: Zhong et al. 2017, section 3. k1 counts the
    image itself."""
    x, n = features.astype(np.float64), len(features)
    squares = ((x[:, None] - x) ** 2).sum(2)
    ranked = [[i, *sorted(set(range(n)) - {i}, key=lambda j: (squares[i, j], j))] for i in range(n)]
    near = [set(row[:k1]) for row in ranked]
    half = [set(row[: min(k1, int(np.around(k1 / 2)) + 1)]) for row in ranked]

    def mutual(sets, i):
        return {j for j in sets[i] if i in sets[j]}

    weights = np.zeros((n, n))
    for i in range(n):
        first = mutual(near, i)
        whole = set(first)
        for j in first:
            others = mutual(half, j)
            if len(others & first) > 2 / 3 * len(others):
                whole |= others
        for j in whole:
            weights[i, j] = np.exp(-squares[i, j])
        weights[i] /= weights[i].sum()
    expanded = np.array([weights[row[: min(k1, k2)]].mean(0) for row in ranked])
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            distances[i, j] = 1 - np.minimum(expanded[i], expanded[j]).sum() / np.maximum(expanded[i], expanded[j]).sum()
    return distances


def rounding_decides(features, k1, distances=(), radius=0.0):
    """Return True if two of the first neighbours are almost equally near, or if a distance almost equals the radius."""
    x = features.astype(np.float64)
    nearest_first = np.sort(-x @ x.T, axis=1)[:, : k1 + 1]
    return (np.diff(nearest_first) < 1e-6).any() or (np.abs(np.asarray(distances) - radius) < 1e-5).any()


def distances_of(features, k1, k2, radius=0.99, most=10**6):
    return reciprocal.jaccard(reciprocal.encode(features, reciprocal.nearest(features, k1), k1, k2), radius, most)


def dense(distances):
    """Return a dense matrix, float64 (N, N), with inf for missing entries."""
    found, pairs = np.full(distances.shape, np.inf), distances.tocoo()
    found[pairs.row, pairs.col] = pairs.data
    return found


@settings(max_examples=150, deadline=None)
@given(some_n, some_dim, some_spread, some_k1, some_k2, st.floats(0.05, 0.99), some_seed)
def test_distances_are_those_of_the_slow_version(n, dim, spread, k1, k2, radius, seed):
    features = blobs(n, dim, spread, seed)
    expected = slow_distances(features, k1, k2)
    assume(not rounding_decides(features, k1, expected, radius))
    expected[expected > radius] = np.inf
    np.testing.assert_allclose(dense(distances_of(features, k1, k2, radius)), expected, atol=2e-6)


@pytest.mark.parametrize("k1, k2", [(30, 6), (30, 1), (15, 4), (5, 5)])
def test_distances_of_many_images(k1, k2):
    features = blobs(150, 16, 0.5, seed=1, kinds=7)
    expected = slow_distances(features, k1, k2)
    assert not rounding_decides(features, k1, expected, 0.8) and 200 < (expected < 0.8).sum() < 0.8 * expected.size
    expected[expected > 0.8] = np.inf
    np.testing.assert_allclose(dense(distances_of(features, k1, k2, 0.8)), expected, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(some_n, some_dim, some_spread, some_k1, some_k2, st.integers(1, 5), some_seed)
def test_symmetric_and_within_0_and_1(n, dim, spread, k1, k2, most, seed):
    """This holds too if images have more neighbours than they keep distances."""
    found = distances_of(blobs(n, dim, spread, seed), k1, k2, most=most)
    assert np.array_equal(dense(found), dense(found.T)) and not found.diagonal().any()
    assert (found.data >= 0).all() and (found.data <= 0.99 + 1e-6).all()
    assert np.isfinite(dense(found).diagonal()).all()  # the zeros are stored


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), some_dim, some_spread, st.integers(1, 5), st.integers(1, 2), some_seed)
def test_copies_have_distance_0(n, dim, spread, k1, k2, seed):
    """Each image occurs twice. The numbers of neighbours are even, so that no list ends between two copies."""
    features = blobs(n, dim, spread, seed)
    k1 = [2, 6, 10, 14, 30][k1 - 1]  # with these, half of k1 plus the image itself is even too
    assume(not rounding_decides(features, k1))
    found = dense(distances_of(np.repeat(features, 2, axis=0), k1, 2 * k2))
    assert found[0::2, 1::2].diagonal() == pytest.approx(np.zeros(n), abs=2e-6)


@settings(max_examples=60, deadline=None)
@given(some_n, some_dim, some_spread, some_k1, some_k2, some_seed)
def test_another_order_of_the_images_changes_nothing(n, dim, spread, k1, k2, seed):
    features = blobs(n, dim, spread, seed)
    order = np.random.default_rng(seed).permutation(n)
    assume(not rounding_decides(features, k1))
    expected = dense(distances_of(features, k1, k2))[order][:, order]
    np.testing.assert_allclose(dense(distances_of(features[order], k1, k2)), expected, atol=2e-6)


def test_pieces_make_no_difference(monkeypatch):
    features = blobs(150, 8, 0.5, kinds=5)
    expected = distances_of(features, 10, 4, 0.8)
    for name, size in (("NUMBERS_AT_ONCE", 100), ("PAIRS", 170), ("ROWS", 7)):
        monkeypatch.setattr(reciprocal, name, size)
        np.testing.assert_allclose(dense(distances_of(features, 10, 4, 0.8)), dense(expected), atol=1e-6)


def test_the_nearest_keep_their_distance_where_there_are_too_many():
    features = blobs(60, 8, 0.5, kinds=2)
    whole = dense(distances_of(features, 10, 4))
    kept = distances_of(features, 10, 4, most=5)
    assert (np.isfinite(whole).sum(1) > 5).all() and kept.nnz <= 2 * 5 * 60
    for i in range(60):
        threshold = np.sort(whole[i])[4]
        assert np.isfinite(dense(kept)[i][whole[i] < threshold]).all()
    stored = np.isfinite(dense(kept))
    assert np.array_equal(dense(kept)[stored], whole[stored])


@pytest.mark.parametrize("copies", [False, True])
def test_memory_grows_with_n_times_k1(monkeypatch, copies):
    """This holds even if all images are equal, and so all are neighbours. N x N would take 16 MB in float32."""
    monkeypatch.setattr(reciprocal, "PAIRS", 2**14)
    monkeypatch.setattr(reciprocal, "ROWS", 2**7)
    n, k1 = 2000, 10
    features = np.full((n, 4), 0.5, np.float32) if copies else blobs(n, 8, kinds=100)
    lists = reciprocal.nearest(features, k1)
    tracemalloc.start()
    found = reciprocal.jaccard(reciprocal.encode(features, lists, k1, 4), 0.9, 4 * k1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n < found.nnz <= 2 * 4 * n * k1 and peak < 8e6 + 12 * found.nnz


def test_groups_are_those_of_dbscan_on_all_distances():
    features = blobs(160, 8, 0.45, kinds=8)
    for eps, least in ((0.3, 4), (0.5, 4), (0.5, 2), (0.6, 12)):
        expected = DBSCAN(eps=eps, min_samples=least, metric="precomputed").fit_predict(slow_distances(features, 10, 4))
        found = reciprocal.groups(features, 10, 4, eps, least)
        assert found.dtype == np.int64 and np.array_equal(found, expected)
        assert found.max() > 0 and (found == -1).any()  # there are clusters and outliers


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_rounding_does_not_decide_whether_copies_are_neighbours(seed):
    """Half of the rows are copies, and many distances equal eps. Products of +-1/8 are exact, so the neighbour lists
    agree."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([-1, 1], size=(16, 64))[rng.integers(16, size=80)]
    rows = np.where(rng.random(kinds.shape) < 0.2, -kinds, kinds)
    rows = np.concatenate([rows, rows[rng.integers(80, size=80)]])[rng.permutation(160)]
    features = (rows / 8).astype(np.float32)
    exact = slow_distances(features, 10, 6).round(9)
    assert (exact == 0.5).sum() >= 20 and not ((exact != 0.5) & (np.abs(exact - 0.5) < 1e-5)).any()
    expected = DBSCAN(eps=0.5, min_samples=4, metric="precomputed").fit_predict(exact)
    assert np.array_equal(reciprocal.groups(features, 10, 6, 0.5, 4), expected)


def test_groups_with_the_numbers_of_the_paper():
    """There are twelve classes of 40 images, far apart."""
    rows = 3 * np.eye(16)[[*range(12)] * 40] + 0.2 * np.random.default_rng(0).normal(size=(480, 16))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    assert reciprocal.groups(features).tolist() == [*range(12)] * 40


@pytest.mark.parametrize("n", [1, 3, 4, 31, 500])
def test_copies_of_one_image_are_a_group(n):
    """There are more copies than an image keeps distances."""
    assert reciprocal.groups(np.full((n, 4), 0.5, np.float32)).tolist() == [0 if n >= 4 else -1] * n


def test_copies_of_two_images_are_two_groups():
    """Stored distances of 0 must not look like missing ones."""
    features = np.repeat(np.eye(4, dtype=np.float32)[:2], 4, axis=0)
    assert reciprocal.groups(features, k1=4, k2=2).tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite(bad):
    features = blobs(10)
    features[3, 2] = bad
    with pytest.raises(InputError, match="^features are not finite: training has diverged"):
        reciprocal.groups(features)
