"""Learnability on synthetic clusters: against a slow version, and under changes that must not change it."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from evaluations import learnability as module
from evaluations.learnability import fixed_space, learnability
from made_clusters import made, unit
from utils.clustering.kmeans import kmeans


def ridge_by_hand(known, clusters, new):
    """Fit one ridge regression to 1 and -1 for each cluster, with a free offset. The cluster with the largest value wins."""
    middle = known.mean(0)
    k = clusters.max() + 1
    targets = np.where(clusters[:, None] == np.arange(k), 1.0, -1.0)
    centred = (known - middle).astype(np.float64)
    weights = np.linalg.solve(centred.T @ centred + np.eye(known.shape[1]), centred.T @ (targets - targets.mean(0)))
    return ((new - middle) @ weights + targets.mean(0)).argmax(1)


def test_it_is_the_accuracy_of_ridge_classifiers(monkeypatch):
    monkeypatch.setattr(module, "CLUSTERINGS", 2)
    rows, _ = made(8, 100, spread=0.3)
    known = unit(rows + 0.2 * np.random.default_rng(1).normal(size=rows.shape))
    right = []
    for seed in (3, 4):
        clusters = kmeans(rows, 10, seed=seed).labels
        for part in (0, 1):
            seen = np.arange(100) % 2 != part
            assert len(np.unique(clusters[seen])) == 10
            right.append(np.mean(ridge_by_hand(known[seen], clusters[seen], known[~seen]) == clusters[~seen]))
    assert learnability(rows, known, seed=3) == pytest.approx(np.mean(right))
    assert 0.3 < np.mean(right) < 1  # otherwise, the test would show little


def test_clean_classes_beat_noisy_and_memorised_ones():
    truth_rows, truth = made(20, 400, spread=0.02)
    known, _ = made(20, 400, spread=0.3, seed=0)  # the same clusters, less clear
    by_heart, _ = made(20, 400, spread=0.02, seed=5)  # other clusters, which the description does not show
    by_heart = by_heart[np.random.default_rng(0).permutation(400)]
    clean, noisy, wrong = (learnability(rows, known) for rows in (truth_rows, known, by_heart))
    assert clean > noisy + 0.05 and wrong < 0.3 < noisy


def test_nothing_to_tell_apart_is_worth_nothing():
    one = np.tile(unit(np.ones((1, 8))), (2, 1))
    assert learnability(one, one) == 0


def test_the_fixed_space_is_a_pca_of_the_roots_partly_whitened():
    rng = np.random.default_rng(0)
    features = unit(rng.gamma(1.0, size=(300, 40)))
    space, again, half = fixed_space(features, features, features[:9])
    assert np.array_equal(space, again) and np.allclose(space[:9], half, atol=1e-6)
    assert space.dtype == np.float32 and space.shape == (300, 40) and np.allclose(np.linalg.norm(space, axis=1), 1)
    roots = np.sqrt(features) / np.linalg.norm(np.sqrt(features), axis=1, keepdims=True)
    peer = PCA().fit(roots)
    values = peer.explained_variance_ * 299 / 300
    expected = unit(peer.transform(roots) * (values + values.mean()) ** -0.25)
    assert np.allclose(np.abs(space @ space.T), np.abs(expected @ expected.T), atol=1e-4)


def test_the_fixed_space_of_wide_features_and_of_equal_ones():
    wide = unit(np.abs(np.random.default_rng(1).normal(size=(50, 600))))
    assert fixed_space(wide)[0].shape == (50, module.DIM)
    assert np.isfinite(fixed_space(np.tile(wide[:1], (5, 1)))[0]).all()
