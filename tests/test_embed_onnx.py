"""The crops of embed_onnx.py, resized in NumPy, against the project's, resized by torch. Its program: test_export.py."""

import numpy as np
import pytest
from PIL import Image, ImageCms

import embed_onnx
from data.formats import Unreadable
from data.images import decode
from data.transforms import Transforms


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


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (20, 2100), (5000, 30), (3, 1200)])
def test_its_crops_of_elongated_pictures(tmp_path, size):
    """Also of those that are squeezed, because they are longer than 100 times their shorter side."""
    noise(size, "RGB").save(tmp_path / "a.png")
    assert np.array_equal(*crops_by_both(tmp_path / "a.png", 40, 32))


@pytest.mark.parametrize(
    "mode, suffix",
    [
        *[("L", "jpg"), ("CMYK", "jpg"), ("CMYK", "tiff"), ("RGBA", "png"), ("RGBA", "webp"), ("LA", "png"), ("P", "png")],
        *[("P", "gif"), ("1", "png"), ("LAB", "tiff"), ("RGB", "avif")],
    ],
)
def test_its_crops_of_other_modes(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    noise((90, 61), mode).save(path, **({"transparency": 3} if mode == "P" else {}))
    assert np.array_equal(*crops_by_both(path, 40, 32))


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize(
    "dtype, largest, suffix",
    [
        *[(np.uint16, 2**16, "png"), (np.uint16, 2**12, "png"), (np.uint16, 2**16, "tiff"), (np.uint16, 2**16, "pgm")],
        *[(np.int32, 10**6, "tiff"), (np.float32, 1.0, "tiff")],
    ],
)
def test_its_crops_of_more_than_8_bits(tmp_path, dtype, largest, suffix, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    values = (np.random.default_rng(0).random((61, 90)) * largest).astype(dtype)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}", **({} if suffix == "pgm" else {"exif": exif}))
    ours, expected = crops_by_both(tmp_path / f"a.{suffix}", 40, 32)
    assert np.array_equal(ours, expected) and np.ptp(ours) > 100


@pytest.mark.parametrize("size", [(90, 61), (30, 41)])  # shrunk before its colours are converted, and not
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_its_crops_of_a_picture_with_a_profile(tmp_path, suffix, size):
    """The profile is sRGB with red and green exchanged."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = icc.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")
    picture, path = noise(size, "RGB"), tmp_path / f"a.{suffix}"
    picture.save(path)
    plain = embed_onnx.crop_of(str(path), 40, 32)
    picture.save(path, icc_profile=exchanged)
    ours, expected = crops_by_both(path, 40, 32)
    assert np.array_equal(ours, expected)
    assert abs(ours.astype(int) - plain[[1, 0, 2]]).max() <= 3


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_its_crops_of_animations(tmp_path, suffix):
    """The first frame is white, so it is the second."""
    frames = [Image.new("RGB", (90, 61), "white"), noise((90, 61), "RGB"), noise((90, 61), "RGB", 1)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    ours, expected = crops_by_both(tmp_path / f"a.{suffix}", 40, 32)
    assert np.array_equal(ours, expected) and np.ptp(ours) > 20


@pytest.mark.parametrize("turned", [1, 6])
def test_its_crops_of_heic(tmp_path, turned):
    pytest.importorskip("pi_heif")
    pillow_heif = pytest.importorskip("pillow_heif")  # pi-heif writes none
    exif = Image.Exif()
    exif[0x0112] = turned
    pillow_heif.from_pillow(noise((90, 61), "RGB")).save(tmp_path / "a.heic", quality=90, exif=exif.tobytes())
    assert np.array_equal(*crops_by_both(tmp_path / "a.heic", 40, 32))


def test_its_crops_of_a_jpeg_that_lacks_its_end(tmp_path):
    noise((90, 61), "RGB").save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-50])
    assert np.array_equal(*crops_by_both(tmp_path / "a.jpg", 40, 32))


def test_other_files_are_unreadable(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>")
    with pytest.raises(Unreadable, match="a web page"):
        embed_onnx.crop_of(str(tmp_path / "a.jpg"), 40, 32)
