"""Chooses the image of a group of duplicates that stays. The shell's script and the page follow the same rule."""

import os
import time
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from data.lists import shown
from gallery import derived
from gallery.index import Index
from gallery.store import Gallery
from utils.errors import InputError

KEEP = {
    "best": "the most pixels, then the most bytes, then the oldest; damaged files last",
    "oldest": "the oldest, then the most pixels, then the most bytes; damaged files last",
}
KEEP_BESIDE = {  # the same with a reference folder
    "best": "the most pixels, then the reference folder, then the most bytes, then the oldest; damaged files last",
    "oldest": "the reference folder, then the oldest, then the most pixels, then the most bytes; damaged files last",
}
NONE: Container[int] = frozenset()


class Spare(NamedTuple):
    """An image that may go, and the image of its group that stays; None if its whole group goes."""

    row: int
    kept: int | None


class Traits(NamedTuple):
    """Facts by which people compare copies."""

    pixels: tuple[int, int] | None  # width and height; None if the gallery does not know them
    format: str | None  # as Pillow names it
    size: int  # bytes
    date: str  # "2024-05-01 12:30:00"
    by_camera: bool  # whether the camera wrote the date; else it is the file's
    cut: bool  # whether the end of the file is missing


def traits(gallery: Gallery, rows: Sequence[int]) -> dict[int, Traits]:
    """Return the traits of each row."""
    contents = gallery.contents_of(rows)
    by_row = {}
    for row in rows:
        file, content = gallery.files[row], contents.get(row)
        facts, notes = content if content else (None, ())
        taken, pixels = facts and facts.taken, (facts.width, facts.height) if facts else None
        date = taken or _written(gallery, row)
        by_row[row] = Traits(pixels, facts and facts.format, file.size, date, bool(taken), "incomplete" in notes)
    return by_row


def ranks(gallery: Gallery, by_row: dict[int, Traits], keep: str, reference: Container[int] = NONE) -> dict[int, tuple]:
    """Return what sorts rows so that the image that stays comes first. keep: a name of KEEP.

    reference: rows that come before others with as many pixels, or before all others if the oldest stays.
    """
    by_rank = {}
    for row, each in by_row.items():
        width, height = each.pixels or (0, 0)
        pixels, other = -width * height, row not in reference
        order = (other, each.date, pixels, -each.size) if keep == "oldest" else (pixels, other, -each.size, each.date)
        by_rank[row] = (each.cut, *order, _written(gallery, row), gallery.paths[row])
    return by_rank


def spares(gallery: Gallery, index: Index, turned: bool, keep: str, reference: Container[int] | None = None) -> list[Spare]:
    """Choose the image that stays of each group of identical files and copies. Look-alikes are different pictures: all stay.

    keep: a name of KEEP. Files that are gone, or changed their size since the gallery was made, take no part.
    reference: rows that stay in any case, and so do images without a copy among them; None: there are none.
    """
    groups = [rows.tolist() for rows in derived.duplicates(gallery, index, "copies", 0, turned).rows]
    groups = [[row for row in group if _is_as_before(gallery, row)] for group in groups]
    if reference is not None:
        groups = across(groups, reference)
    by_row = traits(gallery, [row for group in groups for row in group])
    return all_but_the_best(groups, ranks(gallery, by_row, keep, reference or NONE), reference or NONE)


def below(gallery: Gallery, folder: str | None) -> frozenset[int] | None:
    """Return the rows of the images in a folder and below, as the user names it; None for None.

    Raises InputError if there are none.
    """
    if folder is None:
        return None
    for whole in (os.path.abspath(folder), *(os.path.join(root, os.path.normpath(folder)) for root in gallery.roots)):
        start = os.path.join(whole, "")
        if rows := frozenset(row for row, path in enumerate(gallery.paths) if path.startswith(start)):
            return rows
    raise InputError(f"{shown(folder)}: holds no image of {shown(gallery.folder)}", "reference")


def across(groups: Iterable[Sequence[int]], reference: Container[int]) -> list[Sequence[int]]:
    """Return the groups with an image among `reference` and another one."""
    return [group for group in groups if len({row in reference for row in group}) == 2]


def all_but_the_best(
    groups: Iterable[Sequence[int]], by_rank: dict[int, tuple], reference: Container[int] = NONE
) -> list[Spare]:
    """Return the spare images of these groups of rows, sorted. by_rank: of `ranks`. reference: rows that stay."""
    sorted_groups = (sorted(group, key=by_rank.__getitem__) for group in groups)
    return sorted(Spare(row, group[0]) for group in sorted_groups for row in group[1:] if row not in reference)


def spares_among(chosen: Iterable[int], groups: Iterable[Sequence[int]], by_rank: dict[int, tuple]) -> list[Spare]:
    """Pair each chosen row with the best image of its group that is not chosen; None if there is no such image."""
    kept: dict[int, int | None] = dict.fromkeys(chosen)
    for group in groups:
        stays = min((row for row in group if row not in kept), key=by_rank.__getitem__, default=None)
        kept |= {row: stays for row in group if row in kept}
    return sorted((Spare(row, stays) for row, stays in kept.items()), key=lambda spare: spare.row)


def alone_among(chosen: Iterable[int], groups: Iterable[Sequence[int]]) -> list[int]:
    """Return the chosen rows of which no copy stays, sorted: those for which `spares_among` finds none."""
    alone = set(chosen)
    staying = [group for group in groups if not alone.issuperset(group)]
    return sorted(alone.difference(*staying))


def _written(gallery: Gallery, row: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(gallery.files[row].mtime_ns / 1e9))


def _is_as_before(gallery: Gallery, row: int) -> bool:
    file = gallery.files[row]
    try:
        return os.lstat(file.path).st_size == file.size and not os.path.islink(file.path)
    except OSError:
        return False
