"""Says what embed.py is doing while it runs. The page reads it, so that nobody looks at a page that seems to hang."""

import time
from contextlib import suppress
from typing import NamedTuple

from gallery.folder import GalleryFolder, read_json, remove
from utils.files import write_json
from utils.lock import is_held

EMBEDDING, FITTING = "embedding", "fitting the net"  # work of which the page says more
PAUSE = 0.5  # seconds between two writings, at least


class Now(NamedTuple):
    """What a run does at the moment."""

    what: str  # EMBEDDING, FITTING, or other work
    done: int = 0  # images of `images`; 0 of 0 where they are not counted
    images: int = 0


class Progress:
    """Writes what a run does into the folder of its gallery. Nothing depends on it: a full disk is no reason to stop."""

    def __init__(self, place: GalleryFolder, quiet: bool = False) -> None:
        """quiet: write nothing, as all processes but the first do."""
        self.place, self.quiet, self._what, self._next = place, quiet, "", 0.0

    def say(self, what: str, done: int = 0, images: int = 0) -> None:
        """Write it, unless the same work was written a moment ago."""
        if self.quiet or (what == self._what and time.monotonic() < self._next):
            return
        with suppress(OSError):
            write_json(self.place.progress, Now(what, done, images)._asdict(), sync=False)
        self._what, self._next = what, time.monotonic() + PAUSE

    def end(self) -> None:
        if not self.quiet:
            with suppress(OSError):
                remove(self.place.progress)


def at_work(place: GalleryFolder) -> Now | None:
    """Return what the run does that renews this gallery; None if there is no run, also after one was killed."""
    with suppress(Exception):  # the file is missing, or of another version
        now = Now(**read_json(place.progress))
        if is_held(place.path):
            return now
    return None
