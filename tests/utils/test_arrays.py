"""Some of many, at even distances."""

import numpy as np
from hypothesis import given, strategies as st

from utils.arrays import evenly


@given(st.integers(0, 500), st.integers(1, 500))
def test_they_are_different_and_the_distances_are_even(count, most):
    places = evenly(count, most)
    assert places.dtype == np.int64 and len(places) == min(count, most)
    distances = np.diff([*places.tolist(), count])
    if count:
        assert places[0] == 0 and distances.min() >= 1 and distances.max() - distances.min() <= 1


def test_all_where_there_are_no_more():
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4] and evenly(6, 3).tolist() == [0, 2, 4] and evenly(0, 3).tolist() == []
