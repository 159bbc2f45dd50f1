"""A thumbprint: the whole image squeezed into a small grey square, by which copies of a picture are found."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
VIEWS = 8  # of a picture: the picture and its mirror image, each in four turns
INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)  # for each view, the view that undoes it


def thumbprint(image: "Tensor") -> np.ndarray:
    """Return the luma of the squeezed image, uint8 (SIDE, SIDE). image: uint8 (3, H, W), RGB, from data.images.

    Squeezing is antialiased, so the size of the image hardly matters. Its proportions and colours are lost.
    """
    from data.images import resize  # here: torch is slow to import, and comparing prints does not need it

    red, green, blue = resize(image, (SIDE, SIDE)).numpy().astype(np.float32)
    return (0.299 * red + 0.587 * green + 0.114 * blue + 0.5).astype(np.uint8)  # ITU-R BT.601, as in JPEG


def view_of(prints: np.ndarray, view: int) -> np.ndarray:
    """Return a view of prints (..., SIDE, SIDE) of any dtype, in shared memory: mirrored left to right if view >= 4, then
    turned anticlockwise by view % 4 quarters. Up to rounding, the print of a turned image is the turned print."""
    return np.rot90(prints[..., ::-1] if view >= 4 else prints, view % 4, axes=(-2, -1))
