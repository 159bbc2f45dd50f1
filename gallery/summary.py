"""The table at the end of embed.py: what became of every file that was found."""

from collections.abc import Iterable, Sequence

from data.formats import NOTES
from data.lists import below, shown
from gallery.store import Gallery
from gallery.survey import NAMES, summary as by_category
from gallery.table import Bad, LeftOut
from utils import log

LONGEST = 80  # characters of a reason
UNREADABLE = "cannot be read as an image ("  # what data.images says before the reason

Noted = Sequence[tuple[str, tuple[str, ...]]]  # paths of images, with their notes


def lines(
    embedded: int, noted: Noted, bad: Sequence[Bad], left_out: Iterable[LeftOut], root: str | None = None
) -> list[str]:
    """Return the lines of the table: category, number of files, the names of the first few.

    embedded: number of images. noted: the images with notes of `data.pixels.Picture`, by their paths. root: the folder of
    the images, below which names are shown.
    """
    remarks: dict[str, list[str]] = {}
    for path, notes in noted:
        for note in notes:
            remarks.setdefault(f"  {NOTES[note]}", []).append(path)
    for entry in bad:
        remarks.setdefault(f"unreadable: {cause(entry)}", []).append(entry.file.path)
    rows = [(category, len(paths), paths[:NAMES]) for category, paths in remarks.items()]
    rows = [("embedded", embedded, []), *rows, *by_category(left_out)]
    width, digits = max(len(category) for category, *_ in rows), max(len(str(count)) for _, count, _ in rows)

    def names_of(count: int, paths: Sequence[str]) -> str:
        names = ", ".join(shown(below(path, root)) for path in paths)
        return f"{names}, ..." if paths and count > len(paths) else names

    return [f"{category:{width}}  {count:>{digits}}  {names_of(count, paths)}".rstrip() for category, count, paths in rows]


def cause(entry: Bad) -> str:
    """Return why a file cannot be read, without its name."""
    reason = entry.reason.removeprefix(f"{shown(entry.file.path)}: ")
    if reason.startswith(UNREADABLE):
        reason = reason.removeprefix(UNREADABLE).removesuffix(")")
    return shown(reason, LONGEST)


def say_of_gallery(gallery: Gallery) -> None:
    """Say what became of every file. The log file, unlike the terminal, also names each unreadable one."""
    for line in lines(len(gallery), gallery.noted(), gallery.unreadable, gallery.left_out, gallery.root):
        log.say(line)
    for entry in gallery.unreadable:
        log.debug(f"left out: {entry.reason}")
