"""Takes rows of large arrays: evenly spread, at random, the nearest to a query, or block by block."""

from collections.abc import Iterator

import numpy as np

from utils.errors import InputError

ROWS = 8192  # rows in a block


def evenly(count: int, most: int) -> np.ndarray:
    """Return min(count, most) evenly spaced places in range(count), int64. Lists are often sorted by class."""
    size = min(count, most)
    return np.arange(size, dtype=np.int64) * count // max(size, 1)


def sample_rows(embeddings: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most `most` random rows. Returns their places, int64 (n,) ascending, and the rows, float32 (n, d).

    Float32 rows are not copied when all are taken. Raises InputError when a row is not finite.
    """
    chosen = np.arange(len(embeddings))
    if len(embeddings) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(embeddings), most, replace=False))
    rows = embeddings[chosen] if len(embeddings) > most else embeddings[:]
    rows = rows.astype(np.float32, copy=False)
    if not all(np.isfinite(part).all() for part in row_blocks(rows)):
        raise InputError("embeddings are not finite: the model has diverged; embed the images with another one")
    return chosen, rows


def nearest_rows(queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each query, the k rows with the largest inner products and these, largest first: int64, float32 (q, k).

    queries, rows: float32 (q, d) and (n, d), k at most n. All pairs are compared.
    """
    import faiss  # here: it takes long to import

    similarities, indices = faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    return indices, similarities


def blocks(rows: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """Yield the rows of an array, `size` rows at a time (default: ROWS)."""
    size = size or ROWS
    return (rows[start : start + size] for start in range(0, len(rows), size))


def row_blocks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows block by block, as float32 (n, d)."""
    return (rows.astype(np.float32, copy=False) for rows in blocks(embeddings))
