"""Rows of large arrays: evenly spread ones, random ones, the nearest ones, block by block."""

from collections.abc import Iterator

import numpy as np

from utils.errors import InputError

ROWS = 8192  # of a block


def evenly(count: int, most: int) -> np.ndarray:
    """`most` places at even distances in range(count), or all: int64, in order. Lists are often in order of kinds."""
    some = min(count, most)
    return np.arange(some, dtype=np.int64) * count // max(some, 1)


def sample_rows(embeddings: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows, int64 (n,) ascending, and the rows, float32 (n, d): at most so many, random ones, in order.

    Rows that are all taken, and float32 already, are not copied. Raises InputError when one is not finite.
    """
    chosen, rows = np.arange(len(embeddings)), embeddings
    if len(embeddings) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(embeddings), most, replace=False))
        rows = embeddings[chosen]
    rows = rows.astype(np.float32, copy=False)
    if not all(np.isfinite(part).all() for part in row_blocks(rows)):
        raise InputError("embeddings are not finite: the model has diverged; embed the images with another one")
    return chosen, rows


def nearest_rows(queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the largest inner product with each query, the largest first: int64 and float32 (q, k).

    queries, rows: float32 (q, d) and (n, d), k at most n. All pairs are compared.
    """
    import faiss  # here: it takes long to import

    similarities, indices = faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    return indices, similarities


def blocks(rows: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """The rows of an array, `size` at a time; without it, ROWS."""
    size = size or ROWS
    return (rows[start : start + size] for start in range(0, len(rows), size))


def row_blocks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, float32 (n, d), block by block."""
    return (rows.astype(np.float32, copy=False) for rows in blocks(embeddings))
