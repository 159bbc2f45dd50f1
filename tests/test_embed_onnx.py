"""The crops of embed_onnx.py, which uses none of the project's code, against the project's. test_export.py tests the
program."""

import numpy as np
import pytest
from PIL import Image

from data.images import decode
from data.transforms import Transforms

embed_onnx = pytest.importorskip("embed_onnx")  # needs onnxruntime


def crops_by_both(path, origin_width, width):
    transforms = Transforms(width, origin_width)
    return embed_onnx.crop_of(str(path), origin_width, width), transforms.centre_crop(decode(path, origin_width)).numpy()


def noise(size, mode, seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return (
        Image.merge(mode, [Image.fromarray(pixels[..., i]) for i in range(channels)])
        if channels > 1
        else Image.fromarray(pixels[..., 0]).convert(mode)
    )


@pytest.mark.parametrize("origin_width, width", [(70, 64), (256, 227), (33, 33)])
def test_its_crops_are_the_projects_pixel_by_pixel(tmp_path, origin_width, width):
    """Noise shows every rounding. Images are enlarged, shrunk, decoded at 1/2, 1/4 and 1/8 of their size, square, and
    long."""
    sizes = [(1, 1), (48, 40), (70, 70), (71, 353), (257, 256), (600, 401), (1203, 977), (2100, 2101), (900, 20)]
    for size in sizes:
        noise(size, "RGB").save(tmp_path / "a.jpg", quality=85)
        ours, expected = crops_by_both(tmp_path / "a.jpg", origin_width, width)
        assert ours.dtype == np.uint8 and np.array_equal(ours, expected), size


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_its_crops_are_upright(tmp_path, suffix, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    noise((90, 61), "RGB").save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.array_equal(*crops_by_both(tmp_path / f"a.{suffix}", 40, 32))


@pytest.mark.parametrize(
    "mode, suffix", [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("1", "png")]
)
def test_its_crops_of_other_modes(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    noise((90, 61), mode).save(path, **({"transparency": 3} if mode == "P" else {}))
    assert np.array_equal(*crops_by_both(path, 40, 32))
