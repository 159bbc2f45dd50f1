"""Scores without labels: against slow versions, and on good and bad nets."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from evaluations import label_free as module
from evaluations.label_free import CHOOSES, SCORES, clusterings, effective_rank, judge, label_free, reciprocity
from made_clusters import made, unit
from utils.clustering.kmeans import kmeans


def test_reciprocity_is_that_of_loops(monkeypatch):
    monkeypatch.setattr(module, "DEPTHS", (1, 3, 50))
    rows, _ = made(4, 20, spread=0.5)
    similar = rows @ rows.T
    shares = []
    for k in (1, 3, 19):
        lists = [sorted((j for j in range(20) if j != i), key=lambda j: -similar[i, j])[:k] for i in range(20)]
        shares.append(np.mean([i in lists[j] for i in range(20) for j in lists[i]]))
    assert reciprocity(rows) == pytest.approx(np.mean(shares)) and shares[2] == 1 > shares[0]


def test_clusterings_agree_where_there_are_some():
    clear, _ = made(10, 100, spread=0.01)
    none = unit(np.random.default_rng(0).normal(size=(100, 32)))
    pairs = [
        adjusted_rand_score(kmeans(none, 10, seed=a).labels, kmeans(none, 10, seed=b).labels)
        for a, b in ((4, 5), (4, 6), (5, 6))
    ]
    assert clusterings(clear) > 0.8 > 0.5 > clusterings(none, seed=4) == pytest.approx(np.mean(pairs))


def test_effective_rank_counts_directions():
    plane = np.zeros((100, 8), np.float32)
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    plane[:, 0], plane[:, 1] = np.cos(angles), np.sin(angles)
    assert effective_rank(plane) == pytest.approx(2, abs=1e-4)
    assert effective_rank(np.tile(plane[:1], (9, 1))) == pytest.approx(1, abs=1e-3)


def test_a_net_that_knows_classes_has_the_better_scores():
    known, truth = made(20, 300, spread=0.3)
    directions = unit(np.random.default_rng(0).normal(size=(20, 32)))
    rng = np.random.default_rng(1)

    def seen(spread, crops=2):
        return [np.abs(unit(directions[truth] + spread * rng.normal(size=(300, 32)))) for _ in range(1 + crops)]

    good, bad = (label_free(parts[0], parts[1:], known) for parts in (seen(0.05), seen(1.0)))
    assert list(good) == list(SCORES)
    assert good["evidence"] ** 2 == pytest.approx(good["learnability"] * good["agreement"])
    assert all(good[name] > bad[name] for name in (CHOOSES, "clusterings"))


def test_judge_shows_the_same_images_to_all():
    asked, rng = [], np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(30, 16)).astype(np.float32))

    def crops(seed):
        asked.append(seed)
        yield torch.arange(30), images + 0.1 * len(asked), []

    def twice(batch):
        return (2 * batch,)

    first, second = judge([twice, lambda batch: (batch,)], lambda batch: (batch,), crops, 30, "stop", seed=7)
    assert first == second and first.keys() == SCORES.keys()  # equal, because features are scaled to length one
    assert asked == [None, (7, 0), (7, 1)]
