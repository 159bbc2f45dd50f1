"""Made embeddings: rows of length one around random directions."""

import numpy as np


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(clusters, count, spread=0.1, d=32, seed=0):
    """float32 (count, d) rows of length 1 around so many random directions, and int64 (count,) which one each is around."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(clusters), rng.integers(clusters, size=count - clusters)])
    return unit(unit(rng.normal(size=(clusters, d)))[truth] + spread * rng.normal(size=(count, d))), truth


def mapped(rows, folder, dtype):
    """The rows in a file, memory-mapped."""
    np.save(folder / "rows.npy", rows.astype(dtype))
    return np.load(folder / "rows.npy", mmap_mode="r")
