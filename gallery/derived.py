"""What takes long to compute from a gallery: groups, duplicates, the map. Each is kept beside it until it changes.

Shell and page ask the same functions, so that what one has computed serves the other.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallery.groups import Group, marks_of
from gallery.index import Index
from gallery.store import Gallery
from utils.arrays import evenly

ON_MAP = 20_000  # images on the map, at most
RULES = 1  # raise it with any change in what these functions compute, as of a threshold: kept results are then made anew
KINDS = ("identical", "near", "alike")  # of duplicates: the same bytes, copies, look-alikes


class Duplicates(NamedTuple):
    """Groups of images that are duplicates of each other, the most similar group first."""

    rows: list[np.ndarray]  # int64 of each group
    similarities: np.ndarray  # float32 (groups,), how alike the images of a group are


class Places(NamedTuple):
    rows: np.ndarray  # int64 (n,) of the images on the map
    places: np.ndarray  # float32 (n, 2) in [0, 1]
    labels: np.ndarray  # int64 (n,), the group of each


def groups(gallery: Gallery, k: int | None = None, seed: int = 0) -> list[np.ndarray]:
    """The rows of each group of look-alikes, int64: the largest group first, in it the most central image first.

    k, seed: as in `utils.clustering.grouping.group`, which finds the groups. Those of the default k and seed are kept.
    """

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import grouping

        return packed(grouping.group(gallery.embeddings, k, seed).order)

    return unpacked(gallery.kept("page-clusters", make, RULES) if (k, seed) == (None, 0) else make())


def usual_threshold(gallery: Gallery, index: Index) -> float:
    """The similarity from which images of this gallery are called look-alikes."""
    from gallery import duplicates as find

    return find.usual_likeness(gallery.embeddings, gallery.hashes, index.search)


def duplicates(gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool) -> Duplicates:
    """`found_duplicates`, without bringing images together that the user has marked as "not duplicates" by now."""
    return split(found_duplicates(gallery, index, kind, threshold, turned), gallery.apart())


def found_duplicates(gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool) -> Duplicates:
    """Groups of the same bytes ("identical"), of copies ("near"), or of images as similar as `threshold` ("alike").

    turned: whether mirrored and turned copies count as copies. Of a group of one kind, only the first image takes part in
    the later kinds, so no two images are shown together twice. Images that were marked as "not duplicates" when the groups
    were found are not brought together; for later marks see `split`.
    """
    from gallery import duplicates as find

    def make() -> dict[str, np.ndarray]:
        apart = gallery.apart()
        if kind == "identical":
            found = find.identical(gallery.hashes, apart)
        elif kind == "near":
            found = find.near(gallery.prints, gallery.hashes, turned=turned, apart=apart)
        else:
            earlier = [found_duplicates(gallery, index, other, 0, turned) for other in ("identical", "near")]
            led = [Group(rows.tolist(), 1.0) for other in earlier for rows in other.rows]
            found = find.alike(gallery.embeddings, index.search, threshold, apart, led)
        similarities = np.array([group.similarity for group in found], np.float32)
        return packed([group.rows for group in found]) | {"similarities": similarities}

    digits = f"{threshold:.2f}" if round(threshold, 2) == threshold else repr(threshold)
    name = f"{kind}-{digits}" if kind == "alike" else kind
    kept = gallery.kept(f"page-{name}{'-turned' if turned and kind != 'identical' else ''}", make, RULES)
    return Duplicates(unpacked(kept), kept["similarities"])


def layout(gallery: Gallery) -> Places:
    """The images on the map, evenly taken from all where there are more than ON_MAP."""

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import layout as layouts

        return {"rows": rows, "places": layouts.layout(np.asarray(gallery.embeddings[rows], np.float32))}

    total = len(gallery.paths)
    rows = evenly(total, ON_MAP)
    kept = gallery.kept("page-map", make, RULES)
    labels = np.empty(total, np.int64)
    for number, members in enumerate(groups(gallery)):
        labels[members] = number
    return Places(kept["rows"], kept["places"], labels[kept["rows"]])


def split(found: Duplicates, apart: Iterable[Sequence[int]]) -> Duplicates:
    """The groups, with no two images together that the user marked as "not duplicates" after they were found.

    Each image of such a group goes to the first part that holds none of those that it stands apart from. Parts of one image
    are left out.
    """
    marks, kept, similarities = marks_of(apart), list[np.ndarray](), list[float]()
    for group, similarity in zip(found.rows, found.similarities.tolist()):
        rows = group.tolist()
        parts = [group] if marks.keys().isdisjoint(rows) else _parts(rows, marks)
        kept += parts
        similarities += [similarity] * len(parts)
    return Duplicates(kept, np.array(similarities, np.float32))


def _parts(group: list[int], marks: dict[int, set[int]]) -> list[np.ndarray]:
    parts: list[tuple[list[int], set[int]]] = []  # rows, and their marks
    for row in group:
        own = marks.get(row, set())
        home = next((part for part in parts if part[1].isdisjoint(own)), None)
        if home is None:
            parts.append(home := ([], set()))
        home[0].append(row)
        home[1].update(own)
    return [np.array(rows, np.int64) for rows, _ in parts if len(rows) > 1]


def packed(lists: Sequence[Any]) -> dict[str, np.ndarray]:
    """Lists of rows as two arrays, as they are kept."""
    sizes = np.array([len(rows) for rows in lists], np.int64)
    return {"rows": np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64), "sizes": sizes}


def unpacked(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The lists that `packed` made arrays of."""
    return np.split(arrays["rows"], np.cumsum(arrays["sizes"])[:-1]) if len(arrays["sizes"]) else []
