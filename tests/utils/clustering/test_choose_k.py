"""Choosing the number of clusters: it finds the number of synthetic clusters, and its measure is as defined."""

import math

import numpy as np
import pytest

from made_clusters import made, unit
from utils.clustering.choose_k import LEAST, _agreement, choose_k, nearest_centre


@pytest.mark.parametrize("clusters, count", [(2, 100), (3, 200), (6, 300), (20, 600), (50, 1500)])
def test_finds_how_many_clusters_there_are(clusters, count):
    rows, _ = made(clusters, count)
    assert clusters / 1.5 < choose_k(rows) < clusters * 1.5  # one step is a factor of sqrt(2)


def test_the_number_is_bounded_by_the_images():
    """All images differ, so no number is right. Still, clusters have LEAST images on average, or more."""
    assert 1 <= choose_k(unit(np.random.default_rng(0).normal(size=(40, 64)))) <= 40 / LEAST


def test_agreement_is_the_information_above_chance():
    """If both halves find the same clusters, the mutual information is the entropy of the clusters' sizes."""
    rows, truth = made(4, 200)
    sizes = np.bincount(truth) / len(truth)

    def information(one, other):
        table = np.zeros((4, 4))
        np.add.at(table, (one, other), 1 / len(one))
        both = table.sum(1, keepdims=True) * table.sum(0)
        return sum(p * math.log(p / q) for p, q in zip(table.flat, both.flat) if p)

    rng = np.random.default_rng(0)
    chance = np.mean([information(truth, rng.permutation(truth)) for _ in range(2000)])
    assert information(truth, truth) == pytest.approx(-(sizes * np.log(sizes)).sum())
    assert _agreement(rows, 4, 0) == pytest.approx(information(truth, truth) - chance, abs=2e-3)


def test_of_many_rows_it_looks_at_some(monkeypatch):
    monkeypatch.setattr("utils.clustering.choose_k.TRIED", 200)
    rows, _ = made(6, 3000)
    seen = []
    monkeypatch.setattr(
        "utils.clustering.choose_k._agreement", lambda rows, k, seed: seen.append(len(rows)) or float(k == 8)
    )
    assert choose_k(rows) == 8 and set(seen) == {200}


def test_centres_that_differ_by_rounding_are_one():
    rows = np.repeat(unit(np.random.default_rng(0).normal(size=(1, 512))), 300, axis=0)
    assert not nearest_centre(rows, np.concatenate([rows[:1], rows[:1] * np.float32(1 + 2e-7)])).any()
