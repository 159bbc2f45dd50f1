"""Look-alikes of images among those of a gallery: one answer with the same rules, for the shell and for the page.

Files with the same bytes as a query come first, with similarity 1. All others follow by the similarity of their embedding to
the query's, or to the mean of several. An image of the gallery that is searched with is left out.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.images import PIXELS
from data.lists import shown
from gallery import index as indexes
from gallery.index import Index
from gallery.intake import hash_of
from gallery.store import Gallery
from utils import log

Embed = Callable[[list[str]], np.ndarray]  # image files -> float32 (n, d), rows of length 1


class Query(NamedTuple):
    """An image that is searched with."""

    embedding: np.ndarray  # float32 (d,), of length 1
    hashed: bytes  # of its file, as `gallery.intake.hash_of` gives it
    row: int | None = None  # of an image of the gallery


class LookAlikes(NamedTuple):
    """Part of an answer: the most similar images, best first."""

    rows: np.ndarray  # int64 (n,)
    similarities: np.ndarray  # float32 (n,)


def open_gallery(folder: str) -> tuple[Gallery, Index]:
    """A gallery and its index, which is built where there is none, or one of earlier embeddings of the same model.

    Raises InputError for a folder that is no gallery, a damaged one, and an index of another model's embeddings.
    """
    gallery = Gallery(folder)
    if gallery.pixels != PIXELS:
        versions = f"its rows are of pixels of version {gallery.pixels}, queries are read as version {PIXELS}"
        log.say(f"{shown(gallery.folder)}: {versions}; run embed.py again to renew them")
    model, stamp = gallery.about["model"], gallery.stamp
    try:
        return gallery, indexes.load(gallery.folder, gallery.embeddings, model, stamp)
    except indexes.Outdated:
        index = indexes.build(gallery.embeddings)
    try:
        indexes.save(index, gallery.folder, model, stamp)
    except OSError as error:
        log.say(f"{shown(gallery.folder)}: the index is not kept ({error.strerror})")
    log.say(index.description)
    return gallery, index


def query_of_row(gallery: Gallery, row: int) -> Query:
    """A query by an image of the gallery."""
    return Query(np.asarray(gallery.embeddings[row], np.float32), gallery.hashes[row].tobytes(), row)


def queries_of_files(gallery: Gallery, paths: Sequence[str], embed: Embed) -> list[Query]:
    """Queries by image files. embed: called once, for those files that the gallery does not hold as they are now.

    Raises InputError for a file that cannot be read.
    """
    hashes = [hash_of(path) for path in paths]
    rows = [gallery.row_of_path.get(os.path.abspath(path)) for path in paths]
    known = [row is not None and gallery.hashes[row].tobytes() == hashed for row, hashed in zip(rows, hashes)]
    new = [path for path, is_known in zip(paths, known) if not is_known]
    embedded = iter(embed(new) if new else ())
    return [
        query_of_row(gallery, row) if is_known and row is not None else Query(next(embedded), hashed, row)
        for row, is_known, hashed in zip(rows, known, hashes)
    ]


def look_alikes(gallery: Gallery, index: Index, queries: Sequence[Query], start: int, count: int) -> LookAlikes:
    """Results `start` to `start + count` of one query by one or more images."""
    by_row = {query.row: query for query in queries if query.row is not None}
    own = np.array(sorted(by_row), np.int64)
    distinct = [*(by_row[row] for row in own.tolist()), *(query for query in queries if query.row is None)]
    mean = np.stack([query.embedding for query in distinct]).mean(0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    same_bytes = [gallery.rows_of_hash(hashed) for hashed in {query.hashed for query in queries}]
    copies = np.setdiff1d(np.concatenate(same_bytes), own)
    first = copies[start : start + count]
    rows, similarities = np.empty(0, np.int64), np.empty(0, np.float32)
    if len(first) < count:
        wanted = min(len(gallery.embeddings), start + count + len(own) + len(copies))
        nearest, near = (part[0] for part in index.search(mean[None], wanted))
        others = (nearest >= 0) & ~np.isin(nearest, own) & ~np.isin(nearest, copies)
        begin = max(0, start - len(copies))
        stretch = slice(begin, begin + count - len(first))
        rows, similarities = nearest[others][stretch], near[others][stretch]
    return LookAlikes(
        np.concatenate([first, rows]).astype(np.int64),
        np.concatenate([np.ones(len(first), np.float32), similarities]).astype(np.float32),
    )
