"""Scores without labels: their formula, what they tell apart, and what is said of them."""

import numpy as np
import pytest
import torch

from evaluations.label_free import CHOOSES, COLLAPSED, SCORES, label_free as scores_of, verdict
from made_clusters import made, unit
from utils.clustering.agreement import soft_agreement

BEFORE = {0: 0.4, 1: 0.9, 2: 0.6}


def label_free(agreement, before):
    """Return the scores of a net that uses as many directions as before training."""
    return scores_of(agreement, 100.0, before, 100.0)


def test_evidence_is_the_best_geometric_mean_over_the_weights():
    own = {0: 0.9, 1: 0.5, 2: 0.8}
    scores = label_free(own, BEFORE)
    assert list(scores) == list(SCORES)
    assert scores == pytest.approx(
        {CHOOSES: max((0.9 * 0.4) ** 0.5, (0.5 * 0.9) ** 0.5, (0.8 * 0.6) ** 0.5), "agreement": 0.9, "rank": 100}
    )
    assert label_free(BEFORE, BEFORE) == pytest.approx({CHOOSES: 0.9, "agreement": 0.9, "rank": 100})


def test_a_rise_where_the_untrained_net_disagrees_is_no_evidence():
    """Training that raises the agreement of small weights alone has not helped, though its agreement is the highest."""
    trained = {0: 0.95, 1: 0.85, 2: 0.5}
    start = label_free(BEFORE, BEFORE)
    assert label_free(trained, BEFORE)["agreement"] > start["agreement"]
    assert label_free(trained, BEFORE)[CHOOSES] < start[CHOOSES]


def test_a_net_that_shows_classes_in_every_crop_has_more_evidence_than_a_noisy_one():
    rows, _ = made(20, 300, spread=0.3)
    rng = np.random.default_rng(1)

    def agreement(noise):
        views = [torch.from_numpy(unit(rows + noise * rng.normal(size=rows.shape)).astype(np.float32)) for _ in range(3)]
        return {0: soft_agreement(views[0], views[1:])}

    clear, noisy = agreement(0.02), agreement(0.5)
    assert label_free(clear, noisy)[CHOOSES] > label_free(noisy, noisy)[CHOOSES] + 0.1


@pytest.mark.parametrize("share, collapsed", [(COLLAPSED * 0.99, True), (COLLAPSED, False), (3, False)])
def test_a_net_that_has_collapsed_has_no_evidence_however_well_its_crops_agree(share, collapsed):
    perfect = dict.fromkeys(BEFORE, 1.0)
    assert (scores_of(perfect, 100 * share, BEFORE, 100.0)[CHOOSES] == 0) == collapsed


def test_the_verdict_names_the_net_with_the_most_evidence_and_the_first_of_equals():
    scores = [{CHOOSES: 0.5, "agreement": 0.5}, {CHOOSES: 0.7, "agreement": 0.6}, {CHOOSES: 0.7, "agreement": 0.9}]
    said = verdict(["frozen backbone", "epoch 1", "epoch 2"], [None, "a.pth.tar", "b.pth.tar"], scores, 24)
    assert said.startswith("without labels, by 24 training images:\n") and said.endswith("the best is epoch 1: a.pth.tar")
    said = verdict(["frozen backbone", "epoch 1"], [None, "a.pth.tar"], [scores[0], scores[0]], 24)
    assert "the best is frozen backbone: training did not help" in said
    assert "the best is" not in verdict(["epoch 1"], ["a.pth.tar"], scores[:1], 24)
