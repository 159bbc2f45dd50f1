"""What the user marked as "not duplicates", kept by the content of the files.

Each line of not_duplicates.txt holds the hashes of images that are not duplicates of each other. So a mark holds wherever
its photos are, under any name, and in all galleries that lie in the same folder. Earlier versions wrote keys of paths.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations, product

from data.lists import shown
from gallery.folder import GalleryFolder
from utils.errors import RunError

RowsOf = Callable[[str], Sequence[int]]  # a hash, or the key of a path, in hexadecimal -> rows of the gallery


def read(place: GalleryFolder, rows_of: RowsOf) -> list[list[int]]:
    """Return groups of rows that must not be shown as duplicates: the marks of this gallery, and of those beside it."""
    groups: list[list[int]] = []
    for line in dict.fromkeys(line for file in _files(place) for line in _lines(file)):
        groups += [group for group in _apart(line, rows_of) if group not in groups[-1:]]
    return groups


def add(place: GalleryFolder, hashes: Sequence[str]) -> None:
    """Add a mark. hashes: one for each marked image, so the hash of two marked images with the same bytes appears twice.

    Raises RunError if the mark cannot be written.
    """
    try:
        with open(place.not_duplicates, "ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            begin = "" if file.read() in (b"", b"\n") else "\n"  # a full disk may have cut off the last line
            file.write(f"{begin}{' '.join(sorted(hashes))}\n".encode("ascii"))
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); make room or correct its permissions"
        raise RunError(f"{shown(place.not_duplicates)}: {reason}") from None


def _apart(line: tuple[str, ...], rows_of: RowsOf) -> Iterator[list[int]]:
    """Yield the groups that a line means. The same file may be in several rows. These rows may still be shown as duplicates
    of each other, unless the line holds their hash twice."""
    names = list(dict.fromkeys(line))
    rows = [list(rows_of(name)) for name in names]
    if all(len(group) <= 1 for group in rows):
        whole = sorted({row for group in rows for row in group})
        if len(whole) > 1:
            yield whole
        return
    for one, other in combinations(rows, 2):
        yield from (sorted(pair) for pair in product(one, other))
    yield from (sorted(group) for name, group in zip(names, rows) if line.count(name) > 1 and len(group) > 1)


def _files(place: GalleryFolder) -> Iterator[str]:
    """Yield the list of this gallery, then those of the galleries beside it."""
    yield place.not_duplicates
    parent = os.path.dirname(place.path)
    with suppress(OSError):
        for name in sorted(os.listdir(parent)):
            other = GalleryFolder(os.path.join(parent, name))
            if other.path != place.path and os.path.isfile(other.about):
                yield other.not_duplicates


def _lines(file: str) -> Iterator[tuple[str, ...]]:
    with suppress(OSError), open(file, encoding="ascii", errors="replace") as lines:
        yield from (tuple(line.split()) for line in lines)
