"""A thumbprint: the whole image squeezed into a small grey square, by which copies of a picture are found again."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
VIEWS = 8  # of a picture: it and its mirror image, each in four turns
INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)  # of each view, the view that undoes it


def thumbprint(image: "Tensor") -> np.ndarray:
    """uint8 (SIDE, SIDE), the luma of the squeezed image, from uint8 (3, H, W), RGB, as data.images gives it.

    The squeezing is antialiased, so that the size of the image hardly matters. Its proportions and colours are forgotten.
    """
    from data.images import resize  # here, because torch takes long to import, and who compares prints does not need it

    red, green, blue = resize(image, (SIDE, SIDE)).numpy().astype(np.float32)
    return (0.299 * red + 0.587 * green + 0.114 * blue + 0.5).astype(np.uint8)  # ITU-R BT.601, as JPEG has it


def view_of(prints: np.ndarray, view: int) -> np.ndarray:
    """A view of prints (..., SIDE, SIDE), of any dtype: mirrored left to right if view >= 4, then view % 4 quarter turns
    anticlockwise. It shares their memory. The print of a turned image is the turned print, but for rounding."""
    return np.rot90(prints[..., ::-1] if view >= 4 else prints, view % 4, axes=(-2, -1))
