"""Agreement of crops, against loops over images."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from utils.clustering import agreement
from utils.clustering.agreement import nearest_other, neighbour_agreement, soft_agreement


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


def soft_by_hand(centre, crops, temperature=1):
    distributions = []
    for rows in crops:
        similar = [[rows[i] @ centre[j] for j in range(len(centre)) if j != i] for i in range(len(centre))]
        mean = sum(map(sum, similar)) / (len(centre) * (len(centre) - 1))
        squares = sum((value - mean) ** 2 for row in similar for value in row)
        deviation = (squares / (len(centre) * (len(centre) - 1) - 1)) ** 0.5
        powers = [[math.exp(value / temperature / deviation) for value in row] for row in similar]
        distributions.append([value / sum(row) for row in powers for value in row])
    pairs = [(0, 1)] if len(crops) == 2 else [(k, (k + 1) % len(crops)) for k in range(len(crops))]
    dot = lambda a, b: sum(x * y for x, y in zip(distributions[a], distributions[b]))
    return sum(dot(a, b) / math.sqrt(dot(a, a) * dot(b, b)) for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
@pytest.mark.parametrize("images, crops", [(3, 2), (17, 2), (17, 3), (12, 5)])
def test_soft_agreement_is_that_of_loops(images, crops, temperature):
    centre, views = some(images, crops)
    expected = soft_by_hand(centre.numpy(), [rows.numpy() for rows in views], temperature)
    assert soft_agreement(centre, views, temperature) == pytest.approx(expected, abs=1e-6)
    assert temperature == 1 or soft_agreement(centre, views) != pytest.approx(expected, abs=1e-3)
    assert 0.1 < expected < 0.98


def test_soft_agreement_does_not_depend_on_the_spread_of_similarities():
    centre, views = some(17, 2)
    assert soft_agreement(3 * centre, [rows / 5 for rows in views]) == pytest.approx(soft_agreement(centre, views), abs=1e-6)


@pytest.mark.parametrize("block", [1, 4, 1024])
def test_the_nearest_other_image_is_that_of_loops(monkeypatch, block):
    monkeypatch.setattr(agreement, "QUERIES_AT_ONCE", block)
    centre, (rows, _) = some(11, 2)
    assert nearest_other(rows, centre).tolist() == [nearest_by_hand(rows[i], i, centre) for i in range(11)]


@pytest.mark.parametrize("images", [0, 1, 2])
def test_few_images_have_no_choice(images):
    assert soft_agreement(torch.ones(images, 4), [torch.ones(images, 4)] * 2) == 0
    assert neighbour_agreement(torch.ones(images, 4), [torch.ones(images, 4)] * 2) == 0


def test_duplicates_find_each_other():
    centre, _ = some(6, 2)
    twice = centre.repeat(2, 1)
    assert neighbour_agreement(twice, [twice, twice.clone()]) == 1


def test_crops_that_do_not_move_agree_and_embeddings_of_nothing_do_no_harm():
    centre, _ = some(9, 2)
    assert neighbour_agreement(centre, [centre, centre, centre]) == 1
    assert soft_agreement(centre, [centre, centre, centre]) == pytest.approx(1)
    assert 0 <= neighbour_agreement(torch.zeros(9, 5), [torch.zeros(9, 5)] * 2) <= 1
    assert soft_agreement(torch.zeros(9, 5), [torch.zeros(9, 5)] * 2) == pytest.approx(1)


def test_what_it_is_given_stays_as_it_is():
    centre, views = some(8, 3)
    before = [rows.clone() for rows in (centre, *views)]
    neighbour_agreement(centre, views)
    soft_agreement(centre, views)
    assert all(map(torch.equal, before, (centre, *views)))
