"""Image file -> pixels at the size from which crops are made: the one place that opens image files."""

from contextlib import contextmanager

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.nn.functional import interpolate

from utils.errors import InputError


class Images:
    """The images of a list, each decoded when it is asked for.

    `images[i]` is uint8 (3, H, W), RGB, its shorter side `transforms.origin_width`; InputError for an unreadable file.
    """

    def __init__(self, paths, transforms):
        self.paths, self.transforms = paths, transforms

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transforms.load(self.paths[index])


def decode(path, side):
    """Decode an image file: uint8 (3, H, W), channels last in memory, RGB, upright, its shorter side `side`.

    A JPEG of at least twice that size is decoded at 1/2, 1/4 or 1/8 of it (libjpeg's scaled decoding): several times
    faster, and not pixel by pixel what shrinking the whole image gives. Raises InputError for an unreadable file.
    """
    with _opened(path) as image:
        size = _target(image, side)
        if image.format == "JPEG":
            image.draft(None, (side, side))
        ImageOps.exif_transpose(image, in_place=True)
        image = image if image.mode == "RGB" else image.convert("RGB")
        return resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), size)


def decoded_size(path, side):
    """(H, W) of what `decode` gives, from the file's header. Raises InputError for a file without a readable one."""
    with _opened(path) as image:
        return _target(image, side)


def resize(image, size):
    """Antialiased bilinear resize of a uint8 (3, H, W) image to `size`, (height, width), in torchvision's pixels.

    torchvision's own function is this call on planar memory: on channels last it takes half the time.
    """
    if image.shape[1:] == size:
        return image
    # Only as a batch, made from the (H, W, 3) view, do its strides count as channels last.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return interpolate(batch, size=tuple(size), mode="bilinear", antialias=True)[0]


@contextmanager
def _opened(path):
    """The PIL image of `path` with only its header read; whatever goes wrong inside names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), "").strip() or type(error).__name__
        raise InputError(f"{path}: cannot be read as an image ({reason})") from None


def _target(image, side):
    """(H, W) of an image when it is upright and its shorter side is `side`, as torchvision rounds it."""
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = image.size if turn not in (5, 6, 7, 8) else image.size[::-1]
    long = int(side * max(width, height) / min(width, height))
    return (long, side) if width <= height else (side, long)
