"""Which files are pictures, by name and by content; opens them in Pillow, with the packages that add formats.

Three packages add formats where they are installed: pi-heif (HEIC), rawpy (the preview in a camera's raw file), and
pillow-jxl-plugin (JPEG XL). Needs only Pillow and NumPy, as data/pixels.py.
"""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation
PLAIN_PPM = 10**6  # bytes; a larger PPM in decimal digits takes half a minute

HEIF = (".heic", ".heif", ".hif")
RAW = tuple(
    ".arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 .srw .srf .sr2".split()
)
JXL = (".jxl",)
PACKAGES = {**dict.fromkeys(HEIF, "pi-heif"), **dict.fromkeys(RAW, "rawpy"), **dict.fromkeys(JXL, "pillow-jxl-plugin")}
MODULES = {"pi-heif": "pi_heif", "rawpy": "rawpy", "pillow-jxl-plugin": "pillow_jxl"}

CONTENTS = (  # what a file begins with, and what it is
    (rb"\s*(<!doctype html|<html)", "a web page, not a picture"),
    (rb"\s*<(\?xml|svg)", "SVG or XML, which is not read"),
    (rb"%PDF", "PDF, which is not read"),
    (rb"PK\x03\x04", "a ZIP archive, not a picture"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "HEIC"),
    (rb"....ftypavi[fs]", "AVIF of a kind that is not read"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video, not a picture"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF of a kind that is not read"),
)
NOTES = {  # notes on a picture that was read all the same (data.pixels.Picture), and what they mean
    "incomplete": "cut off: the missing rows are grey",
    "profile": "with a broken colour profile, which is ignored",
    "bits": "16-bit grey, only lower bits used: brightened",
}
NEEDED = {"HEIC": "pi-heif", "JPEG XL": "pillow-jxl-plugin"}

# Pillow warns of odd metadata and of large images. An unreadable file is an error here, and the warnings do not matter.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(ValueError):
    """A file that is not read as an image. The message is the reason, on one line, without the file's name."""


@cache
def installed(package: str) -> bool:
    """Return True if a package that adds a format is there; Pillow then knows the format."""
    try:
        module = __import__(MODULES[package])
    except ImportError:
        return False
    if package == "pi-heif":
        module.options.DECODE_THREADS = 1  # the loading processes take the cores
        module.register_heif_opener(thumbnails=False)
    return True


@contextmanager
def opened(file: str | os.PathLike | BinaryIO) -> Iterator[tuple[Any, BinaryIO, Image.Exif | None]]:
    """Open an image file: the PIL image, of which only the header is read, the open file, and a raw file's own tags.

    Errors in the block become Unreadable, with the reason. Pillow gets an open file and never a name: it would map a named
    file into memory, mistake the rows of some turned TIFFs, and end the process when another program cuts the file off.
    """
    name = None if hasattr(file, "read") else os.fspath(file)
    handle = None if name is None else _open_regular(name)
    source: Any = handle or file
    try:
        _refuse_by_content(source)
        tags = None
        with _without_pillows_limit():
            if _named_raw(name or getattr(file, "name", None)) and not _starts(source, b"\xff\xd8"):
                source, tags = _preview(source)
            with _pillow(source) as image:
                yield image, source, tags
    except Unreadable:
        raise
    except Exception as error:  # a damaged file can fail in any way: struct.error, IndexError, MemoryError, ...
        raise Unreadable(_cause(source, error)) from None
    finally:
        if handle:
            handle.close()


def _open_regular(name: Any) -> BinaryIO:
    """Open a file for reading. A pipe, which might never end, is refused."""
    try:
        handle = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("not a file")
    return open(handle, "rb")


def _named_raw(name: Any) -> bool:
    """Return True for the name of a camera's raw file. Pillow takes some of them for tiny TIFFs."""
    return isinstance(name, str | bytes) and os.fsdecode(name).lower().endswith(RAW)


def _starts(source: BinaryIO, *beginnings: bytes) -> bool:
    source.seek(0)
    return source.read(max(map(len, beginnings))).startswith(beginnings)


def _pillow(source: BinaryIO) -> Any:
    """Open a file in Pillow."""
    for package in ("pi-heif", "pillow-jxl-plugin"):
        installed(package)
    source.seek(0)
    image = Image.open(source)
    if image.format == "TIFF" and image.tile and image.tile[0][0] == "libtiff":  # libtiff too maps an open file
        source.seek(0)
        image = Image.open(io.BytesIO(source.read()))
    if image.format == "PNG" and image.mode == "L" and image.tile and "transparency" in image.info:  # not scaled to 8 bits
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3]), 1)
    return image


def _preview(source: BinaryIO) -> tuple[BinaryIO, Image.Exif]:
    """Return the preview in a camera's raw file, as an open JPEG or PPM, and the file's tags with its orientation."""
    if not installed("rawpy"):
        raise Unreadable("a camera's raw file, which needs: pip install rawpy")
    import rawpy

    tags = _tags(source)
    source.seek(0)
    with rawpy.imread(source) as raw:
        tags[ORIENTATION] = {3: 3, 5: 8, 6: 6}.get(raw.sizes.flip, 1)  # LibRaw has numbers of its own
        try:
            preview = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            tags[ORIENTATION] = 1  # postprocess turns the picture
            pixels = raw.postprocess(half_size=True, use_camera_wb=True)
        else:
            if preview.format == rawpy.ThumbFormat.JPEG:
                return io.BytesIO(bytes(preview.data)), tags
            pixels = np.asarray(preview.data)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PPM")
    return picture, tags


def tags_of_raw(name: str) -> tuple[Image.Exif, str]:
    """Return the tags of a camera's raw file, and its date by LibRaw, "2024:05:01 12:30:00", for a raw file without tags.

    The picture is not read. Raises Unreadable for a file that cannot be opened.
    """
    with _open_regular(name) as source:
        tags, date = _tags(source), ""
        with suppress(Exception):  # a damaged file can fail in any way
            tags.get_ifd(ExifTags.IFD.Exif)  # before the file is closed
        if not tags and installed("rawpy"):
            import rawpy

            source.seek(0)
            with suppress(Exception), rawpy.imread(source) as raw:
                date = raw.other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    return tags, date


def _tags(source: BinaryIO) -> Image.Exif:
    """Return the tags of a camera's raw file. Most raw files are TIFFs; the others have none here."""
    tags = Image.Exif()
    with suppress(Exception):  # a damaged file can fail in any way
        source.seek(0)
        tags.load_from_fp(source)
    return tags


# ---- refusing --------------------------------------------------------------------------------------------------------


class _Limit:
    """Lifts Pillow's limit of 179 million pixels while any thread is in the block: `refuse_large` has another limit."""

    lock, threads, pixels = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    with _Limit.lock:
        if not _Limit.threads:
            _Limit.pixels, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _Limit.threads += 1
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.threads -= 1
            if not _Limit.threads:
                Image.MAX_IMAGE_PIXELS = _Limit.pixels


def refuse_large(image: Any, memory: int) -> None:
    """Raise Unreadable if decoding takes more than `memory` bytes. A small file may declare any number of pixels.

    A baseline JPEG takes its scaled size. A progressive JPEG also takes 6 bytes for each pixel of its whole size. Any other
    picture takes its whole size.
    """
    width, height = image.size
    need = width * height * (1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4)
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        scale = image.decoderconfig[0] if image.decoderconfig else 1
        need += 6 * width * height * scale**2
    if need > memory:
        raise Unreadable(f"{width} x {height} pixels take {need / 1e9:.1f} GB, and {limit(memory)}")


def limit(memory: int) -> str:
    """Say how many bytes one picture may take."""
    return f"the limit is {memory / 1e9:.1f} GB"


def _refuse_by_content(source: BinaryIO) -> None:
    """Raise Unreadable for files that Pillow could read, but should not."""
    source.seek(0)
    head = source.read(64)
    if not head:
        raise Unreadable("the file is empty")
    if head[:4] in (b"%!PS", b"\xc5\xd0\xd3\xc6"):  # a program that Pillow would run in Ghostscript
        raise Unreadable("PostScript is not decoded")
    if re.match(rb"P[123]\s", head) and source.seek(0, io.SEEK_END) > PLAIN_PPM:
        raise Unreadable(f"a PPM in decimal digits of more than {PLAIN_PPM // 10**6} MB is not decoded; save it as PNG")


def _cause(source: Any, error: Exception) -> str:
    """Say on one line why a file is not read."""
    reason = " ".join((str(error) or type(error).__name__).split())
    with suppress(Exception):
        source.seek(0)
        head = source.read(64)
        content = next((what for start, what in CONTENTS if re.match(start, head, re.DOTALL | re.IGNORECASE)), None)
        if not head.strip(b"\0"):
            return "it begins with zeros: the file was never written whole"
        if content in NEEDED and not installed(NEEDED[content]):
            return f"{content}, which needs: pip install {NEEDED[content]}"
        if re.search("truncated|broken PNG", reason, re.IGNORECASE):
            return "the file is cut off"
        if isinstance(error, Image.UnidentifiedImageError):
            if content in NEEDED:
                return f"{content}, damaged or of a kind that is not read"
            return content or "no picture, or of a format that is not read"
        if content and "of a kind" in content:
            return f"{content}: {reason}"
    return reason
