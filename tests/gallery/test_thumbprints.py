"""Thumbprints: against a filter in float64, and against prints of turned pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from data.images import from_memory
from gallery.thumbprints import INVERSE, SIDE, VIEWS, thumbprint, view_of


def triangles(length):
    """Return the filter, float64 (SIDE, length): each pixel of a print is a triangle-weighted mean, two print pixels
    wide."""
    scale = length / SIDE
    weights = np.zeros((SIDE, length))
    for i in range(SIDE):
        for j in range(length):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


def slow_print(image):
    red, green, blue = (
        triangles(plane.shape[0]) @ plane @ triangles(plane.shape[1]).T for plane in image.astype(np.float64)
    )
    return 0.299 * red + 0.587 * green + 0.114 * blue


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.booleans(), st.integers(0, 10**6))
def test_equals_the_slow_way(height, width, channels_last, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    image = torch.from_numpy(pixels)
    if channels_last:
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    made = thumbprint(image)
    assert made.dtype == np.uint8 and made.shape == (SIDE, SIDE)
    assert np.abs(made - slow_print(pixels)).max() <= 1.5  # the print is rounded after each of its three steps


def test_the_ends_of_the_scale():
    for value in (0, 255):
        assert (thumbprint(torch.full((3, 40, 50), value, dtype=torch.uint8)) == value).all()


TURNS = [  # the steps by which Pillow makes each view
    (),
    ("ROTATE_90",),
    ("ROTATE_180",),
    ("ROTATE_270",),
    ("FLIP_LEFT_RIGHT",),
    ("FLIP_LEFT_RIGHT", "ROTATE_90"),
    ("FLIP_LEFT_RIGHT", "ROTATE_180"),
    ("FLIP_LEFT_RIGHT", "ROTATE_270"),
]


@pytest.mark.parametrize("view", range(VIEWS))
def test_the_print_of_a_turned_picture_is_the_turned_print(view):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((168, 216), Image.Resampling.BICUBIC)
    turned = picture
    for how in TURNS[view]:
        turned = turned.transpose(Image.Transpose[how])
    whole, other = (thumbprint(from_memory(image, 144)) for image in (picture, turned))
    off = [np.abs(view_of(whole, v).astype(int) - other).max() for v in range(VIEWS)]
    assert off[view] <= 2
    assert all(off[v] > 40 for v in range(VIEWS) if v != view)


@pytest.mark.parametrize("view", range(VIEWS))
def test_the_inverse_undoes_a_view(view):
    prints = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8)
    assert (view_of(view_of(prints, view), INVERSE[view]) == prints).all()
