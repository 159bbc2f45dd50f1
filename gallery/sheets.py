"""Contact sheets: the groups of a gallery as image files, one for each group."""

import os
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.lists import shown
from data.pictures import square, to_pil
from utils.errors import InputError, RunError
from utils.log import make_folder
from utils.progress import bar

MOST = 60  # images on a sheet, at most
COLUMNS = 10
SIDE = 128  # pixels: the side of an image
GAP = 4
TITLE = 32  # height of the title line
STEM = 40  # characters of an image's name in the name of its sheet
NAME = re.compile(r"[0-9]{3,}-[0-9]+-[A-Za-z0-9-]+\.jpg")
MARK = b"contact sheet"  # the comment in each sheet, by which a later call knows that it may replace the file


def write_sheets(
    folder: str, paths: Sequence[str], groups: Sequence[np.ndarray], roots: Sequence[str] = (), most: int = MOST
) -> list[str]:
    """Write a JPEG of each group into `folder`, which is made if it is missing. Returns the files, in order.

    paths: names of the N image files. groups: the rows of each group, int64, the most central first. roots: the folders
    of photos. Nothing is written in them, nor in the folders of `paths`. most: images on a sheet, each cropped to a square;
    unreadable images are grey squares. Files are named 001-<size>-<most central image>.jpg.
    Sheets of an earlier call are replaced; other files of the folder stay as they are.
    Raises InputError if the folder holds photos, cannot be made or used, or holds another file of such a name; RunError if
    a sheet cannot be written.
    """
    _refuse_photos(folder, paths, roots)
    digits = max(3, len(str(len(groups))))  # names sort by number
    names = [f"{number:0{digits}}-{len(rows)}-{_safe_stem(paths[rows[0]])}.jpg" for number, rows in enumerate(groups, 1)]
    make_folder(folder)
    try:
        _remove_earlier(folder)
    except OSError as error:
        raise InputError(f"{shown(folder)}: cannot be used ({error.strerror}); give another folder") from None
    files = [os.path.join(folder, name) for name in names]
    foreign = next((file for file in files if os.path.lexists(file)), None)
    if foreign:
        raise InputError(f"{shown(foreign)}: is there already, and is no contact sheet; give another folder")
    for file, rows in zip(bar(files, desc="contact sheets", unit="sheet", leave=False), groups):
        image = _sheet(_title(paths[rows[0]], len(rows), most), [paths[row] for row in rows[:most]])
        try:
            image.save(file, quality=85, comment=MARK)
        except OSError as error:
            remedy = "make room, or give another folder"
            raise RunError(f"{shown(file)}: cannot be written ({error.strerror}); {remedy}") from None
    return files


def _refuse_photos(folder: str, paths: Sequence[str], roots: Sequence[str]) -> None:
    """Raise InputError if `folder`, behind all links, is or lies in a folder of photos, or holds one of the paths."""
    real = os.path.realpath(folder)
    homes = [os.path.realpath(root) for root in roots]
    parents = {os.path.realpath(parent) for parent in {os.path.dirname(path) for path in paths}}
    if real in parents or any(os.path.commonpath([real, home]) == home for home in homes):
        raise InputError(f"{shown(folder)}: holds the photos, among which nothing is written; give another folder")


def _remove_earlier(folder: str) -> None:
    """Remove the contact sheets in `folder`: files with both the name and the comment of a sheet."""
    with os.scandir(folder) as entries:
        named = [entry for entry in entries if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
    for entry in named:
        try:
            with Image.open(entry.path, formats=["JPEG"]) as image:
                is_ours = image.info.get("comment") == MARK
        except Exception:  # a damaged file can fail in any way, and is not ours
            continue
        if is_ours:
            os.remove(entry.path)


def _safe_stem(path: str) -> str:
    """Return a file's name without its extension, in plain letters, digits and dashes, safe in any file system and shell."""
    stem = unicodedata.normalize("NFKD", os.path.splitext(os.path.basename(path))[0])
    stem = re.sub("[^A-Za-z0-9]+", "-", re.sub("[\u0300-\u036f]", "", stem)).strip("-")
    return stem[:STEM].strip("-") or "image"


def _title(path: str, count: int, most: int) -> str:
    images = f"{count:,} image" + "s" * (count != 1) + (f", the {most} most central" if count > most else "")
    return f"{shown(os.path.basename(path), 80)}: {images}"


def _sheet(title: str, paths: Sequence[str]) -> Image.Image:
    """Draw the images in rows of COLUMNS below the title."""
    step, lines = SIDE + GAP, -(-len(paths) // COLUMNS)
    sheet = Image.new("RGB", (GAP + COLUMNS * step, TITLE + lines * step), "white")
    ImageDraw.Draw(sheet).text((GAP, TITLE / 2), title, "black", ImageFont.load_default(18), anchor="lm")
    for place, path in enumerate(paths):
        line, column = divmod(place, COLUMNS)
        sheet.paste(to_pil(square(path, SIDE)), (GAP + column * step, TITLE + line * step))
    return sheet
