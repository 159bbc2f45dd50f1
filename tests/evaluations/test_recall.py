"""Recall@K against rankings one by one, and against the published idea of what a collapsed embedding is worth."""

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import evaluations.recall
from evaluations.recall import recall_at_k

KS = (1, 2, 4, 8)


def slow_recall(query, query_labels, gallery, gallery_labels, same_set):
    """For every query, go through the gallery; ties by the hypergeometric probability of a miss, in exact integers."""
    hits, without = {k: [] for k in KS}, 0
    for i in range(len(query)):
        others = [j for j in range(len(gallery)) if not (same_set and i == j)]
        sims = {j: float(query[i].astype(np.float64) @ gallery[j].astype(np.float64)) for j in others}
        positives = [j for j in others if gallery_labels[j] == query_labels[i]]
        if not positives:
            without += 1
            continue
        best = max(sims[j] for j in positives)
        above = sum(s > best + 1e-6 for s in sims.values())
        tied = [j for j in others if abs(sims[j] - best) <= 1e-6]
        p = sum(j in positives for j in tied)
        for k in KS:
            m = min(max(k - above, 0), len(tied))
            hits[k].append(1 - comb(len(tied) - p, m) / comb(len(tied), m))
    return {k: np.mean(v) if v else float("nan") for k, v in hits.items()}, without


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 25), st.integers(1, 6), st.sampled_from(["random", "coarse", "collapsed"]),
       st.booleans(), st.integers(0, 10**6))
def test_equals_the_slow_way(n, classes, kind, same_set, seed):
    rng = np.random.default_rng(seed)

    def unit(count):
        x = np.ones((count, 4)) if kind == "collapsed" else rng.normal(size=(count, 4))
        x = np.sign(x) if kind == "coarse" else x  # many exact ties
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    query, labels = unit(n), rng.integers(classes, size=n)
    gallery, gallery_labels = (query, labels) if same_set else (unit(n + 3), rng.integers(classes, size=n + 3))
    expected, without = slow_recall(query, labels, gallery, gallery_labels, same_set)
    got = recall_at_k(query, labels, *(() if same_set else (gallery, gallery_labels)), ks=KS)
    assert got.without_positive == without and got.queries == n - without
    assert got.at == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_ties_count_by_expectation_over_all_orders():
    """One query, two tied positives, three tied negatives: the mean over all 120 orders of the gallery."""
    gallery_labels = [0, 0, 1, 1, 1]
    orders = list(itertools.permutations(gallery_labels))
    got = recall_at_k(np.ones((1, 1), np.float32), np.array([0]), np.ones((5, 1), np.float32), np.array(gallery_labels),
                      ks=(1, 2, 3, 4))
    for k in (1, 2, 3, 4):
        assert got.at[k] == pytest.approx(np.mean([0 in order[:k] for order in orders]), abs=1e-6)


def test_a_collapsed_embedding_looks_broken():
    """The original scores it 100 %."""
    features = np.full((1000, 512), 512**-0.5, np.float32)
    assert recall_at_k(features, np.arange(1000) // 10).at[1] == pytest.approx(9 / 999, abs=1e-6)


def test_blocks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    labels = rng.integers(5, size=50)
    whole = recall_at_k(features, labels)
    monkeypatch.setattr(evaluations.recall, "BLOCK_BYTES", 4 * 50 * 7)
    assert recall_at_k(features, labels) == whole
