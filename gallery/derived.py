"""What takes long to make of a gallery: groups, duplicates, the map. Each is kept beside the gallery until that changes."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallery.groups import Group
from gallery.index import Index
from gallery.store import Gallery
from utils.arrays import evenly

ON_MAP = 20_000  # images on the map, at most


class Groups(NamedTuple):
    """Groups of images, each a list of rows."""

    rows: list[np.ndarray]  # int64 of each group
    similarities: np.ndarray  # float32 (groups,), how alike the images of a group are


class Places(NamedTuple):
    """The map."""

    rows: np.ndarray  # int64 (n,) of the images on it
    places: np.ndarray  # float32 (n, 2) in [0, 1]
    labels: np.ndarray  # int64 (n,), the cluster of each


def clusters(gallery: Gallery) -> list[np.ndarray]:
    """The rows of each cluster, the largest cluster first, the most central image first: int64 each."""

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import grouping

        return packed(grouping.group(gallery.embeddings, None).order)

    return unpacked(gallery.kept("page-clusters", make))


def duplicates(gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool) -> Groups:
    """Groups of the same bytes ("identical"), of copies ("near"), or of images more similar than `threshold` ("alike").

    turned: whether mirrored and turned copies are also found, of "near". Of a group of one kind, only the first image takes
    part in the later kinds.
    """
    from gallery import duplicates as find

    def make() -> dict[str, np.ndarray]:
        if kind == "identical":
            found = find.identical(gallery.hashes, gallery.apart())
        elif kind == "near":
            found = find.near(gallery.prints, gallery.hashes, turned=turned, apart=gallery.apart())
        else:
            others = [duplicates(gallery, index, other, 0, False) for other in ("identical", "near")]
            known = [Group(rows.tolist(), 1.0) for other in others for rows in other.rows]
            found = find.alike(gallery.embeddings, index.search, threshold, gallery.apart(), known)
        groups = packed([group.rows for group in found])
        return groups | {"similarities": np.array([group.similarity for group in found], np.float32)}

    detail = {"near": "-turned" if turned else "", "alike": f"-{threshold:.2f}"}.get(kind, "")
    kept = gallery.kept(f"page-{kind}{detail}", make)
    return Groups(unpacked(kept), kept["similarities"])


def layout(gallery: Gallery) -> Places:
    """The images on the map, evenly taken from all where there are more than ON_MAP."""

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import layout as layouts

        return {"rows": rows, "places": layouts.layout(np.asarray(gallery.embeddings[rows], np.float32))}

    total = len(gallery.keys)
    rows = evenly(total, ON_MAP)
    kept = gallery.kept("page-map", make)
    labels = np.empty(total, np.int64)
    for number, cluster in enumerate(clusters(gallery)):
        labels[cluster] = number
    return Places(kept["rows"], kept["places"], labels[kept["rows"]])


def split(groups: Groups, apart: Iterable[Sequence[int]]) -> Groups:
    """The groups, with no two images together that the user took apart since they were made.

    Of such a group, each image goes to the first part with none of those that it stands apart from; parts of one are left
    out.
    """
    others: dict[int, set[int]] = {}
    for rows in apart:
        for row in rows:
            others.setdefault(row, set()).update(rows)
    if not others:
        return groups
    kept: list[np.ndarray] = []
    similarities: list[float] = []
    for group, similarity in zip(groups.rows, groups.similarities.tolist()):
        parts = [group] if others.keys().isdisjoint(group.tolist()) else _parts(group.tolist(), others)
        kept += parts
        similarities += [similarity] * len(parts)
    return Groups(kept, np.array(similarities, np.float32))


def _parts(group: list[int], others: dict[int, set[int]]) -> list[np.ndarray]:
    parts: list[list[int]] = []
    for row in group:
        home = next((part for part in parts if others.get(row, set()).isdisjoint(part)), None)
        if home is None:
            parts.append([row])
        else:
            home.append(row)
    return [np.array(part, np.int64) for part in parts if len(part) > 1]


def packed(lists: Sequence[Any]) -> dict[str, np.ndarray]:
    """Lists of rows as two arrays, as they are kept."""
    sizes = np.array([len(rows) for rows in lists], np.int64)
    return {"rows": np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64), "sizes": sizes}


def unpacked(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The lists that `packed` made arrays of."""
    return np.split(arrays["rows"], np.cumsum(arrays["sizes"])[:-1]) if len(arrays["sizes"]) else []
