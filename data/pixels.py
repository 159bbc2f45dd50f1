"""Image file -> RGB pixels, upright and in sRGB, and what the file says about its picture.

Training, galleries, the page and exported models read every picture here, so they never disagree about what is in it. Needs
only Pillow and NumPy: export.py copies this module, formats.py and colours.py beside an exported model.
"""

import io
import os
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from data.colours import CONSTANT, is_animated, name_of, srgb
from data.formats import ORIENTATION, RAW, Unreadable, opened, refuse_large, tags_of_raw

# Version of decoding. Raise it with any change that alters the pixels of any file: galleries are then embedded anew, and
# users of an older gallery or closed form are told.
PIXELS = 2
# The default for the most bytes that decoding one picture may take, as `formats.refuse_large` estimates them.
MEMORY = 2 * 10**9
MAX_ASPECT = 100  # longer side / shorter side; a more elongated picture is squeezed to this
ENOUGH_ROWS = 0.75  # share of its rows that a cut-off JPEG must still have


class Facts(NamedTuple):
    """What a file says about its picture."""

    width: int  # pixels of the upright picture
    height: int
    format: str  # as Pillow names it, or "RAW"
    taken: str | None  # "2024-05-01 12:30:00", by the camera's clock
    camera: str | None
    orientation: int  # Exif, 1 to 8: how the rows and columns of the file lie
    profile: str | None  # the name of its colour profile


class Picture(NamedTuple):
    """A decoded image file."""

    pixels: np.ndarray  # uint8 (H, W, 3): RGB, upright; not resized yet, but perhaps decoded at a fraction of its size
    size: tuple[int, int]  # the (H, W) to resize to
    facts: Facts
    notes: tuple[str, ...]  # keys of NOTES


def read(file: str | os.PathLike | BinaryIO, side: int, detail: int = 0, memory: int = MEMORY) -> Picture:
    """Decode an image file, open or by name, to be resized to a shorter side of `side` pixels.

    A JPEG of at least twice that size is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled decoding). This is several
    times faster; its pixels differ a little from a whole image that is shrunk. The decoded shorter side is
    never below `detail` pixels, unless the file's is.
    An animation gives its first frame with content. Transparent pixels become white, because the colour that they hold is
    arbitrary; they become grey or black if nothing could be seen on white. For grey of
    more than 8 bits see `data.colours._grey`. Colours are converted from the file's profile to sRGB.

    Raises Unreadable, also for a picture that would take more than `memory` bytes.
    """
    with opened(file) as (image, source, tags):
        whole = image.size
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (max(side, detail),) * 2)
        refuse_large(image, memory)
        upright, orientation = _upright(image, whole, tags), image.getexif().get(ORIENTATION, 1)
        notes: set[str] = set()
        image = _loaded(image, source, notes)
        facts = _facts(image, upright, orientation, tags)
        if image.format != "TIFF" and not is_animated(image):  # Pillow turns a TIFF itself, and `srgb` an animation
            ImageOps.exif_transpose(image, in_place=True)
        pixels = srgb(image, size_for(*upright, max(side, detail)), notes)
    return Picture(pixels, size_for(*upright, side), facts, tuple(sorted(notes)))


def from_pil(image: Image.Image, side: int) -> Picture:
    """Convert a PIL image as `read` does a file. Raises OSError or ValueError."""
    upright = _upright(image, image.size, None)
    size = size_for(*upright, side)
    image = ImageOps.exif_transpose(image)
    notes: set[str] = set()
    return Picture(srgb(image, size, notes), size, _facts(image, upright, 1, None), tuple(sorted(notes)))


def target_size(file: str | os.PathLike | BinaryIO, side: int, memory: int = MEMORY) -> tuple[int, int]:
    """Return the (H, W) that `read` would give for `side`, from the file's header. Raises Unreadable."""
    return size_for(*upright_size(file, memory), side)


def upright_size(file: str | os.PathLike | BinaryIO, memory: int = MEMORY) -> tuple[int, int]:
    """Return (width, height) of the upright picture in a file, from its header. Raises Unreadable.

    A PNG may have its orientation at its very end; it is decoded to find it.
    """
    with opened(file) as (image, _, tags):
        if image.format == "PNG":
            refuse_large(image, memory)
        return _upright(image, image.size, tags)


def size_for(width: int, height: int, side: int) -> tuple[int, int]:
    """Return (H, W) of an upright picture whose shorter side becomes `side`. Rounded as in torchvision."""
    long = int(side * min(max(width, height) / min(width, height), MAX_ASPECT))
    return (long, side) if width <= height else (side, long)


def _upright(image: Any, whole: tuple[int, int], tags: Image.Exif | None) -> tuple[int, int]:
    """Return (width, height) of a PIL image once it is upright.

    whole: its (width, height) before scaled decoding. tags: of the raw file of which the image is the preview.
    """
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # getexif would do it too, but errors of loading must be raised, not suppressed
    with suppress(Exception):  # after an error, Pillow takes broken tags for none
        image.getexif()
    if tags is not None and ORIENTATION not in image.getexif():
        image.getexif()[ORIENTATION] = tags.get(ORIENTATION, 1)
    width, height = whole
    if image.format == "TIFF":  # some versions of Pillow swap `size` already here, others when the pixels are read
        width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    return (height, width) if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8) else (width, height)


def _loaded(image: Any, source: BinaryIO, notes: set[str]) -> Any:
    """Read the pixels of an image. A JPEG that is cut off gets its missing end, if most of its rows are there."""
    try:
        image.load()
        return image
    except OSError as error:
        if image.format not in ("JPEG", "MPO") or "truncated" not in str(error):
            raise
    source.seek(0)
    mended = Image.open(io.BytesIO(source.read() + b"\xff\xd9"))
    if image.decoderconfig:
        mended.draft(None, image.size)
    mended.load()
    grey = np.asarray(mended.convert("L"), int)
    filling = Image.new(mended.mode, (1, 1), (128,) * len(mended.getbands())).convert("L").getpixel((0, 0))
    present = np.flatnonzero(abs(grey - filling).max(1) > CONSTANT)  # libjpeg fills missing rows with grey
    if not len(present) or present[-1] + 1 < ENOUGH_ROWS * len(grey):
        raise Unreadable("the file is cut off")
    notes.add("incomplete")
    return mended


def _facts(image: Any, upright: tuple[int, int], orientation: int, tags: Image.Exif | None) -> Facts:
    """Return what the file says. upright: (width, height), of `_upright`."""
    sources = [image.getexif(), *([] if tags is None else [tags])]
    make, model = _text(sources, ExifTags.Base.Make), _text(sources, ExifTags.Base.Model)
    camera = model if not make or (model or "").startswith(make.split()[0]) else " ".join(filter(None, (make, model)))
    orientation = image.info.get("original_orientation") or orientation  # a HEIC comes upright
    profile = image.info.get("icc_profile")
    return Facts(
        *upright,
        "RAW" if tags is not None else image.format,
        _date(sources),
        camera,
        orientation if orientation in range(1, 9) else 1,
        name_of(profile) if profile else None,
    )


def taken(path: str) -> str | None:
    """Return `Facts.taken` of a file, from its header alone. None if the file does not say when, or cannot be read."""
    try:
        if os.fsdecode(path).lower().endswith(RAW):
            tags, date = tags_of_raw(path)
            return _date([tags]) or _formatted(date)
        with opened(path) as (image, *_):
            return _date([image.getexif()])
    except Unreadable:
        return None


def _date(sources: list[Image.Exif]) -> str | None:
    original = ExifTags.Base.DateTimeOriginal
    return _formatted(_text(sources, original, ExifTags.IFD.Exif) or _text(sources, original) or "")


def _formatted(date: str) -> str | None:
    """Return the date of a tag, "2024:05:01 12:30:00", as in Facts. None for other text, or a clock never set."""
    is_date = len(date) >= 19 and date[:4].isdigit() and date[:4] != "0000"
    return f"{date[:10].replace(':', '-')} {date[11:19]}" if is_date else None


def _text(sources: list[Image.Exif], tag: int, of: int | None = None) -> str | None:
    """Return the first text that one of the sources has for a tag. of: the directory of the tag, if not the first one."""
    for exif in sources:
        with suppress(Exception):  # damaged tags can fail in any way
            value = str((exif.get_ifd(of) if of else exif)[tag]).replace("\0", " ").strip()
            if value:
                return "".join(char if char.isprintable() else "?" for char in value)[:100]
    return None
