"""Neighbour agreement, against loops over images."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from utils.clustering import agreement
from utils.clustering.agreement import nearest_other, neighbour_agreement


def nearest_by_hand(row, i, centre):
    best = None
    for j in range(len(centre)):
        if j != i and (best is None or row @ centre[j] > row @ centre[best]):
            best = j
    return best


def by_hand(centre, crops):
    pairs = [(0, 1)] if len(crops) == 2 else [(k, (k + 1) % len(crops)) for k in range(len(crops))]
    same = [
        nearest_by_hand(crops[a][i], i, centre) == nearest_by_hand(crops[b][i], i, centre)
        for a, b in pairs
        for i in range(len(centre))
    ]
    return sum(same) / len(same)


def some(images, crops, spread=0.4):
    """Return random embeddings of images' central crops, and embeddings of random crops around them."""
    rng = np.random.default_rng(images + crops)
    centre = rng.normal(size=(images, 5))
    around = [centre + spread * rng.normal(size=centre.shape) for _ in range(crops)]
    return normalize(torch.tensor(centre)), [normalize(torch.tensor(rows)) for rows in around]


@pytest.mark.parametrize("block", [1, 4, 1024])
@pytest.mark.parametrize("images, crops", [(3, 2), (17, 2), (17, 3), (12, 5)])
def test_agreement_is_that_of_loops(monkeypatch, block, images, crops):
    monkeypatch.setattr(agreement, "QUERIES_AT_ONCE", block)
    centre, views = some(images, crops)
    expected = by_hand(centre.numpy(), [rows.numpy() for rows in views])
    assert neighbour_agreement(centre, views) == pytest.approx(expected, abs=1e-6)
    assert images == 3 or 0.1 < expected < 0.95  # otherwise, the test would show nothing


@pytest.mark.parametrize("block", [1, 4, 1024])
def test_the_nearest_other_image_is_that_of_loops(monkeypatch, block):
    monkeypatch.setattr(agreement, "QUERIES_AT_ONCE", block)
    centre, (rows, _) = some(11, 2)
    assert nearest_other(rows, centre).tolist() == [nearest_by_hand(rows[i], i, centre) for i in range(11)]


@pytest.mark.parametrize("images", [0, 1, 2])
def test_few_images_have_no_choice(images):
    assert neighbour_agreement(torch.ones(images, 4), [torch.ones(images, 4)] * 2) == 0


def test_duplicates_find_each_other():
    centre, _ = some(6, 2)
    twice = centre.repeat(2, 1)
    assert neighbour_agreement(twice, [twice, twice.clone()]) == 1


def test_crops_that_do_not_move_agree_and_embeddings_of_nothing_do_no_harm():
    centre, _ = some(9, 2)
    assert neighbour_agreement(centre, [centre, centre, centre]) == 1
    assert 0 <= neighbour_agreement(torch.zeros(9, 5), [torch.zeros(9, 5)] * 2) <= 1


def test_what_it_is_given_stays_as_it_is():
    centre, views = some(8, 3)
    before = [rows.clone() for rows in (centre, *views)]
    neighbour_agreement(centre, views)
    assert all(map(torch.equal, before, (centre, *views)))
