"""The table at the end of embed.py: what became of every file that was found."""

from collections.abc import Iterable, Sequence

from data.formats import NOTES
from data.lists import shown
from gallery.store import Gallery
from gallery.table import Bad, LeftOut
from utils import log

NAMES = 3  # names of a category that are shown
LONGEST = 80  # characters of a reason
UNREADABLE = "cannot be read as an image ("  # what data.images says before the reason


Noted = Sequence[tuple[str, tuple[str, ...]]]  # paths of images, with their notes


def lines(embedded: int, noted: Noted, bad: Sequence[Bad], left_out: Iterable[LeftOut]) -> list[str]:
    """Return the lines of the table: category, number of files, first names.

    embedded: number of images. noted: the images with notes of `data.pixels.Picture`, by their paths.
    """
    rows: dict[str, list[str]] = {}
    for path, notes in noted:
        for note in notes:
            rows.setdefault(f"  {NOTES[note]}", []).append(path)
    for entry in bad:
        rows.setdefault(f"unreadable: {cause(entry)}", []).append(entry.file.path)
    others: dict[str, list[str]] = {}
    for left in left_out:
        others.setdefault(f"{left.category}: {left.why}" if left.why else left.category, []).append(left.path)
    rows |= {category: others[category] for category in sorted(others)}
    table = [("embedded", str(embedded), ""), *((name, str(len(paths)), names_of(paths)) for name, paths in rows.items())]
    width, digits = max(len(name) for name, *_ in table), max(len(count) for _, count, _ in table)
    return [f"{name:{width}}  {count:>{digits}}  {names}".rstrip() for name, count, names in table]


def cause(entry: Bad) -> str:
    """Return why a file cannot be read, without its name."""
    reason = entry.reason.removeprefix(f"{shown(entry.file.path)}: ")
    if reason.startswith(UNREADABLE):
        reason = reason.removeprefix(UNREADABLE).removesuffix(")")
    return shown(reason, LONGEST)


def names_of(paths: Sequence[str]) -> str:
    return ", ".join(shown(path) for path in paths[:NAMES]) + (", ..." if len(paths) > NAMES else "")


def say_of_gallery(gallery: Gallery) -> None:
    """Say what became of every file. The log file, unlike the terminal, also names each unreadable one."""
    for line in lines(len(gallery), gallery.noted(), gallery.unreadable, gallery.left_out):
        log.say(line)
    for entry in gallery.unreadable:
        log.debug(f"left out: {entry.reason}")
