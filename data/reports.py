"""Warnings of pictures whose content is doubtful, and the error for a file that cannot be read as a picture."""

from collections.abc import Sequence
from os import PathLike
from typing import BinaryIO

from data.formats import NOTES, Unreadable
from data.lists import shown
from utils import log
from utils.errors import InputError

_warned: set[str] = set()  # notes that were warned of


def warn_once(path: str, notes: Sequence[str]) -> None:
    """Warn of the first picture with each note (data.formats.NOTES). Each loading process warns once for each note."""
    for note in set(notes) - _warned:
        _warned.add(note)
        log.warn(f"{shown(path)}: {NOTES[note]}; further pictures like this are not reported")


def refused(path: str | PathLike | BinaryIO, error: Unreadable) -> InputError:
    """Return the error for a file that cannot be read: it names the file and the reason."""
    return InputError(f"{shown(str(path))}: cannot be read as an image ({shown(str(error))})")
