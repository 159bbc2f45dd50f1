"""Synthetic embeddings: rows of length one around random directions."""

import numpy as np


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(clusters, count, spread=0.1, d=32, seed=0):
    """Return float32 (count, d) rows of length 1 around `clusters` random directions, and the direction of each, int64
    (count,)."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(clusters), rng.integers(clusters, size=count - clusters)])
    return unit(unit(rng.normal(size=(clusters, d)))[truth] + spread * rng.normal(size=(count, d))), truth


def mapped(rows, folder, dtype):
    """Write the rows to a file, and return it memory-mapped."""
    np.save(folder / "rows.npy", rows.astype(dtype))
    return np.load(folder / "rows.npy", mmap_mode="r")
