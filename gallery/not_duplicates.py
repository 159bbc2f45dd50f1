"""What the user marked as "not duplicates", kept by the content of the files.

Each line of not_duplicates.txt holds the hashes of images that are not duplicates of each other. So a mark holds wherever
its photos are, under any name, and in all galleries that lie in the same folder. Earlier versions wrote keys of paths.
A mark that is taken back is removed from all files that hold it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import combinations, product
from typing import NamedTuple

from data.lists import shown
from gallery.folder import GalleryFolder
from utils.errors import RunError
from utils.files import written_whole

RowsOf = Callable[[str], Sequence[int]]  # a hash, or the key of a path, in hexadecimal -> rows of the gallery


class Mark(NamedTuple):
    """One line, as far as this gallery has its images."""

    id: str  # 16 hexadecimal digits; equal lines have the same
    groups: list[list[int]]  # of rows that must not be shown as duplicates


def marks(places: Sequence[GalleryFolder], rows_of: RowsOf) -> list[Mark]:
    """Return the marks of these galleries and of those beside them, each once, the oldest of a gallery first."""
    lines = dict.fromkeys(line for place in places for file in _files(place) for line in _lines(file))
    found = (Mark(_id(line), list(_apart(line, rows_of))) for line in lines)
    return [mark for mark in found if mark.groups]


def apart(found: Sequence[Mark]) -> list[list[int]]:
    """Return the groups of rows of marks, without immediate repetitions."""
    groups: list[list[int]] = []
    for mark in found:
        groups += [group for group in mark.groups if group not in groups[-1:]]
    return groups


def remove(places: Sequence[GalleryFolder], mark: str) -> bool:
    """Take a mark back, by its id: in the galleries and in those beside them. Returns whether there was one.

    Raises RunError if a file cannot be written.
    """
    was_there = False
    for file in dict.fromkeys(file for place in places for file in _files(place)):
        lines = list(_lines(file))
        left = [line for line in lines if _id(line) != mark]
        if len(left) == len(lines):
            continue
        was_there = True
        try:
            with written_whole(file) as new:
                new.write("".join(f"{' '.join(line)}\n" for line in left).encode("ascii", "replace"))
        except OSError as error:
            raise _unwritable(file, error) from None
    return was_there


def add(place: GalleryFolder, hashes: Sequence[str]) -> str:
    """Add a mark, and return its id. hashes: one for each marked image, equal for images with the same bytes.

    Raises RunError if the mark cannot be written.
    """
    line = sorted(hashes)
    try:
        with open(place.not_duplicates, "ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            begin = "" if file.read() in (b"", b"\n") else "\n"  # a full disk may have cut off the last line
            file.write(f"{begin}{' '.join(line)}\n".encode("ascii"))
    except OSError as error:
        raise _unwritable(place.not_duplicates, error) from None
    return _id(line)


def _unwritable(file: str, error: OSError) -> RunError:
    return RunError(f"{shown(file)}: cannot be written ({error.strerror}); make room or correct its permissions")


def _id(line: Sequence[str]) -> str:
    return blake2b(" ".join(line).encode("utf-8", "replace"), digest_size=8).hexdigest()


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
