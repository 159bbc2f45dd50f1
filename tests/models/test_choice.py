"""Choosing the weights of a closed form. tests/models/test_readout.py compares whole fits with NumPy."""

import pytest

from models.choice import best


@pytest.mark.parametrize(
    "agreements, place",
    [((0.5, 0.7, 0.6), 1), ((0.6, 0.7, 0.695), 2), ((0.6, 0.7, 0.69), 1), ((0.7, 0.5, 0.699, 0.6), 2), ((0.0, 0.0), 1)],
)
def test_of_agreements_that_are_alike_the_largest_weight_is_taken(agreements, place):
    assert best(agreements) == place
