"""Decoding, against Pillow and torchvision, for every file format; and malicious files."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from data.images import decode, decoded_size, resize
from data.pixels import MAX_ASPECT
from data.transforms import Transforms
from utils.errors import InputError

ROOT = str(Path(__file__).resolve().parents[2])


def plainly(path, side):
    """Decode in the slow and obvious way: Pillow decodes the whole image, torchvision resizes it."""
    with Image.open(path) as image:
        return F.resize(F.pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB")), [side], antialias=True)


@pytest.fixture
def scene():
    """scene(width, height) returns a picture with smooth parts, edges and texture, like a photo."""

    def draw(width, height):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:height, 0:width] / height
        light = 110 + 60 * np.sin(3 * x + 2 * y) + 50 * (np.hypot(x - 0.5, y - 0.5) < 0.3)
        colours = np.stack([light, light * (0.6 + 0.4 * y), 255 - light], 2) + rng.normal(0, 6, (height, width, 3))
        return Image.fromarray(np.uint8(np.clip(colours, 0, 255)))

    return draw


def test_every_kind_of_file_becomes_rgb(tmp_path, scene):
    picture = scene(50, 33)
    kinds = {
        "rgb.jpg": picture,
        "grey.jpg": picture.convert("L"),
        "cmyk.jpg": picture.convert("CMYK"),
        "grey.png": picture.convert("L"),
        "bits.png": picture.convert("1"),
        "alpha.png": picture.convert("RGBA"),
        "palette.gif": picture.convert("P"),
        "long.png": Image.new("RGB", (1, MAX_ASPECT)),
        "rgb.webp": picture,
        "cmyk.tif": picture.convert("CMYK"),
        "pixel.png": Image.new("RGB", (1, 1)),
    }
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


@pytest.mark.parametrize(
    "size, scaled", [((640, 479), False), ((800, 480), True), ((480, 1937), True), ((2000, 1999), True)]
)
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


def pixels(path):
    """Return the pixels without resizing: uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return decode(str(path), min(image.size)).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_other_formats(tmp_path, kind, orientation):
    """These formats are lossless, so every pixel must be equal. `stored` is the file's content for each orientation."""
    upright = np.random.default_rng(0).integers(256, size=(20, 31, 3), dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    assert np.array_equal(pixels(path), upright) and decoded_size(path, 20) == (20, 31)


def pgm(path, values):
    path.write_bytes(b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())


def save(path, values):
    Image.fromarray(values).save(path)


@pytest.mark.parametrize("write, name", [(save, "deep.png"), (save, "deep.tif"), (pgm, "deep.pgm")])
def test_16_bits_keep_their_high_byte(tmp_path, write, name):
    values = np.linspace(0, 65535, 30 * 20).reshape(20, 30).astype(np.uint16)
    write(tmp_path / name, values)
    assert np.array_equal(pixels(tmp_path / name), np.repeat((values // 256)[:, :, None], 3, 2))


@pytest.mark.parametrize(
    "low, high, dtype",
    [(0, 1, np.float32), (-5e30, 3e38, np.float32), (0, 4095, np.int32), (-(2**31), 2**31 - 1, np.int32), (7, 7, np.int32)],
)
def test_grey_without_a_range_is_stretched(tmp_path, low, high, dtype):
    share = np.linspace(0, 1, 30 * 20).reshape(20, 30)
    save(tmp_path / "deep.tif", (low + share * (float(high) - low)).astype(dtype))
    expected = 255 * share if high > low else 0 * share
    assert np.abs(pixels(tmp_path / "deep.tif") - expected[:, :, None]).max() <= 0.6


def test_numbers_that_are_none_are_black_or_white(tmp_path):
    save(tmp_path / "odd.tif", np.array([[0, 1, 2], [np.nan, np.inf, -np.inf]], np.float32))
    assert pixels(tmp_path / "odd.tif")[:, :, 0].tolist() == [[0, 128, 255], [0, 255, 0]]
    save(tmp_path / "odd.tif", np.full((2, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="odd.tif: cannot be read"):
        decode(str(tmp_path / "odd.tif"), 2)


def test_transparency_shows_white(tmp_path):
    rng = np.random.default_rng(0)
    colours, alpha = rng.integers(256, size=(20, 30, 3)), rng.choice([0, 100, 255], size=(20, 30, 1))
    grey = np.repeat(colours[:, :, :1], 3, 2)
    over = {name: (c * alpha + 255 * (255 - alpha)) / 255 for name, c in (("rgb", colours), ("grey", grey))}
    rgba = Image.fromarray(np.uint8(np.concatenate([colours, alpha], 2)))
    indices = Image.fromarray(np.uint8(np.where(alpha > 0, 1 + colours[:, :, :1] % 255, 0))[:, :, 0]).convert("P")
    palette = rng.integers(256, size=(256, 3))
    indices.putpalette(palette.astype(np.uint8).tobytes())
    from_palette = np.where(alpha > 0, palette[1 + colours[:, :, 0] % 255], 255)
    keyed = Image.fromarray(np.uint8(np.where(alpha == 0, (1, 2, 3), colours | 4)))
    cases = {
        "rgba.png": (rgba, over["rgb"], {}),
        "rgba.tif": (rgba, over["rgb"], {}),
        "rgba.webp": (rgba, over["rgb"], {"lossless": True, "exact": True}),
        "la.png": (rgba.convert("LA"), None, {}),
        "palette.png": (indices, from_palette, {"transparency": 0}),
        "palette.gif": (indices, from_palette, {"transparency": 0}),
        "levels.png": (indices, from_palette, {"transparency": bytes([0] + 255 * [255])}),
        "keyed.png": (keyed, np.where(alpha == 0, 255, colours | 4), {"transparency": (1, 2, 3)}),
    }
    for name, (image, expected, options) in cases.items():
        image.save(tmp_path / name, **options)
        if expected is None:
            shade = np.array(image)[:, :, :1]
            expected = np.repeat((shade * alpha + 255.0 * (255 - alpha)) / 255, 3, 2)
        assert np.abs(pixels(tmp_path / name) - expected).max() <= 1, name


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation(tmp_path, kind):
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(
        tmp_path / f"moving.{kind}",
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if kind == "webp" else {}),
    )
    with Image.open(tmp_path / f"moving.{kind}") as image:
        assert image.n_frames == 3
    assert (pixels(tmp_path / f"moving.{kind}") == (255, 0, 0)).all()


def test_the_content_says_what_a_file_is_not_its_name(tmp_path, scene):
    scene(50, 33).save(tmp_path / "is.png")
    os.rename(tmp_path / "is.png", tmp_path / "is.jpg")
    assert torch.equal(decode(str(tmp_path / "is.jpg"), 20), plainly(tmp_path / "is.jpg", 20))


def message(path, read=decode):
    with pytest.raises(InputError, match=f"{os.path.basename(path)}: cannot be read as an image") as caught:
        read(str(path), 20)
    assert len(str(caught.value).splitlines()) == 1 and str(caught.value).count(str(path)) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", ["whole.jpg", "whole.png", "whole.gif", "whole.webp", "whole.tif", "whole.bmp"])
def test_unreadable_files_are_named(tmp_path, scene, name):
    scene(60, 50).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:30], whole[: -len(whole) // 3], bytes(len(whole)), b"", b"hello\n" * 9):
        (tmp_path / name).write_bytes(content)
        message(tmp_path / name)
    message(tmp_path / "missing.jpg")
    message(tmp_path)


def test_odd_names_are_shown_readably(tmp_path):
    path = str(tmp_path / "bad\udce9\x0b'.jpg")
    with open(path, "w"), pytest.raises(InputError) as caught:
        decode(path, 20)
    assert str(caught.value) == f"{tmp_path}/bad\\udce9\\x0b'.jpg: cannot be read as an image (the file is empty)"


@pytest.mark.parametrize(
    "error",
    [
        struct.error("a buffer\nof 4 bytes"),
        IndexError(),
        KeyError(274),
        MemoryError(),
        EOFError(),
        zlib.error("Error -3"),
        AttributeError("x"),
        OverflowError("x"),
        TypeError("x"),
        ZeroDivisionError("x"),
        RuntimeError("x"),
        RecursionError("x"),
        AssertionError(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["load", "getexif"])
def test_whatever_pillow_raises_on_damage(tmp_path, monkeypatch, scene, error, where):
    def fail(self):
        raise error

    scene(60, 50).save(tmp_path / "a.jpg")
    monkeypatch.setattr(f"PIL.JpegImagePlugin.JpegImageFile.{where}", fail)
    message(tmp_path / "a.jpg")


def test_postscript_does_not_run(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\nshowpage\n")
    assert "PostScript" in message(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, MAX_ASPECT + 1), (3 * MAX_ASPECT + 1, 3)])
def test_elongated_images_are_squeezed(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "long.png")
    expected = (3, 20, 20 * MAX_ASPECT) if size[0] > size[1] else (3, 20 * MAX_ASPECT, 20)
    assert decode(tmp_path / "long.png", 20).shape == expected == (3, *decoded_size(tmp_path / "long.png", 20))


def png(width, height):
    """Return the start of a PNG that declares this size, and holds almost no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0"))
    )


@pytest.fixture
def bombs(tmp_path, scene):
    """Write small files that declare 30000 x 30000 pixels into the current folder."""
    scene(60, 50).save(tmp_path / "bomb.jpg")
    jpeg, sides = (tmp_path / "bomb.jpg").read_bytes(), struct.pack(">HH", 50, 60)
    assert jpeg.count(sides) == 1
    (tmp_path / "bomb.jpg").write_bytes(jpeg.replace(sides, struct.pack(">HH", 30000, 30000)))
    (tmp_path / "bomb.gif").write_bytes(b"GIF89a" + struct.pack("<HHBBB", 30000, 30000, 0, 0, 0) + b"," + bytes(10))
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000))
    return [tmp_path / f"bomb.{kind}" for kind in ("jpg", "gif", "png")]


def test_bombs_are_refused_by_their_header(bombs):
    """But for the JPEG, which is decoded at an eighth of its size."""
    jpeg, gif, png = bombs
    assert decode(jpeg, 20).shape == (3, 20, 20)
    assert "30000 x 30000 pixels take 3.6 GB" in message(png) and message(gif)


def test_pillow_warns_of_nothing(tmp_path, bombs, scene):
    """Pillow warns of these three files. The warnings must not reach the terminal."""
    scene(60, 50).save(tmp_path / "exif.jpg")
    jpeg = (tmp_path / "exif.jpg").read_bytes()
    (tmp_path / "exif.jpg").write_bytes(jpeg[:2] + b"\xff\xe1\0\x12Exif\0\0II*\0\x08\0\0\0\xff\xff" + jpeg[2:])
    bmp = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, 10000, 9500, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "large.bmp").write_bytes(bmp)
    script = (
        "import sys\nfrom data.images import *\nfor path in sys.argv[1:]:\n"
        "    try:\n        print(decoded_size(path, 20), decode(path, 20).shape)\n"
        "    except InputError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script, "exif.jpg", "large.bmp", bombs[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert done.stderr == "" and done.stdout.startswith("(20, 24) torch.Size([3, 20, 24])\n")
    assert done.stdout.count("cannot be read") == 1
    with pytest.warns(Warning):  # so it would, were it not told
        decoded_size(str(tmp_path / "exif.jpg"), 20)


def test_the_first_picture_with_a_remark_is_named(tmp_path, monkeypatch):
    """In training, where nobody makes a table."""
    lines = []
    monkeypatch.setattr("utils.log.warn", lines.append)
    monkeypatch.setattr("data.reports._warned", set())
    for number in range(3):
        save(tmp_path / f"{number}.png", np.full((20, 30), 100 + number, np.uint16))
        Transforms(16, 20).load(str(tmp_path / f"{number}.png"))
    what = "16-bit grey, only lower bits used: brightened; further pictures like this are not reported"
    assert lines == [f"{tmp_path}/0.png: {what}"]
