"""Smoothing over neighbours, against slow versions that go row by row and neighbour by neighbour."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from made_clusters import made, unit
from utils.clustering import smooth
from utils.clustering.smooth import COPY, Neighbours, neighbours_among, smoothed, smoothed_twice

some_sets = st.builds(
    made, st.integers(1, 4), st.integers(5, 40), st.sampled_from([0.1, 0.3]), st.integers(3, 9), st.integers(0, 999)
)


def slow_neighbours(queries, rows, own=None):
    """Return a list of (row, similarity) for each query, best first."""
    result = []
    for q, query in enumerate(queries.astype(float)):
        pairs = [(j, float(query @ row)) for j, row in enumerate(rows.astype(float)) if own is None or own[q] != j]
        result.append(sorted((pair for pair in pairs if pair[1] < COPY), key=lambda pair: -pair[1])[: smooth.CANDIDATES])
    return result


def slow_sum(row, pairs, rows, h):
    total = row.astype(float).copy()
    for j, similarity in pairs:
        if 0 < similarity:
            total += h * similarity * rows[j].astype(float)
    return total / np.linalg.norm(total)


def slow_twice(rows, own, near):
    table = slow_neighbours(rows, rows, np.arange(len(rows)))
    once = np.array([slow_sum(row, pairs[:2], rows, 1) for row, pairs in zip(rows, table)])
    result = []
    for row, pairs in zip(own, near):
        own_once = slow_sum(row, pairs[:2], rows, 1)
        after = sorted(((j, float(own_once @ once[j])) for j, _ in pairs), key=lambda pair: -pair[1])[:10]
        total = row + slow_sum(own_once, after, once, 1)
        result.append(total / np.linalg.norm(total))
    return np.array(result)


def neighbours_within(rows):
    return neighbours_among(rows, rows, np.arange(len(rows)))


@given(some_sets, st.integers(1, 12), st.sampled_from([0.2, 0.5, 1.0]), st.integers(0, 99))
def test_smoothed_is_the_sum_over_neighbours(drawn, k, h, seed):
    rows, _ = drawn
    neighbours = np.random.default_rng(seed).integers(-1, len(rows), (len(rows), k))
    similarities = np.einsum("nd,nkd->nk", rows, rows[neighbours])
    pairs = [[(j, s) for j, s in zip(some, values) if j >= 0 and s < COPY] for some, values in zip(neighbours, similarities)]
    wanted = [slow_sum(row, some, rows, h) for row, some in zip(rows, pairs)]
    result = smoothed(rows, neighbours, similarities, h)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, wanted, atol=1e-5)


@given(some_sets)
def test_smoothed_twice_against_the_slow_version(drawn):
    rows, _ = drawn
    table = neighbours_within(rows)
    wanted = slow_twice(rows, rows, slow_neighbours(rows, rows, np.arange(len(rows))))
    np.testing.assert_allclose(smoothed_twice(rows, table, rows, table), wanted, atol=1e-4)


@given(some_sets, st.integers(0, 99))
def test_a_new_row_is_smoothed_by_what_it_finds(drawn, seed):
    rows, _ = drawn
    new = unit(rows[:3] + 0.3 * np.random.default_rng(seed).normal(size=(3, rows.shape[1])))
    wanted = slow_twice(rows, new, slow_neighbours(new, rows))
    result = smoothed_twice(rows, neighbours_within(rows), new, neighbours_among(new, rows))
    np.testing.assert_allclose(result, wanted, atol=1e-4)


@given(some_sets, st.integers(0, 99))
def test_the_order_of_the_rows_and_turning_them_change_nothing(drawn, seed):
    rows, _ = drawn
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(len(rows)), np.linalg.qr(rng.normal(size=(rows.shape[1],) * 2))[0].astype(np.float32)
    before, after = (smoothed_twice(x, (table := neighbours_within(x)), x, table) for x in (rows, rows[order] @ turn))
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(before[order] @ turn, after, atol=1e-4)


def test_blocks_change_nothing(monkeypatch):
    rows, _ = made(5, 100)
    table = neighbours_within(rows)
    whole = smoothed_twice(rows, table, rows, table), smoothed(rows, *table)
    monkeypatch.setattr(smooth, "ROWS_AT_ONCE", 7)
    for x, y in zip(whole, (smoothed_twice(rows, table, rows, table), smoothed(rows, *table))):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_copies_are_no_neighbours():
    """A picture that is there five times is not smoothed over itself."""
    rows, _ = made(3, 30)
    several = np.concatenate([rows, np.repeat(rows[:1], 4, axis=0)])
    table, copies = neighbours_within(several), {0, 30, 31, 32, 33}
    assert not copies & set(table.rows[0]) and not copies & set(table.rows[33])
    np.testing.assert_array_equal(table.rows[0, :19], neighbours_within(rows).rows[0, :19])
    everything = np.tile(np.arange(34), (34, 1))
    wanted = slow_sum(rows[0], [(j, rows[0] @ rows[j]) for j in range(1, 30)], rows, 1)
    np.testing.assert_allclose(smoothed(several, everything, several @ several.T)[0], wanted, atol=1e-5)
    alone = np.repeat(rows[:1], 5, axis=0)
    table = neighbours_within(alone)
    np.testing.assert_allclose(smoothed_twice(alone, table, alone, table), alone, atol=1e-6)


def test_neighbours_of_few_rows_are_filled_up():
    rows, _ = made(2, 3)
    table = neighbours_within(rows)
    assert table.rows.shape == (3, smooth.CANDIDATES) and sorted(table.rows[0, :2]) == [1, 2]
    assert (table.rows[:, 2:] == -1).all() and (table.similarities[:, 2:] == -1).all()
    one = neighbours_within(rows[:1])
    np.testing.assert_allclose(smoothed_twice(rows[:1], one, rows[:1], one), rows[:1], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_more_of_the_ten_nearest_are_right(dtype):
    """Classes that overlap: smoothing finds more images of the class, and loses none of the nearest."""
    rows, truth = made(20, 1000, spread=0.25, d=64)
    table = neighbours_within(rows)
    result = smoothed_twice(rows.astype(dtype), table, rows.astype(dtype), table)
    assert result.dtype == np.float32
    right = []
    for x in (rows, result):
        nearest = neighbours_within(x).rows[:, :10]
        right.append([(truth[nearest[:, :1]] == truth[:, None]).mean(), (truth[nearest] == truth[:, None]).mean()])
    (first, ten), (first_after, ten_after) = right
    assert first_after >= first and ten_after > ten + 0.1


@settings(max_examples=20)
@given(some_sets)
def test_neighbours_against_the_slow_version(drawn):
    rows, _ = drawn
    table = neighbours_within(rows)
    for similarities, pairs in zip(table.similarities, slow_neighbours(rows, rows, np.arange(len(rows)))):
        np.testing.assert_allclose(similarities[: len(pairs)], [s for _, s in pairs], atol=1e-5)
    assert isinstance(table.of(np.arange(2)), Neighbours) and len(table.of(np.arange(2)).rows) == 2
