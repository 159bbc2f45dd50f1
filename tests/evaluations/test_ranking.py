"""MAP@R and R-Precision, against rankings one by one and pytorch-metric-learning; scores of a collapsed embedding."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings, strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

import evaluations.ranking
from evaluations.ranking import count_positives, precision_at_r
from evaluations.recall import recall_at_k
from utils.errors import InputError


def unit(rng, labels, spread=1.0, dim=16):
    """Return unit vectors around a direction for each class: float32 (N, dim)."""
    x = np.random.default_rng(0).normal(size=(labels.max() + 1, dim))[labels] + spread * rng.normal(size=(len(labels), dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def slow(query, query_labels, gallery=None, gallery_labels=None):
    """For every query, sort the gallery and go down the ranking, with exact fractions."""
    same_set = gallery is None
    if same_set:
        gallery, gallery_labels = query, query_labels
    average, precision = [], []
    for i in range(len(query)):
        others = [j for j in range(len(gallery)) if not (same_set and i == j)]
        others.sort(key=lambda j: -float(query[i].astype(np.float64) @ gallery[j].astype(np.float64)))
        correct = [bool(gallery_labels[j] == query_labels[i]) for j in others]
        r = sum(correct)
        if r:
            precision.append(Fraction(sum(correct[:r]), r))
            average.append(sum(Fraction(sum(correct[:k]), k) for k in range(1, r + 1) if correct[k - 1]) / r)
    return [float(sum(values) / len(values)) if values else float("nan") for values in (average, precision)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.integers(0, 10**6))
@example(1, 1, True, 0)
def test_equals_the_slow_way(n, classes, same_set, seed):
    """The examples include classes of one image, one class, one image, and queries without a positive."""
    rng = np.random.default_rng(seed)
    labels, gallery_labels = rng.integers(classes, size=n), rng.integers(classes, size=n + 3)
    sets = (unit(rng, labels), labels)
    if not same_set:
        sets += (unit(rng, gallery_labels), gallery_labels)
    similarities = np.sort(sets[0].astype(np.float64) @ sets[-2].T.astype(np.float64), axis=1)
    assume((np.diff(similarities, axis=1) > 1e-6).all())  # otherwise, rounding to float32 could change their order
    assert precision_at_r(*sets) == pytest.approx(slow(*sets), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("same_set", [True, False])
def test_equals_pytorch_metric_learning(same_set):
    """Classes have different sizes: from one image, which is left out, to about half of all images."""
    rng = np.random.default_rng(1)
    labels = np.minimum(rng.geometric(0.5, size=(2, 400)) - 1 + 12 * (rng.random((2, 400)) < 0.05), 30)
    query, gallery = unit(rng, labels[0], 2), unit(rng, labels[1], 2)
    sets = (query, labels[0]) if same_set else (query, labels[0], gallery, labels[1])
    calculator = AccuracyCalculator(
        ("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    expected = calculator.get_accuracy(*map(torch.from_numpy, sets))
    assert 0.1 < expected["mean_average_precision_at_r"] < 0.9
    got = precision_at_r(*sets)
    assert got.map_at_r == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
    assert got.r_precision == pytest.approx(expected["r_precision"], abs=1e-6)
    assert recall_at_k(*sets, ks=(1,)).at_k[1] == pytest.approx(expected["precision_at_1"], abs=1e-6)


def test_the_worked_example():
    """R is 4, and the positives are at places 1, 3 and 6: R-Precision is 2/4, MAP@R is (1/1 + 2/3) / 4."""
    angle = np.arange(8) / 8
    gallery, correct = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), np.array([1, 0, 1, 0, 0, 1, 0, 1])
    got = precision_at_r(gallery[:1], np.array([1]), gallery, correct)
    assert got == pytest.approx(((1 + 2 / 3) / 4, 1 / 2))


@pytest.mark.parametrize("labels", [np.arange(2000) // 10, np.repeat([0, 1, 2], [20, 380, 1600])])
@pytest.mark.parametrize("same_set", [True, False])
def test_a_collapsed_embedding_scores_as_chance(labels, same_set):
    """The images of a class lie next to each other in the list, as in every data set. That must not raise the scores."""
    same_image = np.full((len(labels), 64), 0.125, np.float32)
    sets = (same_image, labels) * (1 if same_set else 2)
    chance = count_positives(labels, *(() if same_set else (labels,))).double().mean() / (len(labels) - same_set)
    scores = [precision_at_r(*sets, seed=seed) for seed in range(20)]
    assert np.mean([score.r_precision for score in scores]) == pytest.approx(float(chance), rel=0.05)
    assert np.ptp([score.r_precision for score in scores]) < 0.1
    assert all(score.map_at_r <= score.r_precision for score in scores)
    assert precision_at_r(*sets) == scores[0]


@pytest.mark.parametrize("gap, tied", [(2e-6, False), (1e-7, True)])
def test_one_rule_for_ties_in_all_metrics(gap, tied):
    """The positive of each query is nearer than another image by a gap. All metrics must agree on whether that is a tie."""
    count = 400
    row = np.arange(count)  # each query has its own plane, so queries do not meet
    query, near, far = np.zeros((3, count, 2 * count), np.float32)
    query[row, 2 * row] = 1
    for images, cosine in ((near, 0.9995), (far, 0.9995 - gap)):
        images[row, 2 * row], images[row, 2 * row + 1] = cosine, np.sqrt(1 - cosine**2)
    sets = query, row, np.concatenate([near, far]), np.concatenate([row, np.full(count, -1)])
    expected = 0.5 if tied else 1
    assert recall_at_k(*sets, ks=(1,)).at_k[1] == pytest.approx(expected, abs=0.01)
    scores = [precision_at_r(*sets, seed=seed) for seed in range(5)]
    assert np.mean([score.r_precision for score in scores]) == pytest.approx(expected, abs=0.06)
    assert np.mean([score.map_at_r for score in scores]) == pytest.approx(expected, abs=0.06)


def test_degenerate_sets():
    rng = np.random.default_rng(0)
    pair = unit(rng, np.array([0, 1]))
    assert precision_at_r(pair, np.array([5, 5])) == (1, 1)
    assert np.isnan(precision_at_r(pair, np.array([5, 6]))).all()  # no query has a positive
    assert precision_at_r(pair, np.array([5, 6]), pair, np.array([6, 6])).r_precision == 1  # the query that has positives
    one_class = np.zeros(50, int)
    assert precision_at_r(unit(rng, one_class), one_class) == (1, 1)
    with pytest.raises(InputError, match="not finite"):
        precision_at_r(np.full((2, 4), np.nan, np.float32), np.array([0, 0]))


def test_blocks_and_types_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(9, size=300) ** 2 // 9
    features = unit(rng, labels)
    whole = precision_at_r(features, labels)
    assert precision_at_r(torch.from_numpy(features), torch.from_numpy(labels)) == whole
    coarse = torch.from_numpy(features).bfloat16()
    assert precision_at_r(coarse, labels) == precision_at_r(coarse.float(), labels)
    monkeypatch.setattr(evaluations.ranking, "BLOCK_BYTES", 4 * 300 * 50)
    assert precision_at_r(features, labels) == pytest.approx(whole, abs=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    rng = np.random.default_rng(0)
    labels = rng.integers(40, size=2000)
    features = unit(rng, labels, 2)
    assert precision_at_r(torch.from_numpy(features).cuda(), labels) == pytest.approx(
        precision_at_r(features, labels), abs=1e-5
    )


def test_count_positives():
    assert count_positives(np.array([3, 3, 8, 3])).tolist() == [2, 2, 0, 2]
    assert count_positives(np.array([3, -1]), np.array([8, 3, 3])).tolist() == [2, 0]
