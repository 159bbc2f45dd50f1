"""The random numbers of a step depend only on its position."""

import random

import numpy as np
import pytest
import torch

from utils.seeding import seed_step


@pytest.fixture(autouse=True)
def generators():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def draws(*position):
    seed_step(*position)
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_same_position_same_numbers():
    first = draws(1, 2, 3, 4)
    random.random(), np.random.rand(100), torch.rand(7)
    assert draws(1, 2, 3, 4) == first and draws(2**31 - 100, 600, 10**6, 999) == draws(2**31 - 100, 600, 10**6, 999)


def test_every_coordinate_counts_for_every_generator():
    positions = [(1, 2, 3, 0), (1, 2, 3, 1), (1, 2, 4, 0), (1, 3, 3, 0), (2, 2, 3, 0), (2, 1, 3, 0), (0, 0, 0, 0)]
    for numbers in zip(*[draws(*position) for position in positions]):
        assert len(set(numbers)) == len(positions)
