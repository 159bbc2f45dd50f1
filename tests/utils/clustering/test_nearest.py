"""Nearest rows: exact ones against a sorted list, and those of the inverted file against the exact ones."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from test_reciprocal import blobs, dense

from utils.clustering import nearest, reciprocal
from utils.errors import InputError


def halves(n, seed):
    """Return rows of four times +-0.5: products are exact, and most are equal."""
    return np.random.default_rng(seed).choice(np.float32([-0.5, 0.5]), size=(n, 4))


def slow(features, k):
    """Sort all rows, the nearest first and equally near ones by index."""
    similar, n = (features @ features.T).tolist(), len(features)
    others = lambda i: sorted((j for j in range(n) if j != i), key=lambda j: (-similar[i][j], j))
    return [[i, *others(i)][:k] for i in range(n)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 30), st.sampled_from([1, 100, 10**6]), st.integers(0, 10**6))
def test_neighbours_are_the_nearest_and_equally_near_ones_come_by_index(n, k, block, seed):
    features = halves(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "NUMBERS_AT_ONCE", block)
        found = nearest.nearest(features, k)
    assert found.dtype == np.int32 and found.tolist() == slow(features, k)


@settings(max_examples=60, deadline=None)
@given(st.integers(9, 90), st.integers(1, 9), st.sampled_from([1, 100, 10**6]), st.integers(0, 10**6))
def test_the_inverted_file_with_all_cells_is_exact(n, k, block, seed):
    """Among equally near rows too. Some cells are empty, and most hold fewer than k rows."""
    features = halves(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "NUMBERS_AT_ONCE", block)
        cells = nearest.InvertedFile(torch.from_numpy(features))
        found = cells.search(torch.arange(n), k, cells.count)
    assert found.tolist() == slow(features, k)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_few_cells(k):
    """Each row has k different neighbours, the nearest first, and is its own nearest, however few cells are probed."""
    features = blobs(500, 8, kinds=20)
    cells = nearest.InvertedFile(torch.from_numpy(features))
    found = cells.search(torch.arange(500), k, 1)
    assert found[:, 0].tolist() == list(range(500)) and all(len(set(row)) == k for row in found.tolist())
    similar = np.take_along_axis(features @ features.T, found.astype(np.int64), 1)
    assert (np.diff(similar[:, 1:], axis=1) < 1e-6).all()


@pytest.fixture
def indexed(monkeypatch, caplog):
    """Let 1,000 rows or more be indexed. indexed() returns the log."""
    monkeypatch.setattr(nearest, "INDEXED", 1000)
    monkeypatch.setattr(nearest, "BLOCK", 300)
    caplog.set_level(logging.INFO, "udml")
    logging.getLogger("udml").addHandler(caplog.handler)
    yield lambda: caplog.messages
    logging.getLogger("udml").removeHandler(caplog.handler)


def test_recall_is_what_is_said(indexed, monkeypatch):
    features = blobs(3000, 16, 0.5, kinds=40)
    exact = np.array(slow(features, 10))
    assert nearest.nearest(features[:999], 10).tolist() == slow(features[:999], 10) and not indexed()
    found = nearest.nearest(features, 10)
    recall = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), exact.tolist())])
    (line,) = indexed()
    assert line.startswith("10 neighbours of 3,000 images by an inverted file, ") and " of 109 cells each; recall " in line
    said = float(line.split("; recall ")[1].split()[0])
    assert 0.95 <= said < 1 and abs(recall - said) < 0.01
    monkeypatch.setattr(nearest, "RECALL", 1.1)  # out of reach
    assert (nearest.nearest(features, 10) == exact).mean() > 0.99 and "images, exactly: an inverted file" in indexed()[1]


def test_jaccard_distances_by_the_inverted_file(indexed, monkeypatch):
    """The pairs nearer than 0.6 are nearly the same as with exact neighbours."""
    features = blobs(1500, 16, 0.35, kinds=60)
    near = lambda: dense(reciprocal.jaccard(reciprocal.weights_of(features, 12, 3, "cpu"), 0.9, 48)) < 0.6
    by_file = near()
    monkeypatch.setattr(nearest, "INDEXED", 10**6)
    exact = near()
    assert indexed() and (by_file & exact).sum() > 0.97 * max(by_file.sum(), exact.sum())


def test_copies_stay_together(indexed):
    """Each picture occurs 30 times, more often than it has neighbours: those of the lowest index, and itself."""
    features = np.tile(blobs(50, 16, kinds=50), (30, 1))
    found = nearest.nearest(features, 10)
    for i, row in enumerate(found.tolist()):
        copies = [j for j in range(i % 50, 1500, 50) if j != i]
        assert row == [i, *copies[:9]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite(indexed, bad):
    features = blobs(1200)
    features[30, 2] = bad
    with pytest.raises(InputError, match="^features are not finite: training has diverged"):
        nearest.nearest(features, 5)
