"""Image file -> tensor at the size from which crops are made. data/pixels.py opens the files."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from data import pixels
from data.formats import Unreadable
from data.pixels import MEMORY, Picture
from data.reports import refused
from utils.errors import InputError


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


def decode(path: str | PathLike | BinaryIO, side: int, detail: int = 0, memory: int = MEMORY) -> Tensor:
    """Decode an image, from a path or an open file: uint8 (3, H, W), RGB, upright, shorter side `side`.

    Its memory is laid out channels last.

    detail, memory: see `data.pixels.read`. Raises InputError for a file that it cannot read; the message names the file.
    """
    return decode_picture(path, side, detail, memory)[0]


def decode_picture(
    path: str | PathLike | BinaryIO, side: int, detail: int = 0, memory: int = MEMORY
) -> tuple[Tensor, Picture]:
    """Return what `decode` does, and the picture before it was resized, with what the file says about it."""
    (image,), read = decode_sizes(path, [side], detail, memory)
    return image, read


def decode_sizes(
    path: str | PathLike | BinaryIO, sides: Sequence[int], detail: int = 0, memory: int = MEMORY
) -> tuple[list[Tensor], Picture]:
    """Decode a file once, for several shorter sides: what `decode_picture` returns, with an image for each side."""
    try:
        read = pixels.read(path, max(sides), detail, memory)
    except Unreadable as error:
        raise refused(path, error) from None
    image = torch.from_numpy(read.pixels).permute(2, 0, 1)
    return [resize(image, pixels.size_for(read.facts.width, read.facts.height, side)) for side in sides], read


def from_memory(image: Image.Image | np.ndarray, side: int) -> Tensor:
    """Convert a PIL image or a uint8 array (H, W, 3) as `decode` does: uint8 (3, H, W), its shorter side `side`.

    Raises InputError for an array of another dtype or shape, and for an image that cannot be converted.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"an image of {image.dtype} {image.shape} cannot be embedded: give uint8 (height, width, 3)")
        image = Image.fromarray(image)
    try:
        read = pixels.from_pil(image, side)
    except (OSError, ValueError) as error:
        raise InputError(f"an image of {image.size[0]} x {image.size[1]} pixels cannot be embedded ({error})") from None
    return resize(torch.from_numpy(read.pixels).permute(2, 0, 1), read.size)


def decoded_size(path: str | PathLike, side: int) -> tuple[int, int]:
    """Return the (H, W) that `decode` gives, from the file's header. Raises InputError for a file without one."""
    try:
        return pixels.target_size(path, side)
    except Unreadable as error:
        raise refused(path, error) from None


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 (3, H, W) image to `size`, (height, width): bilinear and antialiased.

    It gives torchvision's pixels in half its time: torchvision makes the same call, but on planar memory.
    """
    if image.shape[1:] == size:
        return image
    # torch recognises the memory as channels-last only if the batch dimension is added to the (H, W, 3) view.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return interpolate(batch, size=size, mode="bilinear", antialias=True)[0]
