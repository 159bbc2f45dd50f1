"""Finds shots that one camera took within seconds. They resemble each other as copies do, but each is a picture of its own.

The class "burst" also holds pictures of one scene that differ in one place (`gallery.duplicates.near`).
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import combinations, groupby, product

import numpy as np

from gallery.groups import NO_LINKS, Links, concatenated
from gallery.store import Gallery

SECONDS = 10  # between two shots of a burst, at most
Shot = tuple[float, int]  # seconds, row


def runs(gallery: Gallery) -> list[list[Shot]]:
    """Return the shots of each camera that follow each other within SECONDS, by time; runs of two or more."""
    shots: dict[str, list[Shot]] = {}
    for row, (facts, _) in gallery.contents_of(range(len(gallery))).items():
        with suppress(ValueError):  # a camera may write any date
            if facts.taken and facts.camera:
                seconds = (datetime.strptime(facts.taken, "%Y-%m-%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds()
                shots.setdefault(facts.camera, []).append((seconds, row))
    found = []
    for of_camera in map(sorted, shots.values()):
        times = np.array([seconds for seconds, _ in of_camera])
        ends = np.flatnonzero(np.diff(times, append=np.inf) > SECONDS) + 1
        found += [of_camera[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist()) if end - start > 1]
    return found


def apart(shots: Sequence[list[Shot]]) -> list[list[int]]:
    """Return groups of rows that are no copies of each other: shots of one run at different times.

    A copy keeps the date of its original, so rows with the same second may be copies.
    """
    groups: list[list[int]] = []
    for run in shots:
        moments = [[row for _, row in of_moment] for _, of_moment in groupby(run, key=lambda shot: shot[0])]
        if all(len(rows) == 1 for rows in moments):
            groups += [[rows[0] for rows in moments]] if len(moments) > 1 else []
        else:
            groups += [[*pair] for one, other in combinations(moments, 2) for pair in product(one, other)]
    return groups


def bursts(gallery: Gallery, threshold: float, leader: np.ndarray) -> Links:
    """Return the links between shots of a run that follow each other, with a similarity of `threshold` or more.

    leader: int64 (N,), a row that stands for each image and its copies. Links are between these rows.
    """
    links = [NO_LINKS]
    for run in runs(gallery):
        rows = np.array(list(dict.fromkeys(int(leader[row]) for _, row in run)))
        chosen = np.asarray(gallery.embeddings[rows], np.float32).reshape(len(rows), -1)
        similarities = (chosen[1:] * chosen[:-1]).sum(1)
        links.append(Links(rows[:-1], rows[1:], similarities).where(similarities >= threshold))
    return concatenated(links)
