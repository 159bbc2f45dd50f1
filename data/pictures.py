"""Makes small pictures of image files to show: a square, a JPEG, or a `data:` address that holds the JPEG."""

import base64
import io
import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from data.images import decode
from utils.errors import InputError

THUMB = 200  # pixels of a thumbnail's shorter side
KEPT = 256  # pixels of the shorter side of a thumbnail that a gallery keeps
WIDEST = 4  # longer side / shorter side of such a thumbnail
GREY = 160  # grey level of the square shown for an unreadable file


def to_pil(pixels: Tensor) -> Image.Image:
    """uint8 tensor (3, H, W) -> RGB picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def as_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def thumbnail_of(pixels: np.ndarray) -> bytes:
    """Return a JPEG of a picture whose shorter side is at most KEPT pixels. pixels: uint8 (H, W, 3)."""
    image = Image.fromarray(pixels)
    long, short = max(image.size), min(image.size)
    if short > KEPT:
        image = image.resize([round(length * KEPT / short) for length in image.size], reducing_gap=2)
    if long > WIDEST * min(image.size):  # the middle of a panorama
        width, height = (min(length, WIDEST * min(image.size)) for length in image.size)
        image = ImageOps.fit(image, (width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return file.getvalue()


def square(path: str | os.PathLike, side: int) -> Tensor:
    """Return the middle of an image, uint8 (3, side, side); a grey square where the file cannot be read."""
    try:
        pixels = decode(path, side)
    except InputError:
        return torch.full((3, side, side), GREY, dtype=torch.uint8)
    top, left = ((length - side) // 2 for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]


def data_url(path: str | os.PathLike, side: int = THUMB) -> str:
    """Return a `data:` address that holds a JPEG of the image, at most `side` pixels high; "" for an unreadable file."""
    try:
        image = to_pil(decode(path, side))
    except InputError:
        return ""
    image.thumbnail((2 * side, side))
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(image)).decode()
