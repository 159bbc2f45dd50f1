"""Which of many to take, where some are enough."""

import numpy as np


def evenly(count: int, most: int) -> np.ndarray:
    """`most` places at even distances in range(count), or all: int64, in order. Lists are often in order of kinds."""
    some = min(count, most)
    return np.arange(some, dtype=np.int64) * count // max(some, 1)
