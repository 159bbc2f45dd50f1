"""Groups of images that links connect. Images that the user marked apart never come together."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Apart = Iterable[Sequence[int]]  # each entry: rows that must all be in different groups


class Group(NamedTuple):
    """Images that are duplicates of each other, in one class."""

    rows: list[int]  # ascending, two or more
    similarity: float  # the lowest of the links that hold it together, or to the centre


class Links(NamedTuple):
    """Pairs of rows that belong together."""

    first: np.ndarray  # int64 (m,)
    second: np.ndarray  # int64 (m,)
    similarity: np.ndarray  # float32 (m,)

    def where(self, chosen: np.ndarray | slice) -> "Links":
        """Return the links with these numbers, in this order, or under this mask."""
        return Links(self.first[chosen], self.second[chosen], self.similarity[chosen])

    def among(self, rows: np.ndarray) -> "Links":
        """Return the same links between the rows that these numbers stand for, int64."""
        return Links(rows[self.first], rows[self.second], self.similarity)


NO_LINKS = Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def concatenated(links: Sequence[Links]) -> Links:
    return Links(*(np.concatenate(parts) for parts in zip(*links)))


def first_same(keys: np.ndarray) -> np.ndarray:
    """For each row of uint8 (N, b), b >= 1, return the first row with the same bytes: int64 (N,)."""
    # NumPy compares strings in C. It ignores zeros at the end, which is harmless for strings of equal length.
    strings = np.ascontiguousarray(keys).view(f"S{keys.shape[1]}").ravel()
    _, first, number = np.unique(strings, return_index=True, return_inverse=True)
    return first[number]


def leaders(count: int, groups: Iterable[Group]) -> np.ndarray:
    """For each row, return the first row of its group (itself if it has no group): int64 (count,). Groups may share rows."""
    leader = np.arange(count)
    for group in groups:
        leader[group.rows[1:]] = group.rows[0]
    while (leader[leader] != leader).any():
        leader = leader[leader]
    return leader


def marks_of(apart: Apart, leader: np.ndarray | None = None) -> dict[int, set[int]]:
    """Map rows to the numbers of their entries in `apart`. Rows that share a number may not come together."""
    marks: dict[int, set[int]] = {}
    for number, rows in enumerate(apart):
        for row in rows:
            marks.setdefault(row if leader is None else int(leader[row]), set()).add(number)
    return marks


def joined(links: Links, apart: Apart, leader: np.ndarray | None = None) -> list[Group]:
    """Join rows along their links, strongest first, equal ones in order. A link that would bring together rows marked apart
    is left out. leader: the row that stands for each row, from `leaders`."""
    root: dict[int, int] = {}
    least: dict[int, float] = {}
    marks = marks_of(apart, leader)

    def root_of(row: int) -> int:
        while (above := root.setdefault(row, row)) != row:
            root[row] = row = root[above]
        return row

    order = np.argsort(-links.similarity, kind="stable")
    for first, second, value in zip(*(part[order].tolist() for part in links)):
        keeps, goes = sorted((root_of(first), root_of(second)))
        if keeps == goes or not marks.get(keeps, set()).isdisjoint(marks.get(goes, ())):
            continue
        root[goes], least[keeps] = keeps, value
        if goes in marks:
            marks.setdefault(keeps, set()).update(marks[goes])
    members: dict[int, list[int]] = {}
    for row in sorted(root):
        members.setdefault(root_of(row), []).append(row)
    return most_similar_first(Group(rows, least[top]) for top, rows in members.items() if len(rows) > 1)


def most_similar_first(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-group.similarity, group.rows))
