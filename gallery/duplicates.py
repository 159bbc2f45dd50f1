"""Finds duplicates among the images of a gallery: identical files, copies of a picture, scenes with something moved,
look-alikes.

`gallery.derived.duplicates` runs all three and keeps the results.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gallery.candidates import EXACT, NEIGHBOURS, PRINTS_AT_ONCE, Candidates, Tell, candidates, untold
from gallery.groups import (
    NO_LINKS,
    Apart,
    Group,
    Links,
    concatenated,
    first_same,
    joined,
    leaders,
    marks_of,
    most_similar_first,
)
from gallery.thumbprint_similarity import compare
from gallery.thumbprints import VIEWS, view_of
from utils.arrays import blocks, evenly

COPY = 0.85  # lowest similarity of the prints of two copies; measured by scripts/benchmarks/planted_copies.py
MOVED = 2.6  # a place that changes more shows that something moved; measured by the same script
SAMPLE = 128  # images from which the usual similarity of neighbours is estimated
FAR = 0.75  # share of the images whose nearest neighbour is too dissimilar for a look-alike
LEAST, MOST = 0.2, 0.95  # limits of the threshold for look-alikes
FEW, MANY = 32, 256  # `alike` first searches FEW neighbours of each image, then MANY where more are similar enough

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Near(NamedTuple):
    """Copies and scenes, found by thumbprints."""

    copies: list[Group]
    scenes: Links  # pairs that show one scene with something moved: no copies


def usual_likeness(embeddings: np.ndarray, hashes: np.ndarray, search: Search) -> float:
    """Return the lowest similarity of look-alikes, rounded down to 2 digits: each embedding has its own scale.

    A quarter of the images have a neighbour at least this similar. Identical files do not count as neighbours.
    """
    count = len(embeddings)
    rows = evenly(count, SAMPLE)
    neighbours, similarities = search(np.asarray(embeddings[rows], np.float32), min(8, count))
    others = (neighbours >= 0) & (hashes[neighbours] != hashes[rows, None]).any(2)
    nearest = similarities[others.any(1), others[others.any(1)].argmax(1)]
    likeness = float(np.quantile(nearest, FAR)) if len(nearest) else MOST
    return min(MOST, max(LEAST, math.floor(100 * likeness) / 100))


def identical(hashes: np.ndarray, apart: Apart = ()) -> list[Group]:
    """Group files with the same bytes, by their hashes, uint8 (N, b)."""
    first = first_same(hashes)
    others = np.flatnonzero(first != np.arange(len(first)))
    links = Links(first[others], others, np.ones(len(others), np.float32))
    return joined(links, apart)


def near(
    prints: np.ndarray,
    hashes: np.ndarray | None = None,
    turned: bool = False,
    threshold: float = COPY,
    apart: Apart = (),
    exact_up_to: int = EXACT,
    tell: Tell = untold,
) -> Near:
    """Group copies of a picture: resized, recompressed, cropped by up to 5 % per side; if `turned`, also mirrored or turned.
    Pairs that agree in most parts but differ clearly in one place are returned as `scenes`. They are never copies.

    prints: uint8 (N, SIDE, SIDE) of gallery.thumbprints.thumbprint, may be memory-mapped. hashes: uint8 (N, b), of the
    files; of identical files only the first takes part. Colours are ignored: a black-and-white version is a copy.
    Links are pairs with a similarity (`gallery.thumbprint_similarity`) of `threshold` or more and no change above MOVED.
    They are joined strongest first; rows marked `apart` never come together. Blank pictures are copies only if their prints
    are equal. The order of the rows changes nothing. Beyond `exact_up_to` prints, candidates come from an inverted file.
    tell: called with the share that is done. The first half are the candidates, the second half the comparisons.
    """
    if len(prints) < 2:
        return Near([], NO_LINKS)
    leader = leaders(len(prints), identical(hashes, apart) if hashes is not None else ())
    rows = np.unique(leader)
    digests = b"".join(hashlib.blake2b(prints[row].tobytes(), digest_size=16).digest() for row in rows)
    keys = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    same = first_same(keys)
    twins = np.flatnonzero(same != np.arange(len(rows)))
    # Sort the prints by their hashes, so that nothing depends on the order of the images.
    distinct = np.unique(same)
    distinct = distinct[np.lexsort(keys[distinct].T)]
    views = range(VIEWS) if turned else (0,)
    copies, scenes = links_among(prints[rows[distinct]], views, threshold, exact_up_to, tell)
    copies, scenes = copies.among(rows[distinct]), scenes.among(rows[distinct])
    equal = Links(same[twins], twins, np.ones(len(twins), np.float32)).among(rows)
    moved = np.stack([scenes.first, scenes.second], 1).tolist()
    return Near(joined(concatenated([equal, copies]), [*apart, *moved], leader), scenes)


def links_among(
    prints: np.ndarray, views: Sequence[int], threshold: float, exact_up_to: int = EXACT, tell: Tell = untold
) -> tuple[Links, Links]:
    """Return the pairs of different prints, uint8 (n, SIDE, SIDE), that are copies, and the pairs that show one scene.

    A print has at most NEIGHBOURS candidates. A picture with many copies may get candidates of one sort only, such as one
    size. So one print of each larger group searches again, among one print of each group, until no link is new.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    tell_of_pairs: Tell = lambda share: tell(share / 2)
    tell_of_links: Tell = lambda share: tell((1 + share) / 2)
    count, copies, scenes = len(prints), NO_LINKS, NO_LINKS
    chosen = queries = np.arange(count)
    while len(queries):
        among, places = prints[chosen], np.searchsorted(chosen, queries)
        pairs = candidates(among, views, places, exact_up_to, tell_of_pairs)
        links = compared(among, pairs, threshold, tell_of_links)
        copies, scenes = (concatenated([before, more.among(chosen)]) for before, more in zip((copies, scenes), links))
        graph = coo_matrix((copies.similarity, copies[:2]), (count, count))
        _, chosen, sizes = np.unique(connected_components(graph)[1], return_index=True, return_counts=True)
        queries = chosen[sizes > NEIGHBOURS] if len(links[0].first) else chosen[:0]
        tell_of_pairs = tell_of_links = untold  # further rounds are short
    # A pair that is a copy in one view may look moved in another: a symmetric picture, mirrored.
    return copies, scenes.where(~np.isin(scenes.first * count + scenes.second, copies.first * count + copies.second))


def compared(prints: np.ndarray, pairs: Candidates, threshold: float, tell: Tell = untold) -> tuple[Links, Links]:
    """Return the pairs of prints, uint8 (n, SIDE, SIDE), that are copies, and the pairs that show one scene."""
    similarity, median, change = values = np.zeros((3, len(pairs.view)), np.float32)
    done = 0
    for view in np.unique(pairs.view).tolist():
        for block in blocks(np.flatnonzero(pairs.view == view), PRINTS_AT_ONCE):
            tell(done / len(pairs.view))
            done += len(block)
            values[:, block] = compare(view_of(prints[pairs.first[block]], view), prints[pairs.second[block]], threshold)
    is_copy, is_scene = (similarity >= threshold) & (change <= MOVED), (median >= threshold) & (change > MOVED)
    copies, scenes = (Links(pairs.first, pairs.second, each) for each in (similarity, median))
    return copies.where(is_copy), scenes.where(is_scene)


# ---- look-alikes -----------------------------------------------------------------------------------------------------


def alike(
    embeddings: np.ndarray, search: Search, threshold: float, apart: Apart = (), copies: Iterable[Group] = ()
) -> list[Group]:
    """Group images whose embeddings have a similarity of `threshold` or more. A group of `copies` counts as its first image.

    embeddings: float32 or float16 (N, d), rows of length 1, may be memory-mapped. search: gallery.index.Index.search.

    Similarity is not transitive: the two ends of a chain may differ completely. So groups are stars: all members resemble
    the centre, and an image that resembles only other members stays outside. Images become centres in order of their number
    of neighbours (MANY at most), then of the sum of the similarities. A centre takes the neighbours that are still free.
    """
    leader = leaders(len(embeddings), copies)
    near_by = Neighbours(embeddings, search, threshold, leader == np.arange(len(leader)))
    links, has_more = near_by.of_all()
    begins = np.searchsorted(links.first, np.arange(len(leader) + 1))
    counts, sums = np.diff(begins), np.bincount(links.first, links.similarity, len(leader))
    free, marks, groups = near_by.takes_part.copy(), marks_of(apart, leader), []
    for centre in np.lexsort((-sums, -counts))[: np.count_nonzero(counts)].tolist():
        if not free[centre]:
            continue
        star = near_by.of_one(centre) if has_more[centre] else links.where(slice(begins[centre], begins[centre + 1]))
        star = star.where(free[star.second])
        rows, least, star_marks = [centre], 1.0, set(marks.get(centre, ()))
        for row, value in zip(star.second.tolist(), star.similarity.tolist()):
            if star_marks.isdisjoint(marks.get(row, ())):
                star_marks.update(marks.get(row, ()))
                rows.append(row)
                least = value  # the most similar came first
        if len(rows) > 1:
            free[rows] = False
            groups.append(Group(sorted(rows), least))
    return most_similar_first(groups)


class Neighbours:
    """Finds neighbours, by `threshold` or more, among the rows of embeddings (N, d) that take part, bool (N,)."""

    def __init__(self, embeddings: np.ndarray, search: Search, threshold: float, takes_part: np.ndarray) -> None:
        self.embeddings, self.search, self.threshold, self.takes_part = embeddings, search, threshold, takes_part

    def of(self, rows: np.ndarray, most: int) -> tuple[Links, np.ndarray]:
        """Return at most `most` links of each row, by row, most similar first; and bool (n,): rows with more links."""
        count = len(self.embeddings)
        others, values = self.search(np.asarray(self.embeddings[rows], np.float32), min(most + 1, count))
        enough = (values >= self.threshold) & (others >= 0) & (others != rows[:, None]) & self.takes_part[others]
        links = Links(np.repeat(rows, enough.sum(1)), others[enough], values[enough])
        has_more = (values[:, -1] >= self.threshold) & (values.shape[1] < count)
        return links.where(np.lexsort((links.second, -links.similarity, links.first))), has_more

    def of_all(self) -> tuple[Links, np.ndarray]:
        """Return the links of all rows, MANY each at most; and bool (N,): rows with more links."""
        parts, has_more = [NO_LINKS], np.zeros(len(self.embeddings), bool)
        for rows in blocks(np.flatnonzero(self.takes_part), PRINTS_AT_ONCE):
            few, more = self.of(rows, FEW)
            many, has_more[rows[more]] = self.of(rows[more], MANY) if more.any() else (NO_LINKS, False)
            links = concatenated([few.where(~np.isin(few.first, rows[more])), many])
            parts.append(links.where(np.argsort(links.first, kind="stable")))
        return concatenated(parts), has_more

    def of_one(self, row: int) -> Links:
        """Return all links of one row."""
        most, has_more = MANY, np.ones(1, bool)
        while has_more.any():
            most *= 4
            links, has_more = self.of(np.array([row]), most)
        return links
