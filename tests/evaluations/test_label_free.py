"""Scores without labels: their formula, what they tell apart, and what is said of them."""

import numpy as np
import pytest
import torch

from evaluations.label_free import CHOOSES, SCORES, label_free, overlap, verdict
from made_clusters import made, unit
from utils.clustering.agreement import nearest_others


def lists(crops, images, count, seed=0):
    """Return random lists of nearest images, int32 (crops, images, count)."""
    rng = np.random.default_rng(seed)
    draws = [[rng.choice(50, count, replace=False) for _ in range(images)] for _ in range(crops)]
    return np.array(draws, np.int32)


@pytest.mark.parametrize("crops, count", [(2, 1), (2, 20), (3, 5)])
def test_the_overlap_is_that_of_sets_with_the_next_crop_at_the_best_weight(crops, count):
    enlarged, nearest = lists(crops, 7, count), {weight: lists(crops, 7, count, seed=1 + weight) for weight in (0, 1, 2)}

    def by_hand(rows):
        shares = [
            len(set(rows[crop][image]) & set(enlarged[crop - 1][image])) / count
            for crop in range(crops)
            for image in range(7)
        ]
        return np.mean(shares)

    expected = [by_hand(rows) for rows in nearest.values()]
    scores = label_free({0: 0.2, 1: 0.7, 2: 0.6}, nearest, enlarged)
    assert list(scores) == list(SCORES)
    assert count == 1 or len(set(expected)) > 1
    assert scores == pytest.approx({CHOOSES: max(expected), "agreement": 0.7})


def test_lists_in_another_order_are_the_same():
    rows = lists(2, 5, 4)
    assert overlap(rows, rows[:, :, ::-1]) == 1 and overlap(rows, rows + 100) == 0


def test_a_net_without_neighbours_has_no_overlap():
    assert label_free({0: 0.0}, {}, lists(2, 5, 4)) == {CHOOSES: 0, "agreement": 0}
    alone = lists(2, 1, 0)  # one image has no other
    assert label_free({0: 0.0}, {0: alone}, alone) == {CHOOSES: 0, "agreement": 0}


def test_a_net_that_sees_the_classes_overlaps_more_than_a_noisy_one_and_than_one_that_sees_other_classes():
    """The last one agrees most with itself over crops, so agreement alone would choose it."""
    rows, _ = made(20, 300, spread=0.3)
    strangers, _ = made(20, 300, spread=0.3, seed=5)
    strangers = strangers[np.random.default_rng(0).permutation(300)]
    rng = np.random.default_rng(1)

    def nearest(features, noise):
        views = [
            torch.from_numpy(unit(features + noise * rng.normal(size=features.shape)).astype(np.float32)) for _ in "abc"
        ]
        return np.stack([nearest_others(crop, views[0], 10).numpy() for crop in views[1:]])

    judge = nearest(rows, 0.05)
    clear, noisy, other = (
        label_free({0: 0.5}, {0: nearest(*seen)}, judge)[CHOOSES] for seen in ((rows, 0.1), (rows, 0.2), (strangers, 0.01))
    )
    assert clear > noisy + 0.05 and noisy > other + 0.05


def test_the_verdict_names_the_net_with_the_highest_score_and_the_first_of_equals():
    scores = [{CHOOSES: 0.5, "agreement": 0.5}, {CHOOSES: 0.7, "agreement": 0.6}, {CHOOSES: 0.7, "agreement": 0.9}]
    said = verdict(["frozen backbone", "epoch 1", "epoch 2"], [None, "a.pth.tar", "b.pth.tar"], scores, 24)
    assert said.startswith("without labels, by 24 training images:\n") and said.endswith("the best is epoch 1: a.pth.tar")
    said = verdict(["frozen backbone", "epoch 1"], [None, "a.pth.tar"], [scores[0], scores[0]], 24)
    assert "the best is frozen backbone: training did not help" in said
    assert "the best is" not in verdict(["epoch 1"], ["a.pth.tar"], scores[:1], 24)
