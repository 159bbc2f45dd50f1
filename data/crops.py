"""Picture -> centre crop without PyTorch, pixel by pixel as data/images.py and data/transforms.py make it.

Needs only NumPy beside data/pixels.py: export.py copies this module too.
"""

import numpy as np

from data.pixels import Picture


def resized(pixels: np.ndarray, size: int, start: int, count: int) -> np.ndarray:
    """Resize the first axis to `size`, bilinear and antialiased, and return `count` rows from `start`: uint8 (count, ...).

    The pixels equal the result of torch's interpolate(antialias=True) for uint8, whose weights are whole numbers of 16 bits.
    Pillow's weights are not, so its pixels differ by 1 here and there.
    """
    scale = len(pixels) / size
    support, centre = max(scale, 1.0), (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    end = np.minimum((centre + support + 0.5).astype(int), len(pixels))
    rows = first[:, None] + np.arange((end - first).max())  # (size, taps): the input rows for each output row
    weights = np.maximum(0, 1 - abs((rows - centre[:, None] + 0.5) * (1 / support))) * (rows < end[:, None])
    weights /= weights.sum(1, keepdims=True)
    bits = next(bits for bits in range(1, 23) if bits == 22 or int(0.5 + weights.max() * 2 ** (bits + 1)) >= 2**15)
    whole = (0.5 + weights * 2**bits).astype(np.int32)[start : start + count]
    rows = np.minimum(rows, len(pixels) - 1)[start : start + count]
    total = sum(whole[:, tap, None, None] * pixels[rows[:, tap]] for tap in range(rows.shape[1]))
    return np.clip((total + 2 ** (bits - 1)) >> bits, 0, 255).astype(np.uint8)


def centre_crop(picture: Picture, width: int) -> np.ndarray:
    """Resize a picture and crop its centre: uint8 (3, width, width)."""
    height, breadth = picture.size
    columns = resized(picture.pixels.transpose(1, 0, 2), breadth, round((breadth - width) / 2), width)
    return resized(columns.transpose(1, 0, 2), height, round((height - width) / 2), width).transpose(2, 0, 1)
