"""Groups of look-alikes, against slow definitions, on synthetic embeddings with known clusters."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from made_clusters import made, mapped, unit
from utils import arrays
from utils.clustering import choose_k, grouping as grouping_file
from utils.clustering.grouping import group
from utils.errors import InputError


def partition(labels):
    """Return the sets of images that are together."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


def check(grouping, rows):
    """Check all promises of a Grouping, in a slow and obvious way."""
    together = [members.tolist() for members in grouping.order]
    assert sorted(sum(together, [])) == list(range(len(rows)))
    assert grouping.labels.dtype == np.int64 and grouping.labels.shape == (len(rows),)
    for label, members in enumerate(together):
        assert members and grouping.order[label].dtype == np.int64
        assert all(grouping.labels[row] == label for row in members)
        mean = np.mean([rows[row].astype(np.float64) for row in members], axis=0)
        central = [float(rows[row].astype(np.float64) @ mean) for row in members]
        assert all(a > b - 1e-6 for a, b in zip(central, central[1:]))
    keys = [(-len(members), min(members)) for members in together]
    assert keys == sorted(keys)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 35), st.integers(1, 4), st.integers(0, 2**20))
def test_any_number_of_images_and_clusters(count, k, d, seed):
    rows = unit(np.random.default_rng(seed).integers(-2, 3, size=(count, d)) + 1e-3)  # many rows are equal
    grouping = group(rows, k, seed)
    check(grouping, rows)
    assert len(grouping.order) <= min(k, len(np.unique(rows, axis=0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_finds_the_clusters_of_a_file_larger_than_the_sample(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(grouping_file, "SAMPLE", 150)
    monkeypatch.setattr(grouping_file, "PER_CLUSTER", 20)
    monkeypatch.setattr(arrays, "ROWS", 64)
    monkeypatch.setattr(choose_k, "SIMILARITIES", 100)
    rows, truth = made(7, 1000)
    embeddings = mapped(rows, tmp_path, dtype)
    grouping = group(embeddings, 7)
    assert partition(grouping.labels) == partition(truth)
    check(grouping, embeddings)


def test_equal_images_are_one_cluster_in_their_own_order():
    rows = np.repeat(unit(np.random.default_rng(0).normal(size=(1, 512))), 300, axis=0)
    for k in (None, 1, 5):
        (only,) = group(rows, k).order
        assert only.tolist() == list(range(300))


def test_clusters_of_one_size_come_by_their_first_row_and_equal_rows_in_order():
    a, b, c = np.eye(3, dtype=np.float32)
    near_a = unit((a + 0.1 * c)[None])[0]
    grouping = group(np.stack([b, a, near_a, a, b, b, c]), 3)
    assert [members.tolist() for members in grouping.order] == [[0, 4, 5], [1, 3, 2], [6]]
    assert grouping.labels.tolist() == [0, 1, 1, 1, 0, 0, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_few_images_without_a_number(count):
    rows = unit(np.random.default_rng(0).normal(size=(count, 16)))
    grouping = group(rows)
    check(grouping, rows)
    assert len(grouping.order) == min(count, 1)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images_and_many_clusters(count):
    rows = unit(np.random.default_rng(0).normal(size=(count, 16)))
    assert [members.tolist() for members in group(rows, 5).order] == [[row] for row in range(count)]


@pytest.mark.parametrize("clusters, count", [(2, 100), (3, 200), (6, 300), (20, 600), (50, 1500)])
def test_finds_how_many_clusters_there_are(clusters, count):
    rows, truth = made(clusters, count)
    found = group(rows)
    check(found, rows)
    for members in found.order:
        assert len(set(truth[members].tolist())) == 1 or len(found.order) < clusters


def test_the_same_seed_gives_the_same_clusters():
    rows = unit(np.random.default_rng(0).normal(size=(300, 16)))
    for k in (None, 12):
        one, other = group(rows, k, seed=3), group(rows.copy(), k, seed=3)
        assert one.labels.tolist() == other.labels.tolist()
        assert [a.tolist() for a in one.order] == [b.tolist() for b in other.order]


def test_float32_rows_are_not_copied(tmp_path):
    embeddings = mapped(made(3, 50)[0], tmp_path, np.float32)
    _, rows = arrays.sample_rows(embeddings, 50, 0)
    assert np.shares_memory(rows, embeddings)
    assert all(np.shares_memory(part, embeddings) for part in arrays.row_blocks(embeddings))


@pytest.mark.parametrize("k", [0, -1])
def test_refuses_fewer_than_one_cluster(k):
    with pytest.raises(InputError, match="give 1 or more"):
        group(made(2, 10)[0], k)


def test_refuses_embeddings_that_are_not_finite():
    rows = made(2, 20)[0]
    rows[3, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        group(rows)
