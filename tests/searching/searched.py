"""The right answers for tests of search.py, found slowly, and a file name that tries to be markup."""

import numpy as np

from utils.clustering.smooth import Neighbours, neighbours_among, smoothed_twice

MARKUP = "<img src=x onerror=alert(1)>.jpg"


def nearest(gallery, query, k, own=()):
    """Return [(shown path, similarity)], without the query's own rows: the order of all smoothed rows, and the similarity
    of the rows as they are."""
    embeddings, query = np.asarray(gallery.embeddings, np.float32), np.asarray(query, np.float32)
    others = np.setdiff1d(np.arange(len(embeddings)), own)
    table = neighbours_among(embeddings, embeddings, np.arange(len(embeddings)))
    length_one = query / np.linalg.norm(query)
    found = neighbours_among(length_one[None], embeddings[others])
    near = Neighbours(np.where(found.rows < 0, -1, others[found.rows]), found.similarities)
    smoothed = smoothed_twice(embeddings, table, embeddings, table)
    (own_smoothed,) = smoothed_twice(embeddings, table, length_one[None], near)
    order = others[np.argsort(-(smoothed[others] @ own_smoothed), kind="stable")]
    similar = embeddings.astype(float) @ query
    return [(gallery.shown(row), similar[row]) for row in order[:k].tolist()]


def is_same(found, expected):
    """Return True if a result is as expected. Equally similar images may be in any order."""
    close = np.allclose([item["similarity"] for item in found], [similarity for _, similarity in expected], atol=1e-4)
    given = dict(expected)
    return close and all(abs(given.get(item["path"], 9) - item["similarity"]) < 1e-4 for item in found[:-1])
