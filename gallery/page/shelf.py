"""The galleries that the page shows. It notices by itself when embed.py has renewed one, and when photos are gone."""

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from data.lists import below
from gallery.folder import GalleryFolder
from gallery.not_duplicates import Mark
from gallery.page.gallery_view import GalleryView, text
from utils import log
from utils.errors import InputError, RunError

PAUSE = 2  # seconds between two looks at the disk, at least
RARELY = 10  # times the duration of a look, which is long for a slow disk: the pause after it

Reopen = Callable[[str], GalleryView]  # the folder of a gallery -> a view of what it holds now


class Shelf:
    """Holds a view of each gallery. `look` brings them up to date; requests use the views as they are."""

    def __init__(self, views: Sequence[GalleryView], reopen: Reopen | None = None) -> None:
        """reopen: opens a gallery that was renewed; None: the galleries stay as they are."""
        self.views, self._reopen = list(views), reopen
        self.unmarked = 0  # how often a mark was taken back: results that were made before may lack groups
        self._marking, self._said = threading.Lock(), ""
        name_apart(self.views)
        self._looking, self._next = threading.Lock(), 0.0

    @property
    def state(self) -> str:
        """A text that changes with the images that are shown."""
        digest = hashlib.blake2b(digest_size=8)
        for view in self.views:
            digest.update(view.stamp.encode() + np.packbits(view.gone).tobytes())
        return digest.hexdigest()

    def marks(self, view: GalleryView) -> list[Mark]:
        """Read what the user marked as "not duplicates" in any of the galleries."""
        return view.gallery.marks([other.gallery.place for other in self.views])

    def unmark(self, view: GalleryView, mark: str) -> bool:
        """Take a mark back, by its id, in all galleries. Returns whether there was one."""
        with self._marking:
            was_there = view.gallery.unmark(mark, [other.gallery.place for other in self.views])
        self.unmarked += was_there
        return was_there

    def mark(self, view: GalleryView, rows: Sequence[int]) -> str:
        """Remember that these images are not duplicates of each other. Returns the mark's id."""
        with self._marking:
            return view.gallery.set_apart(rows)

    def look(self) -> list[GalleryView]:
        """Open the galleries that were renewed, and see which files are gone. Returns the views that were replaced.

        This may take seconds, so call it in a thread. A second call at the same time, or soon after, does nothing.
        """
        if not self._looking.acquire(blocking=False):
            return []
        try:
            began = time.monotonic()
            if began < self._next:
                return []
            replaced = [view for number, view in enumerate(self.views) if self._renewed(number)]
            for view in self.views:
                view.gone = gone_among(view.gallery.paths, view.gallery.roots or [view.folder])
            now = time.monotonic()
            self._next = now + max(PAUSE, RARELY * (now - began))
            return replaced
        finally:
            self._looking.release()

    def _renewed(self, number: int) -> bool:
        old = self.views[number]
        if self._reopen is None:
            return False
        try:
            if GalleryFolder(old.gallery.folder).read_about()["stamp"] == old.stamp:
                return False
            view = self._reopen(old.gallery.folder)
        except (InputError, RunError, OSError) as error:  # embed.py is still writing, say
            if str(error) != self._said:
                log.warn(f"{error}; the page goes on with the earlier state")
            self._said = str(error)
            return False
        self.views[number] = view
        name_apart(self.views)
        return True


def name_apart(views: Sequence[GalleryView]) -> None:
    """Give views different names: galleries with the same name get the part of their folder in which they differ."""
    by_name: dict[str, list[GalleryView]] = defaultdict(list)
    for view in views:
        by_name[text(view.gallery.name)].append(view)
    for name, same in by_name.items():
        folders = [view.gallery.folder for view in same] if len(same) > 1 else []
        for number, (view, folder) in enumerate(zip(same, folders)):
            inside = below(folder, os.path.commonpath(folders)).removesuffix(view.gallery.name).strip(os.sep)
            again = f" {number + 1}" if folders.count(folder) > 1 else ""
            view.name = f"{name} ({text(inside)}{again})"


def gone_among(paths: Sequence[str], roots: Sequence[str]) -> np.ndarray:
    """Tell which files are gone, bool (n,).

    If all files below a root are gone, its disk is away rather: then none of them counts as gone.
    """
    images_of: dict[str, list[tuple[int, str]]] = defaultdict(list)  # one listing costs less than a look at each file
    for row, path in enumerate(paths):
        folder, name = os.path.split(path)
        images_of[folder].append((row, name))
    gone = np.zeros(len(paths), bool)
    for folder, images in images_of.items():
        names: set[str] = set()
        try:
            names = set(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            gone[[row for row, _ in images]] = True
            continue
        except OSError:
            pass
        for row, name in images:
            if name not in names:
                gone[row] = not _there(paths[row])  # a list may spell the same name in another way
    for root in roots:
        inside = os.path.join(root, "")
        below = np.fromiter((path.startswith(inside) for path in paths), bool, len(paths))
        if gone[below].all():
            gone[below] = False
    return gone


def _there(path: str) -> bool:
    """Tell whether a file is there. If that cannot be found out, it counts as there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        pass
    return True
