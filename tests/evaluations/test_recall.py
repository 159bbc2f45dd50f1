"""Recall@K, against rankings one by one, and the scores of a collapsed embedding."""

import itertools
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import evaluations.recall
from evaluations.recall import recall_at_k
from utils.errors import InputError

KS = (1, 2, 4, 8, 1000)  # the last K is larger than the number of images


def slow_recall(query, query_labels, gallery, gallery_labels, same_set):
    """For every query, go through the gallery. Ties count by the hypergeometric probability of a miss, in exact integers."""
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


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 25),
    st.integers(1, 6),
    st.sampled_from([1, 4]),
    st.sampled_from(["random", "coarse", "collapsed", "zero"]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_equals_the_slow_way(n, classes, dim, kind, same_set, seed):
    rng = np.random.default_rng(seed)

    def unit(count):
        x = np.ones((count, dim)) if kind == "collapsed" else rng.normal(size=(count, dim))
        x = np.sign(x) if kind == "coarse" else x  # this gives many exact ties
        return ((kind != "zero") * x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    query, labels = unit(n), rng.integers(classes, size=n)
    gallery, gallery_labels = (query, labels) if same_set else (unit(n + 3), rng.integers(classes, size=n + 3))
    expected, without = slow_recall(query, labels, gallery, gallery_labels, same_set)
    got = recall_at_k(query, labels, *(() if same_set else (gallery, gallery_labels)), ks=KS)
    assert got.without_positive == without and got.queries == n - without
    assert got.at_k == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_ties_count_by_expectation_over_all_orders():
    """There is one query, two tied positives and three tied negatives. The result is the mean over all 120 orders of the
    gallery."""
    gallery_labels = [0, 0, 1, 1, 1]
    orders = list(itertools.permutations(gallery_labels))
    got = recall_at_k(
        np.ones((1, 1), np.float32), np.array([0]), np.ones((5, 1), np.float32), np.array(gallery_labels), ks=(1, 2, 3, 4)
    )
    for k in (1, 2, 3, 4):
        assert got.at_k[k] == pytest.approx(np.mean([0 in order[:k] for order in orders]), abs=1e-6)


def test_a_collapsed_embedding_looks_broken():
    """The original gives it 100 %."""
    features = np.full((1000, 512), 512**-0.5, np.float32)
    assert recall_at_k(features, np.arange(1000) // 10).at_k[1] == pytest.approx(9 / 999, abs=1e-6)


@pytest.mark.parametrize("same_set", [True, False])
@pytest.mark.parametrize("block, class_block", [(8, 3), (16, 50), (24, 1)])
def test_blocks_do_not_change_the_result(monkeypatch, same_set, block, class_block):
    rng = np.random.default_rng(0)
    unit = lambda rows: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    features, labels = unit(rng.normal(size=(50, 8))), rng.integers(5, size=50)
    gallery = () if same_set else (unit(rng.normal(size=(61, 8))), rng.integers(6, size=61))
    whole = recall_at_k(features, labels, *gallery)
    monkeypatch.setattr(evaluations.recall, "BLOCK_SIDE", block)
    monkeypatch.setattr(evaluations.recall, "QUERIES_AT_ONCE", class_block)
    assert recall_at_k(features, labels, *gallery) == whole


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 600), st.integers(1, 700), st.floats(0, 1), st.integers(0, 1), st.integers(0, 10**6))
def test_count_is_the_sum(rows, columns, share, dim, seed):
    hits = torch.from_numpy(np.random.default_rng(seed).random((rows, columns)) < share)
    assert torch.equal(evaluations.recall._count(hits, dim), hits.sum(dim))


def test_count_does_not_overflow():
    hits = torch.ones(2040, 4080, dtype=torch.bool)
    assert (evaluations.recall._count(hits, 0) == 2040).all() and (evaluations.recall._count(hits, 1) == 4080).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    rng = np.random.default_rng(0)
    features = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(300, 16))), dim=1).to(dtype)
    labels = rng.integers(40, size=300)
    assert recall_at_k(features, labels) == recall_at_k(features.float().numpy(), labels)


def test_many_k_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    features = np.sign(rng.normal(size=(120, 6))).astype(np.float32) / 6**0.5
    labels = rng.integers(12, size=120)
    together = recall_at_k(features, labels, ks=range(1, 200)).at_k
    assert together == {k: recall_at_k(features, labels, ks=(k,)).at_k[k] for k in range(1, 200)}
    assert together[199] == pytest.approx(1)


def test_diverged_features_are_refused():
    features = np.ones((4, 2), np.float32)
    features[2, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        recall_at_k(features, np.array([0, 0, 1, 1]))
