"""The closed form's formulas against NumPy in float64."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from models import closed_form
from models.closed_form import ClosedForm, Covariance, Moments, first_order, projection
from models.second_order import energy_shares, matrix_root, second_order
from utils.errors import InputError

LAYERS = {"blocks.4": (6, 4), "bn2": (5, 3)}  # name -> number of channels, and to how many they are reduced
WEIGHTS = (1.0, 0.75, 0.5)
DIM = 7


def root_by_hand(matrix, power=0.5):
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return vectors * values.clip(0) ** power @ vectors.T


def moment(x, shares=None):
    """Return the second moment over positions, in float64: (positions, r) -> (r, r)."""
    shares = np.full(len(x), 1 / len(x)) if shares is None else shares
    return sum(share * np.outer(row, row) for share, row in zip(shares, np.asarray(x, np.float64)))


@pytest.mark.parametrize("dtype, exact, deficient", [(torch.float32, 1e-5, 3e-3), (torch.float64, 1e-13, 1e-7)])
@pytest.mark.parametrize("positions", [1, 3, 15, 64, 500])
@pytest.mark.parametrize("size", [1e-3, 1, 1e4])
def test_root_of_a_second_moment(dtype, exact, deficient, positions, size):
    """With fewer positions than channels, some eigenvalues are zero. Then a rounding error of 1e-7 has a root of 3e-4."""
    x = np.random.default_rng(positions).normal(size=(5, positions, 16)) * size
    matrices = torch.tensor(np.stack([moment(rows) for rows in x]), dtype=dtype)
    expected = np.stack([root_by_hand(matrix) for matrix in matrices.numpy()])
    error = np.abs(matrix_root(matrices).numpy() - expected).max() / np.abs(expected).max()
    assert error < (exact if positions >= 64 else deficient)


def test_root_of_one_position_and_of_zero():
    x = torch.randn(1, 8, dtype=torch.float64)
    torch.testing.assert_close(matrix_root(x.T @ x[None])[0], x.T @ x / x.norm())
    mixed = matrix_root(torch.stack([torch.zeros(8, 8), 4 * torch.eye(8)]))
    assert not mixed[0].any()
    torch.testing.assert_close(mixed[1], 2 * torch.eye(8))


@pytest.mark.parametrize("share, error", [(1e-3, 1e-5), (1e-5, 1e-5), (1e-6, 1e-3)])
def test_roots_of_small_eigenvalues(share, error):
    root = matrix_root(torch.diag(torch.tensor([1 - share, share], dtype=torch.float64))[None])[0]
    assert root[1, 1].item() == pytest.approx(share**0.5, rel=error)


def test_first_order():
    assert first_order(torch.tensor([[4.0, -9.0, 0.0, 0.25]])).tolist() == [[2.0, -3.0, 0.0, 0.5]]


def test_inner_products_of_the_second_order_are_those_of_whole_roots():
    x = torch.randn(6, 40, 5)
    found = second_order(x)
    roots = [root_by_hand(moment(rows)) for rows in x.numpy()]
    expected = [[(a * b).sum() for b in roots] for a in roots]
    assert found.shape == (6, 15)
    np.testing.assert_allclose(found @ found.T, expected, rtol=1e-4)


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def parts_by_hand(pooled, maps, reduce, power=0.5, focused=True):
    """Return the list of parts of each image, each part of length one."""
    described = []
    for i, features in enumerate(pooled.double().numpy()):
        parts = [np.sign(features) * np.sqrt(np.abs(features))]
        last = (maps["bn2"][i].double().numpy() ** 2).sum(0).ravel()
        for name, matrix in reduce.items():
            rows = [maps[name][i, :, y, z].double().numpy() @ matrix for y in range(6) for z in range(6)]
            parts.append(root_by_hand(moment(rows, last / last.sum() if focused else None), power).ravel())
        described.append([unit(part) for part in parts])
    return described


def embedded_by_hand(parts, power=-0.35, centred=True):
    """Return inner products of all embeddings. The embeddings themselves are ambiguous: an eigenvector's sign is
    arbitrary."""
    rows = np.stack([np.concatenate([w * part for w, part in zip(WEIGHTS, image)]) for image in parts])
    around = rows - rows.mean(0) * centred
    values, vectors = np.linalg.eigh(around.T @ around / len(rows))
    embedded = unit(around @ vectors[:, ::-1][:, :DIM] * values[::-1][:DIM] ** power)
    return embedded @ embedded.T


@pytest.fixture(scope="module")
def images():
    """Pooled features and maps of 50 images, each with its own statistics, and the matrices that reduce channels."""
    rng = np.random.default_rng(0)
    pooled = torch.tensor(rng.normal(size=(50, 9)), dtype=torch.float32)
    maps, reduce = {}, {}
    for name, (channels, r) in LAYERS.items():
        mixing = rng.normal(size=(50, channels, channels)) + np.eye(channels)
        maps[name] = torch.tensor(mixing @ rng.normal(size=(50, channels, 36)) + 0.3, dtype=torch.float32).unflatten(
            2, (6, 6)
        )
        reduce[name] = np.linalg.qr(rng.normal(size=(channels, r)))[0]
    return pooled, maps, reduce


@pytest.fixture(scope="module")
def form(images):
    """A closed form that is fitted to `images`."""
    pooled, maps, reduce = images
    form = ClosedForm(9, LAYERS, DIM)
    for buffer, matrix in zip(form.reduce.buffers(), reduce.values()):
        buffer.copy_(torch.tensor(matrix))
    moments = Moments(9 + 10 + 6)
    moments.add(form.describe(pooled, maps))
    covariance = moments.total()
    form.weights.copy_(torch.tensor(WEIGHTS))
    form.mean.copy_(covariance.mean)
    form.projection.copy_(projection(covariance, form.scales(torch.tensor(WEIGHTS, dtype=torch.float64)), DIM))
    return form


def test_parts_are_described_side_by_side(images, form):
    described = form.describe(*images[:2])
    assert described.shape == (50, 9 + 10 + 6) and form.layers == list(LAYERS) and form.dim == DIM
    parts = parts_by_hand(*images)
    for k, part in enumerate(described.split(form.sizes, dim=1)):
        expected = np.stack([image[k] for image in parts])
        np.testing.assert_allclose(part @ part.T, expected @ expected.T, atol=1e-5)


def test_energy_shares_of_a_larger_map():
    """The reference interpolates between the centres of the cells; beyond the outermost centres, values stay the same."""
    x = torch.zeros(2, 4, 3)
    x[0, :, 0], x[0, :, 2] = torch.tensor([1.0, -1, 1, 2]), torch.tensor([-1.0, 1, 0, -2])  # energies 2, 2, 1, 8
    centres = (np.arange(4) + 0.5) / 2 - 0.5
    rows = [np.interp(centres, [0, 1], row) for row in ((2, 2), (1, 8))]
    expected = np.array([np.interp(centres, [0, 1], column) for column in zip(*rows)]).T
    found = energy_shares(x, 16)
    np.testing.assert_allclose(found[0], (expected / expected.sum()).ravel(), atol=1e-6)
    np.testing.assert_allclose(found[1], np.full(16, 1 / 16), atol=1e-6)  # no energy
    np.testing.assert_allclose(energy_shares(x, 4)[0], np.array([2, 2, 1, 8]) / 13, atol=1e-6)


def test_a_closed_form_of_an_earlier_version_stays_as_it_was(images, form):
    """Its tensors do not say that it is focused: all positions count alike."""
    pooled, maps, _ = images
    state = {key: value for key, value in form.state_dict().items() if key != "focused"}
    earlier = ClosedForm.like(state, 9, {name: channels for name, (channels, _) in LAYERS.items()}, DIM)
    earlier.load_state_dict(state, strict=False)
    assert not earlier.is_focused and ClosedForm.like(form.state_dict(), 9, {"blocks.4": 6, "bn2": 5}, DIM).focused
    parts = parts_by_hand(*images, focused=False)
    for k, part in enumerate(earlier.describe(pooled, maps).split(form.sizes, dim=1)):
        expected = np.stack([image[k] for image in parts])
        np.testing.assert_allclose(part @ part.T, expected @ expected.T, atol=1e-5)


def test_the_whole_is_what_the_formulas_say(images, form):
    embedded = form(*images[:2])
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(50))
    np.testing.assert_allclose(embedded @ embedded.T, embedded_by_hand(parts_by_hand(*images)), atol=1e-5)


@pytest.mark.parametrize(
    "root, how", [(1, {}), (1 / 3, {}), (0.5, {"centred": False}), (0.5, {"power": -0.5}), (0.5, {"power": 0})]
)
def test_other_formulas_would_be_seen(images, form, root, how):
    embedded = form(*images[:2])
    difference = np.abs((embedded @ embedded.T).numpy() - embedded_by_hand(parts_by_hand(*images, root), **how))
    assert difference.max() > 0.05


def test_images_of_nothing_are_described_as_nothing():
    described = ClosedForm(9, LAYERS, DIM).describe(
        torch.zeros(2, 9), {"blocks.4": torch.zeros(2, 6, 3, 3), "bn2": torch.zeros(2, 5, 2, 2)}
    )
    assert not described.any()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any), st.integers(1, 5), st.sampled_from([0, 1000]))
def test_moments_of_rows_in_any_blocks(lengths, block, offset):
    """With an offset of 1000 and a spread of 0.01, sums of squares in float32 would lose everything."""
    rng = np.random.default_rng(len(lengths))
    rows = (offset + rng.normal(size=(sum(lengths), 3)) * (0.01 if offset else 1)).astype(np.float32)
    moments = Moments(3)
    with mock.patch.object(closed_form, "ROWS_AT_ONCE", block):
        for part in np.split(rows, np.cumsum(lengths)[:-1]):
            moments.add(torch.from_numpy(part))
        count, mean, covariance = moments.total()
    expected = np.cov(rows.astype(np.float64).T, bias=True)
    assert count == len(rows) and mean.dtype == covariance.dtype == torch.float64
    np.testing.assert_allclose(mean, rows.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(covariance, expected, atol=1e-5 * max(np.abs(expected).max(), 1e-4))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(wrong):
    rows = torch.zeros(5, 3)
    rows[2, 1] = wrong
    moments = Moments(3)
    with pytest.raises(InputError, match="not finite"):
        moments.add(rows)
        moments.total()


@pytest.mark.parametrize("rows, dim, columns", [(4, 10, 3), (1, 10, 0), (2, 10, 1), (30, 10, 6), (30, 4, 4), (0, 2, 0)])
def test_directions_that_there_are_not_are_zero(rows, dim, columns):
    """n rows span n - 1 directions after centring, and 6 numbers span 6."""
    moments = Moments(6)
    moments.add(torch.randn(rows, 6)) if rows else None
    found = projection(moments.total(), torch.ones(6, dtype=torch.float64), dim)
    assert found.shape == (6, dim) and found.isfinite().all()
    assert (found.abs().amax(0) > 0).tolist() == [True] * columns + [False] * (dim - columns)


def test_features_that_are_all_alike_are_embedded_as_zero():
    form, moments = ClosedForm(6, {}, 3), Moments(6)
    described = form.describe(torch.full((20, 6), 0.3), {})
    moments.add(described)
    covariance = moments.total()
    form.mean.copy_(covariance.mean)
    form.projection.copy_(projection(covariance, torch.ones(6), 3))
    assert not form.project(described).any()


def test_a_part_of_weight_zero_is_left_out():
    matrix = torch.eye(4, dtype=torch.float64)
    found = projection(Covariance(100, torch.zeros(4), matrix), torch.tensor([1.0, 1.0, 0.0, 0.0]), 3)
    assert not found[2:].any() and not found[:, 2].any() and found[:2, :2].any()


def test_a_state_dict_brings_it_back(images, form):
    tensors = {key: value.numpy().copy() for key, value in form.state_dict().items()}
    tensors = {key: torch.from_numpy(value) for key, value in tensors.items()}
    again = ClosedForm.like(tensors, form.feature_dim, {name: shape[0] for name, shape in LAYERS.items()}, DIM)
    again.load_state_dict(tensors)
    assert again.layers == form.layers and again.sizes == form.sizes and again.dim == DIM
    assert not any("." in key.removeprefix("reduce.") for key in tensors)
    assert torch.equal(again(*images[:2]), form(*images[:2]))


def test_a_state_dict_in_another_order_brings_it_back():
    """safetensors returns tensors sorted by name."""
    form = ClosedForm(9, {"blocks.7": (5, 3), "blocks.11": (5, 3)}, DIM)
    maps = {"blocks.7": torch.randn(4, 5, 3, 3), "blocks.11": torch.randn(4, 5, 3, 3)}
    for buffer in form.buffers():
        if buffer.ndim == 2:
            buffer.normal_()
    tensors = dict(sorted(form.state_dict().items()))
    again = ClosedForm.like(tensors, 9, {"blocks.7": 5, "blocks.11": 5}, DIM)
    again.load_state_dict(tensors)
    pooled = torch.randn(4, 9)
    torch.testing.assert_close(again(pooled, maps), form(pooled, maps))


@pytest.mark.parametrize(
    "change", [{"projection": None}, {"projection": torch.zeros(16, 7)}, {"projection": torch.zeros(25)}]
)
def test_tensors_that_make_no_closed_form_are_refused(form, change):
    tensors = {key: value for key, value in {**form.state_dict(), **change}.items() if value is not None}
    with pytest.raises(InputError, match="another net"):
        ClosedForm.like(tensors, form.feature_dim, {name: shape[0] for name, shape in LAYERS.items()}, DIM)
