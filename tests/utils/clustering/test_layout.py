"""The map, against slow definitions, on synthetic embeddings with known clusters."""

import warnings

import numpy as np
import pytest

from made_clusters import made, mapped, unit
from utils import arrays
from utils.clustering import layout as layout_file
from utils.clustering.layout import layout
from utils.errors import InputError


def neighbours(points, k):
    """Return the k nearest other points of each point: int64 (N, k)."""
    distance = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    return distance.argsort(1)[:, :k]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9, 10, 11, 40])
def test_any_number_of_images_has_places_in_the_square(count, dtype):
    rows = unit(np.random.default_rng(0).normal(size=(count, 16)) if count else np.ones((0, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        places = layout(rows.astype(dtype))
    assert places.shape == (count, 2) and places.dtype == np.float32
    assert np.isfinite(places).all() and (places >= 0).all() and (places <= 1).all()
    if count > 1:
        assert np.ptp(places, axis=0).max() == pytest.approx(1)


@pytest.mark.parametrize("d", [1, 2])
def test_embeddings_of_one_or_two_numbers(d):
    rows = unit(np.random.default_rng(0).normal(size=(30, d)))
    places = layout(rows)
    assert places.shape == (30, 2) and np.isfinite(places).all()


def test_one_image_and_equal_images_lie_in_the_middle():
    row = unit(np.random.default_rng(0).normal(size=(1, 512)))
    for count in (1, 2, 9, 50):
        assert layout(np.repeat(row, count, axis=0)) == pytest.approx(np.full((count, 2), 0.5))


def test_three_images_keep_their_distances():
    """Three points always lie in a plane."""
    rows = unit(np.random.default_rng(1).normal(size=(3, 16)))
    places = layout(rows)
    pairs = [(0, 1), (0, 2), (1, 2)]
    ratios = [np.linalg.norm(places[i] - places[j]) / np.linalg.norm(rows[i] - rows[j]) for i, j in pairs]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-3)


def test_look_alikes_are_neighbours_on_the_map():
    """The clusters are in 32 dimensions. The two principal components separate only some of them."""
    from sklearn.decomposition import PCA

    rows, truth = made(15, 300)
    shares = [(truth[neighbours(at, 10)] == truth[:, None]).mean() for at in (layout(rows), PCA(2).fit_transform(rows))]
    assert shares[0] > 0.95 and shares[1] < 0.8


def test_images_beyond_the_sample_lie_beside_their_nearest(monkeypatch):
    monkeypatch.setattr(layout_file, "MAPPED", 120)
    monkeypatch.setattr(arrays, "ROWS", 64)
    rows, truth = made(8, 500)
    places = layout(rows)
    placed, _ = arrays.sample_rows(rows, 120, 0)
    distance = np.linalg.norm(places[placed][:, None] - places[placed][None], axis=2)
    gaps = np.sort(distance, axis=1)[:, 3]  # the first distance is to the point itself
    for row in np.setdiff1d(np.arange(500), placed):
        nearest = int((rows[placed] @ rows[row]).argmax())
        assert np.linalg.norm(places[row] - places[placed[nearest]]) <= gaps[nearest] / 2 + 1e-5
    assert (truth[neighbours(places, 10)] == truth[:, None]).mean() > 0.95
    assert len(np.unique(places.round(6), axis=0)) > 450  # hardly any point hides another


def test_the_same_seed_gives_the_same_map(tmp_path, monkeypatch):
    monkeypatch.setattr(layout_file, "MAPPED", 80)
    rows, _ = made(5, 150)
    assert (layout(rows, seed=1) == layout(mapped(rows, tmp_path, np.float32), seed=1)).all()


def test_refuses_embeddings_that_are_not_finite():
    rows = made(2, 20)[0]
    rows[3, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        layout(rows)
