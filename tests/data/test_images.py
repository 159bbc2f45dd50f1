"""Decoding: against Pillow and torchvision, for every kind of file."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from data.images import decode, decoded_size, resize
from utils.errors import InputError


def plainly(path, side):
    """The slow and obvious way: Pillow decodes the whole image, torchvision resizes it."""
    with Image.open(path) as image:
        return F.resize(F.pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB")), [side], antialias=True)


@pytest.fixture
def scene():
    """scene(width, height): a picture with smooth parts, edges and texture, as photos have them."""
    def draw(width, height):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:height, 0:width] / height
        light = 110 + 60 * np.sin(3 * x + 2 * y) + 50 * (np.hypot(x - 0.5, y - 0.5) < 0.3)
        colours = np.stack([light, light * (0.6 + 0.4 * y), 255 - light], 2) + rng.normal(0, 6, (height, width, 3))
        return Image.fromarray(np.uint8(np.clip(colours, 0, 255)))
    return draw


def test_every_kind_of_file_becomes_rgb(tmp_path, scene):
    picture = scene(50, 33)
    kinds = {"rgb.jpg": picture, "grey.jpg": picture.convert("L"), "cmyk.jpg": picture.convert("CMYK"),
             "grey.png": picture.convert("L"), "16bit.png": Image.new("I;16", (30, 20)),
             "alpha.png": picture.convert("RGBA"),
             "palette.gif": picture.convert("P"), "long.png": Image.new("RGB", (1, 500)), "rgb.webp": picture}
    for name, image in kinds.items():
        path = str(tmp_path / name)
        image.save(path)
        got = decode(path, 20)
        assert torch.equal(got, plainly(path, 20)) and decoded_size(path, 20) == got.shape[1:]
        assert got.stride() == (1, 3 * got.shape[2], 3), "channels last in memory"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(50, 33), (160, 120)])
def test_exif_orientation_is_applied(tmp_path, scene, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / "turned.jpg")
    scene(*size).save(path, exif=exif, quality=95)
    got, expected = decode(path, 24), plainly(path, 24)
    assert got.shape == expected.shape == (3, *decoded_size(path, 24))
    assert (got.float() - expected.float()).abs().mean() < (0.01 if min(size) < 48 else 2)


@pytest.mark.parametrize("size, scaled", [((640, 479), False), ((800, 480), True), ((480, 1937), True),
                                          ((2000, 1999), True)])
def test_large_jpegs_are_decoded_scaled(tmp_path, scene, size, scaled):
    path = str(tmp_path / "large.jpg")
    scene(*size).save(path, quality=92)
    got, expected = decode(path, 240), plainly(path, 240)
    assert got.shape == expected.shape
    assert torch.equal(got, expected) != scaled
    assert (got.float() - expected.float()).abs().mean() < 2


def test_resize_is_torchvisions():
    image = torch.randint(256, (37, 61, 3), dtype=torch.uint8).permute(2, 0, 1)
    for size in ((20, 30), (64, 64), (37, 61), (1, 90)):
        for view in (image, image.contiguous(), image[:, 3:30, 5:]):
            assert torch.equal(resize(view, size), F.resize(view, list(size), antialias=True))


@pytest.mark.parametrize("name", ["whole.jpg", "whole.png"])
def test_unreadable_files_are_named(tmp_path, scene, name):
    scene(60, 50).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for content in (whole[:len(whole) // 2], whole[:30], b"", b"hello"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read as an image") as caught:
            decode(str(tmp_path / name), 20)
        assert "\n" not in str(caught.value)
