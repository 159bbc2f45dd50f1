"""Choosing rows of an array: evenly spaced ones, and the nearest ones."""

import numpy as np
from hypothesis import given, strategies as st

from utils.arrays import evenly, nearest_rows


@given(st.integers(0, 500), st.integers(1, 500))
def test_they_are_different_and_the_distances_are_even(count, most):
    places = evenly(count, most)
    assert places.dtype == np.int64 and len(places) == min(count, most)
    distances = np.diff([*places.tolist(), count])
    if count:
        assert places[0] == 0 and distances.min() >= 1 and distances.max() - distances.min() <= 1


def test_all_where_there_are_no_more():
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4] and evenly(6, 3).tolist() == [0, 2, 4] and evenly(0, 3).tolist() == []


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 1000), st.data())
def test_nearest_rows_are_those_of_a_sort(queries, rows, dim, seed, data):
    k, rng = data.draw(st.integers(1, rows)), np.random.default_rng(seed)
    queries, rows = (rng.integers(-3, 4, (count, dim)).astype(np.float32) for count in (queries, rows))  # exact sums
    indices, similarities = nearest_rows(queries, rows, k)
    everything = queries @ rows.T
    assert np.array_equal(similarities, -np.sort(-everything, axis=1)[:, :k])
    assert np.array_equal(np.take_along_axis(everything, indices, 1), similarities)
    assert all(len(set(row)) == k for row in indices.tolist())
