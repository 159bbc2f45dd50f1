"""Finds the look-alikes of query images in a gallery, by the same rules for the shell and for the page.

Files with the same bytes as a query come first, with similarity 1. All others follow by the similarity of their embedding to
the query's, or to the mean of several queries. The first of these get a new order from embeddings that are smoothed over
their neighbours (gallery/smoothing.py). The similarity that is returned is still the one of the embeddings as they are; the
place on the gallery's scale (gallery/scale.py) follows the order. A query image that is in the gallery itself is left out.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.lists import shown
from data.pixels import PIXELS
from gallery import index as indexes
from gallery.index import Index
from gallery.scale import scale_of
from gallery.smoothing import SHORTLIST, SmoothedRows, neighbours_of
from gallery.store import Gallery
from gallery.table import hash_of
from utils import log

Embed = Callable[[list[str]], np.ndarray]  # image files -> float32 (n, d), rows of length 1


class Query(NamedTuple):
    """An image to search with."""

    embedding: np.ndarray  # float32 (d,), of length 1
    hashed: bytes  # hash of its file, from `gallery.table.hash_of`
    row: int | None = None  # its row, if it is in the gallery


class LookAlikes(NamedTuple):
    """A stretch of the results, best first. Smoothed rows decide the order, so similarities may rise from place to place."""

    rows: np.ndarray  # int64 (n,)
    similarities: np.ndarray  # float32 (n,)
    closer_than: list[int | None]  # n: the place on the gallery's scale, see gallery/scale.py
    nothing_like_it: bool  # nothing in the gallery is like the query; these images are only the nearest


def open_gallery(folder: str) -> tuple[Gallery, Index]:
    """Open a gallery and its index with its neighbours. What is missing, or older than the embeddings, is made.

    Raises InputError for a folder that is no gallery, a damaged gallery, and an index of another model's embeddings.
    """
    gallery = Gallery(folder)
    if gallery.pixels != PIXELS:
        versions = f"its rows are of pixel version {gallery.pixels}, queries are read as version {PIXELS}"
        log.say(f"{shown(gallery.folder)}: {versions}; run embed.py again to renew them")
    index = _index_of(gallery)
    if not gallery.of:  # a gallery that still grows is not worth the search for all neighbours
        index.neighbours = neighbours_of(gallery)
        index.scale = scale_of(gallery, index.neighbours)
    return gallery, index


def _index_of(gallery: Gallery) -> Index:
    model, stamp = gallery.about["model"], gallery.stamp
    try:
        return indexes.load(gallery.folder, gallery.embeddings, model, stamp)
    except indexes.Outdated:
        index = indexes.build(gallery.embeddings)
    try:
        indexes.save(index, gallery.folder, model, stamp)
    except OSError as error:
        log.say(f"{shown(gallery.folder)}: the index cannot be saved ({error.strerror})")
    if not gallery.of:
        log.say(index.description)
    return index


def query_of_row(gallery: Gallery, row: int) -> Query:
    """Make a query of an image of the gallery."""
    return Query(np.asarray(gallery.embeddings[row], np.float32), gallery.hashes[row].tobytes(), row)


def queries_of_files(gallery: Gallery, paths: Sequence[str], embed: Embed) -> list[Query]:
    """Make queries of image files. embed: called once, with the files that are new to the gallery or have changed.

    Raises InputError for a file that cannot be read.
    """
    hashes = [hash_of(path) for path in paths]
    rows = [row_of_file(gallery, path) for path in paths]
    unchanged = [row is not None and gallery.hashes[row].tobytes() == hashed for row, hashed in zip(rows, hashes)]
    new = [path for path, is_unchanged in zip(paths, unchanged) if not is_unchanged]
    embedded = iter(embed(new) if new else ())
    return [
        query_of_row(gallery, row) if is_unchanged and row is not None else Query(next(embedded), hashed, row)
        for row, is_unchanged, hashed in zip(rows, unchanged, hashes)
    ]


def row_of_file(gallery: Gallery, path: str) -> int | None:
    """Return the row of an image file, by its name or by its real path; None if the gallery does not have it."""
    names = (os.path.abspath(path), os.path.realpath(path))
    return next((row for name in names if (row := gallery.row_of_path.get(name)) is not None), None)


def look_alikes(
    gallery: Gallery,
    index: Index,
    queries: Sequence[Query],
    start: int,
    count: int,
    without: Sequence[int] | np.ndarray = (),
) -> LookAlikes:
    """Return results `start` to `start + count` of one query by one or more images. without: rows that are left out."""
    by_row = {query.row: query for query in queries if query.row is not None}
    own = np.array(sorted(by_row), np.int64)
    distinct = [*(by_row[row] for row in own.tolist()), *(query for query in queries if query.row is None)]
    mean = np.stack([query.embedding for query in distinct]).mean(0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    own = np.union1d(own, np.asarray(without, np.int64))
    same_bytes = [gallery.rows_of_hash(hashed) for hashed in {query.hashed for query in queries}]
    identical = np.setdiff1d(np.concatenate(same_bytes), own)
    first, nothing_like_it = identical[start : start + count], False
    rows, similarities, smoothed = np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32)
    if len(first) < count:
        wanted = min(len(gallery.embeddings), max(SHORTLIST, start + count) + len(own) + len(identical))
        nearest, values = (part[0] for part in index.search(mean[None], wanted))
        others = (nearest >= 0) & ~np.isin(nearest, own) & ~np.isin(nearest, identical)
        rows, similarities = nearest[others], values[others]
        nothing_like_it = not len(identical) and index.scale.nothing_like(similarities)
        begin = max(0, start - len(identical))
        stretch = slice(begin, begin + count - len(first))
        if index.neighbours is None:
            order, smoothed = np.arange(len(rows))[stretch], similarities[stretch]
        else:
            smoothed_rows = SmoothedRows(gallery.embeddings, index.neighbours)
            order, smoothed = smoothed_rows.best_first(mean, rows, similarities, stretch)
        rows, similarities = rows[order], similarities[order]
    ones = np.ones(len(first), np.float32)
    return LookAlikes(
        np.concatenate([first, rows]).astype(np.int64),
        np.concatenate([ones, similarities]).astype(np.float32),
        index.scale.closer_than(np.concatenate([ones, smoothed])),
        nothing_like_it,
    )
