"""Image file -> pixels at the size from which crops are made: the one place that opens image files."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from data.lists import shown
from utils.errors import InputError

# Version of decoding. Raise it with any change that alters the pixels of any file: galleries are then embedded anew, and
# users of an older gallery or closed form are told.
PIXELS = 1

# Longer side / shorter side, at most. An image is enlarged until its shorter side has the requested length: at 256, an
# image of 1 x 5000 pixels would take 1 GB. With this limit no image takes more than 20 MB.
MAX_ASPECT = 100

# Pillow warns of odd metadata and of large images. An unreadable file is an error here, and the warnings do not matter.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Images:
    """The images of a list, each decoded at each use.

    `images[i]` is uint8 (3, H, W), RGB, its shorter side `transforms.origin_width`; InputError for an unreadable file.
    """

    def __init__(self, paths: Sequence[str], transforms: Any) -> None:
        """transforms: a data.transforms.Transforms."""
        self.paths, self.transforms = paths, transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transforms.load(self.paths[index])


def decode(path: str | PathLike | BinaryIO, side: int) -> Tensor:
    """Decode an image file, open or by name: uint8 (3, H, W), channels last in memory, RGB, upright, shorter side `side`.

    A JPEG of at least twice that size is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled decoding). This is several
    times faster; its pixels differ a little from a whole image that is shrunk. An animation gives its first frame.
    Transparent pixels become white, because the colour that they hold is arbitrary. Grey of 16 bits keeps its high byte.
    Grey of 32 bits or of floats is stretched from its least to its largest value: no format tells its range.
    Raises InputError for a file that is unreadable, more elongated than MAX_ASPECT, or has more pixels than Pillow trusts
    (2 * Image.MAX_IMAGE_PIXELS, 179 million): a small file may declare any number of them.
    """
    with _opened(path) as image:
        size = _target(image, side)
        if image.format == "JPEG":
            image.draft(None, (side, side))
        image.load()
        if image.format != "TIFF":  # Pillow turns these itself
            ImageOps.exif_transpose(image, in_place=True)
        pixels = np.array(_rgb(image))
    return resize(torch.from_numpy(pixels).permute(2, 0, 1), size)


def from_memory(image: Image.Image | np.ndarray, side: int) -> Tensor:
    """Convert a PIL image or a uint8 array (H, W, 3) as `decode` does: uint8 (3, H, W), its shorter side `side`.

    Raises InputError for an array of another dtype or shape, and for an image more elongated than MAX_ASPECT.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"an image of {image.dtype} {image.shape} cannot be embedded: give uint8 (height, width, 3)")
        image = Image.fromarray(image)
    try:
        size = _target(image, side)
        pixels = np.array(_rgb(ImageOps.exif_transpose(image)))
    except (OSError, ValueError) as error:
        raise InputError(f"an image of {image.size[0]} x {image.size[1]} pixels cannot be embedded ({error})") from None
    return resize(torch.from_numpy(pixels).permute(2, 0, 1), size)


def decoded_size(path: str | PathLike, side: int) -> tuple[int, int]:
    """Return the (H, W) that `decode` gives, from the file's header. A PNG may have its orientation at its very end.

    Raises InputError for a file without a readable header.
    """
    with _opened(path) as image:
        return _target(image, side)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 (3, H, W) image to `size`, (height, width): bilinear and antialiased.

    It gives torchvision's pixels in half its time: torchvision makes the same call, but on planar memory.
    """
    if image.shape[1:] == size:
        return image
    # torch takes the strides for channels last only in a batch that is made from the (H, W, 3) view.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return interpolate(batch, size=size, mode="bilinear", antialias=True)[0]


@contextmanager
def _opened(path: str | PathLike | BinaryIO) -> Iterator[Any]:
    """Open the PIL image of `path` and read its header. Errors in the block become InputErrors that name the file."""
    try:
        with Image.open(path) as image:
            if image.format == "EPS":  # a program that Pillow would run in Ghostscript
                raise ValueError("PostScript is not decoded")
            yield image
    except Exception as error:  # a damaged file can fail in any way: struct.error, IndexError, MemoryError, ...
        reason = str(error).replace(repr(path), "").replace(str(path), "").strip() or type(error).__name__
        raise InputError(f"{shown(str(path))}: cannot be read as an image ({shown(reason)})") from None


def _target(image: Any, side: int) -> tuple[int, int]:
    """Return (H, W) of a PIL image once it is upright and its shorter side is `side`. Rounded as in torchvision."""
    width, height = image.size
    if image.format == "TIFF":  # some versions of Pillow swap `size` already here, others when the pixels are read
        width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels: its longer side is more than {MAX_ASPECT} times its shorter one")
    if image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
        width, height = height, width
    long = int(side * max(width, height) / min(width, height))
    return (long, side) if width <= height else (side, long)


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded image in mode RGB; unusual modes are converted as `decode` says."""
    if image.mode[0] in "IF":
        image = Image.fromarray(_grey(image))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """Return uint8 (H, W) of an image with one channel of more than 8 bits."""
    pixels = np.array(image)
    # Pillow gives 16 bits as mode I for PGM, and older versions of it for PNG.
    if image.mode.startswith("I;16") or image.mode == "I" and image.format in ("PNG", "PPM"):
        return (pixels >> 8).clip(0, 255).astype(np.uint8)
    pixels = pixels.astype(np.float64)
    finite = pixels[np.isfinite(pixels)]
    scaled = (pixels - finite.min()) * (255 / (np.ptp(finite) or 1))
    return np.nan_to_num(scaled, nan=0).clip(0, 255).round().astype(np.uint8)
