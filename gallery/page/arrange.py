"""Which groups of duplicates the page shows, and in which order: filtered by name and folder, sorted."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gallery import keep
from gallery.derived import Duplicates
from gallery.keep import Traits
from gallery.page import request_params as params
from gallery.page.gallery_view import GalleryView
from gallery.page.request_params import Refusal

SORTS = ("similarity", "unlike", "date", "size", "name")
LONGEST = 500  # characters of a text to search for
FOLDERS = 500  # that are offered as a reference


class Wish(NamedTuple):
    """What the user wants to see of a class of duplicates."""

    keep: str = "best"  # a name of keep.KEEP
    find: str = ""  # a text that a path of the group holds, in lower case
    reference: str = ""  # a folder: groups with an image in it and one outside
    across: bool = False  # only groups in several folders
    sort: str = "similarity"


def wish_of(query: Mapping[str, str]) -> Wish:
    """Read a wish from a query string. Raises Refusal."""
    find, reference = (query.get(name, "") for name in ("find", "reference"))
    for name, text in (("find", find), ("reference", reference)):
        if len(text) > LONGEST:
            raise Refusal(400, f"`{name}` may have {LONGEST} characters.")
    words = params.one_word(query, "keep", keep.KEEP), params.one_word(query, "sort", SORTS)
    across = bool(params.whole(query, "across", 0, 0, 1))
    return Wish(words[0], find.casefold(), reference.strip("/"), across, words[1])


class Arranged:
    """Groups as they are shown, in each the image that should stay first."""

    def __init__(self, g: GalleryView, result: Duplicates, wish: Wish, every: bool = False) -> None:
        """every: no group is left out."""
        self.g, self.wish = g, wish
        self.paths = {row: g.path(row) for rows in result.rows for row in rows.tolist()}
        start = f"{wish.reference}/"
        self.reference = {row for row, path in self.paths.items() if wish.reference and path.startswith(start)}
        groups = [(rows.tolist(), float(s)) for rows, s in zip(result.rows, result.similarities)]
        self.groups = [(rows, similarity) for rows, similarity in groups if every or self._is_wanted(rows)]
        if wish.sort == "unlike":
            self.groups.reverse()
        elif wish.sort != "similarity":
            self.groups = self._sorted()

    def _is_wanted(self, rows: Sequence[int]) -> bool:
        paths = [self.paths[row] for row in rows]
        if self.wish.across and len({os.path.dirname(path) for path in paths}) == 1:
            return False
        if self.wish.reference and len({row in self.reference for row in rows}) == 1:
            return False
        return not self.wish.find or any(self.wish.find in path.casefold() for path in paths)

    def ranked(self, rows: Sequence[int]) -> tuple[dict[int, Traits], dict[int, tuple]]:
        """Return the traits of these rows, and what sorts them so that the one that stays comes first."""
        by_row = keep.traits(self.g.gallery, rows)
        return by_row, keep.ranks(self.g.gallery, by_row, self.wish.keep, self.reference)

    def _sorted(self) -> list[tuple[list[int], float]]:
        """Sort the groups: by the date or name of the image that stays, or by the bytes of the others."""
        by_row, by_rank = self.ranked([row for rows, _ in self.groups for row in rows])
        best = [min(rows, key=by_rank.__getitem__) for rows, _ in self.groups]
        if self.wish.sort == "name":
            order = sorted(range(len(best)), key=lambda i: self.paths[best[i]].casefold())
        elif self.wish.sort == "date":
            order = sorted(range(len(best)), key=lambda i: by_row[best[i]].date, reverse=True)
        else:
            spare = [sum(by_row[row].size for row in rows) - by_row[row].size for (rows, _), row in zip(self.groups, best)]
            order = np.argsort(-np.array(spare, np.int64), kind="stable").tolist()
        return [self.groups[i] for i in order]


def folders_of(paths: Sequence[str]) -> list[str]:
    """Return the folders of these paths and those above them, sorted; the highest ones if there are too many."""
    folders: set[str] = set()
    for path in paths:
        while (path := os.path.dirname(path)) and path not in folders:
            folders.add(path)
    return sorted(sorted(folders, key=lambda folder: folder.count("/"))[:FOLDERS])
