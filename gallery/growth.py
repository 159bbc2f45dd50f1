"""Chooses the images of each state of a gallery that is made for the first time.

A first gallery of many images is made in several states. Each state is a whole gallery, of a part of the images, and is put
in place by the protocol of gallery/folder.py. So the page can show the first images after seconds. A state never lacks an
image of the state before. The last state holds all images.

Each state takes as long as all states before it together, so that the work of putting them in place stays small.
"""

import time
from collections.abc import Container, Sequence

import numpy as np

from gallery.folder import GalleryFolder
from gallery.store import Gallery
from gallery.table import File
from utils.distributed import Group
from utils.errors import InputError

FIRST = 64  # images of the first state
LEAST_SECONDS = 5.0  # to embed the images of a state; the first takes less
LAST = 0.7  # share of all images beyond which a state takes all
COST = 0.04  # most time for putting states in place, as a share of the time for embedding


class Growth:
    """Chooses the images of one state after the other. All processes of a run choose the same."""

    def __init__(self, files: Sequence[File], first: Container[str] = (), least_seconds: float = LEAST_SECONDS) -> None:
        """first: paths of images that each state holds, because they are embedded or shown already.

        least_seconds: embedding the images of a state takes at least so long; the first state may take less.
        """
        is_first = np.array([file.path in first for file in files], bool)
        others = np.flatnonzero(~is_first)
        self._order = np.concatenate([np.flatnonzero(is_first), others[spread(len(others))]])
        self._least_seconds, self._embedded, self._seconds = least_seconds, 0, 0.0
        self._size = int(is_first.sum())
        self._grow(FIRST)
        self._began = time.monotonic()

    @property
    def is_whole(self) -> bool:
        """Return True if the next state is the last one."""
        return self._size == len(self._order)

    def images(self) -> np.ndarray:
        """Return the images of the next state: their places among the files, int64 ascending."""
        return np.sort(self._order[: self._size])

    def embedded(self, images: int) -> None:
        """Note that the images of the state are embedded: this number is new."""
        now = time.monotonic()
        self._embedded, self._seconds, self._began = self._embedded + images, self._seconds + now - self._began, now

    def in_place(self, group: Group = Group()) -> None:
        """Note that the state is in place, and choose the size of the next one."""
        now = time.monotonic()
        cost, self._began = now - self._began, now
        seconds = max(self._least_seconds, self._seconds, cost / COST)
        self._grow(group.share_object(round(seconds * self._embedded / max(self._seconds, 1e-3))))

    def _grow(self, images: int) -> None:
        self._size += max(1, images)
        if self._size > LAST * len(self._order):
            self._size = len(self._order)


def spread(count: int) -> np.ndarray:
    """Return range(count) in an order whose every beginning is spread evenly: int64 (count,), the bits of places reversed.

    Folders are sorted, so that their first images often show the same thing.
    """
    bits = max(1, (count - 1).bit_length())
    places = np.arange(2**bits)
    backwards = np.zeros_like(places)
    for bit in range(bits):
        backwards |= (places >> bit & 1) << (bits - 1 - bit)
    return backwards[backwards < count]


def unfinished_images(place: GalleryFolder) -> set[str] | None:
    """Return the paths of the images in an unfinished gallery; none if there is no gallery. None if it is finished.

    A finished gallery stays in place until the next one is finished, too.
    """
    try:
        gallery = Gallery(place)
    except InputError:
        return set()
    return set(gallery.paths) if gallery.of else None
