"""Slow results computed from a gallery: groups, duplicates, the map. Each is kept beside the gallery until that changes.

The shell and the page call the same functions, so each reuses results of the other.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallery import not_duplicates
from gallery.candidates import Tell, untold
from gallery.group_names import group_names
from gallery.groups import Group, Links, concatenated, joined, leaders, marks_of
from gallery.index import Index
from gallery.smoothing import SmoothedRows, neighbours_of
from gallery.store import Gallery
from utils.arrays import evenly

ON_MAP = 20_000  # images on the map, at most
RULES = 4  # raise it when these functions compute anything differently, such as by a threshold: kept results are made anew
GROUP_RULES = 3  # the same for groups, their names and the map
KINDS = ("identical", "near", "burst", "alike")  # classes of duplicates: identical, copies, bursts, look-alikes


class Duplicates(NamedTuple):
    """Groups of images that are duplicates of each other, the most similar group first."""

    rows: list[np.ndarray]  # int64, for each group
    similarities: np.ndarray  # float32 (groups,): how similar the images of each group are


class Places(NamedTuple):
    rows: np.ndarray  # int64 (n,) of the images on the map
    places: np.ndarray  # float32 (n, 2) in [0, 1]
    labels: np.ndarray  # int64 (n,): the group of each image


def groups(gallery: Gallery, k: int | None = None, seed: int = 0) -> list[np.ndarray]:
    """Return the rows of each group of look-alikes, int64: the largest group first, in it the most central image first.

    The rows are smoothed over their neighbours (gallery/smoothing.py). The map uses the same rows.
    k, seed: see `utils.clustering.grouping.group`, which makes the groups. Groups of the default k and seed are kept.
    """

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import grouping

        smoothed = SmoothedRows(gallery.embeddings, neighbours_of(gallery))
        rows: Any = smoothed[:] if len(smoothed) <= grouping.SAMPLE else smoothed
        return packed(grouping.group(rows, k, seed).order)

    return unpacked(gallery.kept("page-clusters", make, GROUP_RULES) if (k, seed) == (None, 0) else make())


def named_groups(gallery: Gallery, k: int | None = None, seed: int = 0) -> list[tuple[str, np.ndarray]]:
    """Return the name of each group of `groups`, and its rows. Names are kept with the groups: they need every path."""
    of_gallery = groups(gallery, k, seed)

    def make() -> dict[str, np.ndarray]:
        return {"names": np.array(group_names([gallery.shown(row) for row in range(len(gallery))], of_gallery), "U")}

    kept = gallery.kept("page-names", make, GROUP_RULES) if (k, seed) == (None, 0) else make()
    return list(zip(kept["names"].tolist(), of_gallery))


def usual_threshold(gallery: Gallery, index: Index) -> float:
    """Return the lowest similarity of look-alikes in this gallery."""
    from gallery import duplicates as find

    return find.usual_likeness(gallery.embeddings, gallery.hashes, index.search)


def duplicates(gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool) -> Duplicates:
    """Find duplicates as `found_duplicates` does, and `split` groups that the user has marked as "not duplicates" since."""
    return split(found_duplicates(gallery, index, kind, threshold, turned), gallery.apart())


def found_duplicates(
    gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool, tell: Tell = untold
) -> Duplicates:
    """Group identical files ("identical"), copies ("near"), shots of one moment or one scene ("burst"), or images with a
    similarity of `threshold` or more ("alike").

    turned: mirrored and turned pictures count as copies. Only the first image of a group takes part in the later classes,
    so no two images are shown together twice. Images that are marked as "not duplicates" when the groups are made stay
    apart; `split` handles later marks. "copies": identical files and copies together. tell: called with the share that is
    done, while copies are searched.
    """
    if kind == "copies":
        return merged([found_duplicates(gallery, index, part, 0, turned, tell) for part in ("identical", "near")])
    kept = _kept_duplicates(gallery, index, kind, threshold, turned, tell)
    return Duplicates(unpacked(kept), kept["similarities"])


def _kept_duplicates(
    gallery: Gallery, index: Index, kind: str, threshold: float, turned: bool, tell: Tell
) -> dict[str, np.ndarray]:
    """Return the arrays that are kept of one class. Copies have "scenes" too, int64 (n, 2), and "medians", float32 (n,)."""
    from gallery import bursts, duplicates as find

    marks = gallery.marks()
    ids, apart = [mark.id for mark in marks], not_duplicates.apart(marks)

    def make() -> dict[str, np.ndarray]:
        more: dict[str, np.ndarray] = {}
        if kind == "identical":
            found_groups = find.identical(gallery.hashes, apart)
        elif kind == "near":
            shots = bursts.apart(bursts.runs(gallery))
            all_apart = [*apart, *shots]
            found_groups, scenes = find.near(gallery.prints, gallery.hashes, turned=turned, apart=all_apart, tell=tell)
            more = {"scenes": np.stack([scenes.first, scenes.second], 1), "medians": scenes.similarity}
        else:
            before = KINDS[: KINDS.index(kind)]
            earlier = [found_duplicates(gallery, index, other, 0, turned) for other in before]
            earlier_groups = [Group(rows.tolist(), 1.0) for rows in merged(earlier).rows]
            if kind == "burst":
                leader = leaders(len(gallery), earlier_groups)
                of_copies = _kept_duplicates(gallery, index, "near", 0, turned, untold)
                first, second = of_copies["scenes"].T
                scenes = Links(first, second, of_copies["medians"]).among(leader)
                shots_in_a_row = bursts.bursts(gallery, usual_threshold(gallery, index), leader)
                found_groups = joined(concatenated([shots_in_a_row, scenes]), apart, leader)
            else:
                found_groups = find.alike(gallery.embeddings, index.search, threshold, apart, earlier_groups)
        similarities = np.array([group.similarity for group in found_groups], np.float32)
        groups = packed([group.rows for group in found_groups])
        return groups | more | {"similarities": similarities, "marks": np.array(ids, "U16")}

    digits = f"{threshold:.2f}" if round(threshold, 2) == threshold else repr(threshold)
    name = f"{kind}-{digits}" if kind == "alike" else kind
    name = f"page-{name}{'-turned' if turned and kind != 'identical' else ''}"
    kept = gallery.kept(name, make, RULES)
    if not set(kept["marks"].tolist()) <= set(ids):  # made with a mark that was taken back since
        kept = gallery.kept(name, make, RULES, again=True)
    return kept


def layout(gallery: Gallery) -> Places:
    """Place the images on the map: an even sample if there are more than ON_MAP."""

    def make() -> dict[str, np.ndarray]:
        from utils.clustering import layout as layouts

        return {"rows": rows, "places": layouts.layout(SmoothedRows(gallery.embeddings, neighbours_of(gallery))[rows])}

    total = len(gallery.paths)
    rows = evenly(total, ON_MAP)
    kept = gallery.kept("page-map", make, GROUP_RULES)
    labels = np.empty(total, np.int64)
    for number, members in enumerate(groups(gallery)):
        labels[members] = number
    return Places(kept["rows"], kept["places"], labels[kept["rows"]])


def split(unsplit: Duplicates, apart: Iterable[Sequence[int]], gone: np.ndarray | None = None) -> Duplicates:
    """Split groups that hold images which the user has marked as "not duplicates" since the groups were made.

    Each image goes to the first part without an image that it is marked apart from. Parts of one image are left out.
    gone: bool (N,), images that are left out.
    """
    marks, kept, similarities = marks_of(apart), list[np.ndarray](), list[float]()
    for group, similarity in zip(unsplit.rows, unsplit.similarities.tolist()):
        group = group if gone is None else group[~gone[group]]
        rows = group.tolist()
        if len(rows) < 2:
            continue
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


def merged(classes: Iterable[Duplicates]) -> Duplicates:
    """Join groups that share an image. A joined group is as similar as the least similar of its parts."""
    group_of: dict[int, tuple[list[int], float]] = {}  # row -> its group and similarity
    for rows, similarity in (pair for each in classes for pair in zip(each.rows, each.similarities.tolist())):
        parts = [group_of.get(row, ([row], 1.0)) for row in rows.tolist()]
        joined = sorted({row for part, _ in parts for row in part})
        group_of |= dict.fromkeys(joined, (joined, min(similarity, *(least for _, least in parts))))
    groups = sorted({id(rows): (-least, rows) for rows, least in group_of.values()}.values())
    return Duplicates([np.array(rows, np.int64) for _, rows in groups], np.array([-s for s, _ in groups], np.float32))


def packed(lists: Sequence[Any]) -> dict[str, np.ndarray]:
    """Pack lists of rows into two arrays, as they are kept."""
    sizes = np.array([len(rows) for rows in lists], np.int64)
    return {"rows": np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64), "sizes": sizes}


def unpacked(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the lists of rows from the arrays of `packed`."""
    return np.split(arrays["rows"], np.cumsum(arrays["sizes"])[:-1]) if len(arrays["sizes"]) else []
