"""A PIL image of any mode, colour profile and transparency -> RGB pixels in sRGB. Needs only Pillow and NumPy."""

import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

CONSTANT = 2  # levels; a picture whose channels vary by no more has no content
FRAMES, SEARCHED = 100, 2**28  # frames and pixels of an animation that are searched for content, at most
BAND = 2**22  # pixels that are converted at once, so that modes with wide pixels take no more memory than others
SAMPLE_MAXIMA = (341, 281)  # the tags SMaxSampleValue and MaxSampleValue of TIFF
GROUNDS = ("white", (128, 128, 128), "black")  # colours behind transparent pixels, in the order in which they are tried


def srgb(image: Any, size: tuple[int, int], notes: set[str]) -> np.ndarray:
    """Return the pixels of a loaded image: uint8 (H, W, 3), RGB, in sRGB. An animation is turned upright here.

    An image with another profile is shrunk to `size` before it is converted: converting takes longer than shrinking.
    """
    icc = b"" if image.mode == "LAB" else image.info.get("icc_profile") or None
    convert = None
    if icc is not None:
        try:
            convert = _to_srgb(icc, image.mode)
        except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
            notes.add("profile")
    if convert is not None and image.mode in ("CMYK", "LAB"):
        return np.array(ImageCms.applyTransform(_shrunk(image, size), convert))
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if is_animated(image) else 1
    pixels = _turned(_with_content(image, notes), orientation)
    if convert is None:
        return pixels
    if convert.input_mode == "L":
        pixels = pixels[:, :, 0]
    return np.array(ImageCms.applyTransform(_shrunk(Image.fromarray(pixels), size), convert))


@lru_cache(maxsize=64)
def _to_srgb(icc: bytes, mode: str) -> Any:
    """Return the transform from a profile to sRGB for images of a mode; None if it changes next to nothing.

    icc: the profile; b"" for Lab. Raises PyCMSError, OSError or ValueError for a profile that is broken or of another mode.
    """
    profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
    space = profile.profile.xcolor_space if icc else "Lab "
    takes = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}.get(space)
    fits = takes == mode if mode in ("CMYK", "LAB") else takes in ("RGB", "L")
    if takes is None or not fits or takes == "L" and mode not in ("1", "L", "LA", "La", "I", "F") and mode[:4] != "I;16":
        raise ValueError(f"a profile of {takes} in an image of {mode}")
    convert = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), takes, "RGB")
    if takes in ("CMYK", "LAB"):
        return convert
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * 3), -1).reshape(27, 27, 3)
    sample = Image.fromarray(colours if takes == "RGB" else np.ascontiguousarray(colours[:, :, 0]))
    change = np.array(ImageCms.applyTransform(sample, convert), int) - np.array(sample.convert("RGB"), int)
    return convert if abs(change).max() > CONSTANT else None


@lru_cache(maxsize=64)
def name_of(icc: bytes) -> str | None:
    """Return the name of a colour profile, None if it is broken."""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return "".join(char for char in name if char.isprintable())[:100] or None


def _shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrink an image to (H, W). An image that is smaller, in either direction, stays as it is."""
    if image.height < size[0] or image.width < size[1]:
        return image
    return image.resize(size[::-1], Image.Resampling.BILINEAR)


def is_animated(image: Any) -> bool:
    """Return True for an animation. Pillow could not go to the frames of an image that has been turned."""
    return image.format in ("GIF", "WEBP", "PNG", "AVIF") and image.is_animated


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels upright by an Exif orientation."""
    if orientation == 1:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(image))


def _with_content(image: Any, notes: set[str]) -> np.ndarray:
    """Return uint8 (H, W, 3) of the first frame, and on the first ground, on which something can be seen.

    Without any such frame it is the first frame on white. An alpha channel that is 0 everywhere is ignored.
    """
    pixels = _rgb(image, GROUNDS[0], notes)
    animated = is_animated(image)
    if not animated and not image.has_transparency_data or _has_content(pixels):
        return pixels
    frames = min(FRAMES, 1 + SEARCHED // (image.width * image.height)) if animated else 1
    for ground in GROUNDS if image.has_transparency_data else GROUNDS[:1]:
        for frame in range(frames):
            try:
                image.seek(frame)
                other = _rgb(image, ground, notes)
            except Exception:  # the last frame, or a damaged one, which can fail in any way
                break
            if _has_content(other):
                return other
    return pixels


def _has_content(pixels: np.ndarray) -> bool:
    return any(np.ptp(pixels[:, :, channel]) > CONSTANT for channel in range(3))


def _rgb(image: Any, ground: Any, notes: set[str]) -> np.ndarray:
    """Return uint8 (H, W, 3) of a loaded image of any mode, on a ground of this colour, converted band by band."""
    if image.mode == "La":  # a TIFF of grey with premultiplied alpha; Pillow converts it to LA alone
        image = image.convert("LA")
    to_grey = _grey(image, notes) if image.mode[0] in "IF" else None
    transparent = False
    if to_grey is None and image.has_transparency_data:
        with_alpha = image if image.mode == "RGBA" else image.convert("RGBA")
        transparent = with_alpha.getextrema()[3][1] > 0

    def converted(band: Any) -> Image.Image:
        if to_grey is not None:
            band = Image.fromarray(to_grey(np.asarray(band)))
        elif transparent:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, ground), band)
        elif band.mode in ("P", "PA"):
            band = band.convert("RGBA")  # straight to RGB, Pillow would warn of transparency
        return band if band.mode == "RGB" else band.convert("RGB")

    if image.width * image.height <= BAND:
        return np.array(converted(image))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _bands(image):
        pixels[rows] = np.asarray(converted(band))
    return pixels


def _bands(image: Any) -> Iterator[tuple[slice, Any]]:
    """Yield an image in bands of about BAND pixels, with the rows that each one is."""
    height = max(1, BAND // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _grey(image: Any, notes: set[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from bands of an image, one channel of more than 8 bits, to uint8 grey.

    16 bits: from 0 to the largest value that the file names, else to the smallest of 10, 12, 14 and 16 bits that holds every
    pixel. 32 bits and floats: from the least to the largest value, because no format tells the range. Raises ValueError if
    no pixel is a number.
    """
    extremes = []
    for _, band in _bands(image):
        values = np.asarray(band)
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            extremes += [values.min().item(), values.max().item()]
    if not extremes:
        raise ValueError("none of its pixels is a number")
    low, high = min(extremes), max(extremes)
    tags = dict(image.tag_v2) if image.format == "TIFF" else {}
    white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    # Pillow gives 16 bits as mode I for PGM, and its older versions for PNG.
    if image.mode.startswith("I;16") or image.mode == "I" and image.format in ("PNG", "PPM"):
        stated = max(map(max, (np.atleast_1d(tags[tag]) for tag in SAMPLE_MAXIMA if tag in tags)), default=0)
        bits = 12 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 16
        if image.format in ("PNG", "TIFF") and bits == 16 and not high <= stated < 2**16 - 1:  # others are scaled already
            bits = next(bits for bits in (10, 12, 14, 16) if high < 2**bits)
            stated = 0
            if bits < 16:
                notes.add("bits")
        levels = int(stated) + 1 if high <= stated < 2**16 - 1 else 2**bits

        def grey(values: np.ndarray) -> np.ndarray:
            return (values.astype(np.int64) * 256 // levels).clip(0, 255).astype(np.uint8)
    else:

        def grey(values: np.ndarray) -> np.ndarray:
            scaled = (values.astype(np.float64) - low) * (255 / (high - low or 1))
            return np.nan_to_num(scaled, nan=0).clip(0, 255).round().astype(np.uint8)

    return (lambda values: 255 - grey(values)) if white_is_zero else grey
