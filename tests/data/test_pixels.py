"""What a picture's pixels are, in every mode and container: against a slow and obvious decode of files made here."""

import io
import itertools
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from PIL import Image, ImageCms

from data import pixels
from data.formats import Unreadable

ROOT = Path(__file__).parents[2]
SIDE = 20  # the shorter side of the test pictures: nothing is resized

TURNS = {  # Exif orientation -> how a camera stored the upright picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}
PALETTE = np.random.default_rng(1).integers(256, size=(256, 3))


def stored(mode, seed=0, shape=(SIDE, 31)):
    """(values as stored, uint8 (H, W, 3) as they should look) of a random picture in a mode of Pillow."""
    rng = np.random.default_rng(seed)
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}.get(mode, 1)
    values = rng.integers(256, size=(*shape, channels))
    if mode == "1":
        values = rng.integers(2, size=(*shape, 1)) * 255
    if mode == "I;16":
        values = rng.integers(2**16, size=(*shape, 1))
        values[0, 0] = 2**16 - 1
    if mode in ("I", "F"):
        values = rng.integers(-(10**6), 10**6, size=(*shape, 1))
    grey = values[:, :, :1].astype(float)
    look = {
        "RGB": lambda: values[:, :, :3],
        "RGBA": lambda: (values[:, :, :3] * values[:, :, 3:] + 255 * (255 - values[:, :, 3:])) / 255,
        "LA": lambda: (grey * values[:, :, 1:] + 255 * (255 - values[:, :, 1:])) / 255,
        "CMYK": lambda: (255 - values[:, :, :3]) * (255 - values[:, :, 3:]) / 255,
        "P": lambda: PALETTE[values[:, :, 0]],
        "I;16": lambda: values // 256,
        "I": lambda: (grey - grey.min()) * 255 / np.ptp(grey),
        "F": lambda: (grey - grey.min()) * 255 / np.ptp(grey),
    }.get(mode, lambda: grey)()
    return values, np.broadcast_to(look, (*shape, 3))


def to_image(values, mode):
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    array = np.ascontiguousarray(values.astype(dtype))
    if mode == "CMYK":
        return Image.frombytes("CMYK", array.shape[1::-1], array.tobytes())
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if mode == "1":
        return image.convert("1", dither=Image.Dither.NONE)
    if mode == "P":
        image = image.copy()
        image.putpalette(PALETTE.astype(np.uint8).tobytes())
    return image


def saved(values, mode, container, **options):
    file = io.BytesIO()
    to_image(values, mode).save(file, container, **options)
    file.seek(0)
    return file


def look(file, side=SIDE, **more):
    """int (H, W, 3)"""
    return pixels.read(file, side, **more).pixels.astype(int)


# ---- every mode, container, compression and orientation ----------------------------------------------------------------

LOSSLESS = [
    *itertools.product(
        ["TIFF"], "1 L P RGB RGBA LA CMYK I;16 I F".split(), [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
    ),
    *itertools.product(["PNG"], "1 L P RGB RGBA LA I;16".split(), [None]),
    *itertools.product(["WEBP"], ["RGB", "RGBA"], [None]),
]


@pytest.mark.parametrize("by_name", [True, False])
@given(which=st.sampled_from(LOSSLESS), orientation=st.integers(1, 8), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
@example(which=("TIFF", "L", None), orientation=6, seed=0)
@example(which=("TIFF", "I;16", None), orientation=8, seed=0)
def test_a_turned_picture_is_upright(tmp_path_factory, by_name, which, orientation, seed):
    container, mode, compression = which
    values, expected = stored(mode, seed)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"TIFF": {"compression": compression} if compression else {}, "WEBP": {"lossless": True, "exact": True}}
    file = saved(TURNS[orientation](values), mode, container, exif=exif, **options.get(container, {}))
    if by_name:
        path = tmp_path_factory.getbasetemp() / f"turned-{os.getpid()}"
        path.write_bytes(file.read())
        file = str(path)
    assert np.abs(look(file) - expected).max() <= 1
    assert pixels.target_size(file, SIDE) == (SIDE, 31)


@pytest.mark.parametrize("container", ["PNG", "WEBP"])
def test_broken_tags_are_ignored(container):
    values, expected = stored("RGB")
    options = {"lossless": True} if container == "WEBP" else {}
    file = saved(values, "RGB", container, exif=b"Exif\0\0no tags at all", **options)
    assert np.abs(look(file) - expected).max() == 0 and pixels.target_size(file, SIDE) == (SIDE, 31)


def test_a_file_that_shrinks_meanwhile_is_one_line(tmp_path):
    """Mapped into memory, such a file would end the process (SIGBUS)."""
    script = """
import os, sys
from PIL import Image, ImageFile
from data import pixels
from data.formats import Unreadable
load = ImageFile.ImageFile.load
def cut(image):
    os.truncate(sys.argv[1], 200)
    return load(image)
ImageFile.ImageFile.load = cut
try:
    pixels.read(sys.argv[1], 20)
except Unreadable as error:
    print(error)
"""
    for compression in ({}, {"compression": "tiff_adobe_deflate"}):
        noise = np.random.default_rng(0).integers(256, size=(600, 700, 1))
        (tmp_path / "scan.tif").write_bytes(saved(noise, "L", "TIFF", **compression).read())
        command = [sys.executable, "-c", script, str(tmp_path / "scan.tif")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert compression or done.stdout == "the file is cut off\n"


# ---- 16-bit grey that uses only lower bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_16_bits_that_use_fewer_fill_the_range(container, bits):
    values = np.linspace(0, 2**bits - 1, SIDE * 31).astype(int).reshape(SIDE, 31, 1)
    read = pixels.read(saved(values, "I;16", container), SIDE)
    assert np.array_equal(read.pixels, np.repeat(values >> (bits - 8), 3, 2))
    assert read.notes == (("bits",) if bits < 16 else ())


@pytest.mark.parametrize("tag", [341, 281])
def test_the_maximum_that_a_tiff_names_is_white(tag):
    values = np.linspace(0, 3000, SIDE * 31).astype(int).reshape(SIDE, 31, 1)
    read = pixels.read(saved(values, "I;16", "TIFF", tiffinfo={tag: 5999}), SIDE)
    assert np.array_equal(read.pixels[:, :, :1], values * 256 // 6000) and read.notes == ()


def test_a_maximum_below_the_pixels_is_not_believed():
    values = np.linspace(0, 4000, SIDE * 31).astype(int).reshape(SIDE, 31, 1)
    assert np.array_equal(look(saved(values, "I;16", "TIFF", tiffinfo={341: 255}))[:, :, :1], values >> 4)


def test_a_tiff_of_12_bits_is_of_12_bits():
    values = np.arange(SIDE * 32).reshape(SIDE, 32)  # far from the largest value of 12 bits
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 2).astype(np.uint8).tobytes()
    tags = [(256, 32), (257, SIDE), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, SIDE), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    file = io.BytesIO(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)
    assert np.array_equal(look(file)[:, :, 0], values >> 4)


def test_white_is_zero():
    values = np.linspace(0, 65535, SIDE * 31).astype(int).reshape(SIDE, 31, 1)
    content = saved(values, "I;16", "TIFF").read()
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert content.count(entry) == 1
    file = io.BytesIO(content.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    assert np.array_equal(look(file)[:, :, :1], 255 - (values >> 8))


# ---- pictures of which nothing was seen ----------------------------------------------------------------------------------


def drawing(ink, alpha_of_ground=0):
    """uint8 (H, W, 4): a cross in a colour on a transparent ground."""
    picture = np.full((SIDE, 31, 4), (*ink, alpha_of_ground), np.uint8)
    picture[8:12, :, 3] = picture[:, 14:18, 3] = 255
    return picture


@pytest.mark.parametrize(
    "ink, ground", [((255, 255, 255), 128), ((255, 254, 255), 128), ((0, 0, 0), 255), ((9, 200, 9), 255)]
)
@pytest.mark.parametrize("container", ["PNG", "WEBP", "TIFF"])
def test_a_drawing_can_be_seen_on_its_ground(container, ink, ground):
    options = {"lossless": True, "exact": True} if container == "WEBP" else {}
    picture = drawing(ink)
    read = look(saved(picture, "RGBA", container, **options))
    shown = picture[:, :, 3] == 255
    assert np.abs(read[shown] - ink).max() <= 1 and (read[~shown] == ground).all()


def test_what_shows_on_neither_white_nor_grey_is_on_black():
    """Half transparent: white on white, and grey on grey."""
    picture = np.full((SIDE, 31, 4), (255, 255, 255, 255), np.uint8)
    picture[:10] = (255, 255, 255, 0)
    assert set(look(saved(picture, "RGBA", "PNG")).ravel()) == {128, 255}


def test_alpha_that_is_0_everywhere_is_ignored():
    picture = np.random.default_rng(0).integers(256, size=(SIDE, 31, 4))
    picture[:, :, 3] = 0
    assert np.array_equal(look(saved(picture, "RGBA", "PNG")), picture[:, :, :3])
    grey = picture[:, :, [0, 3]]
    assert np.array_equal(look(saved(grey, "LA", "PNG")), np.repeat(grey[:, :, :1], 3, 2))


def test_nothing_at_all_is_white():
    assert (look(saved(np.zeros((SIDE, 31, 4)), "RGBA", "PNG")) == 0).all()  # alpha is ignored, so black
    assert (look(saved(np.full((SIDE, 31, 4), (255, 255, 255, 9)), "RGBA", "PNG")) == 255).all()


@pytest.mark.parametrize("container", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_with_content(container):
    frames = [Image.new("RGB", (31, SIDE), "white") for _ in range(3)]
    frames += [Image.fromarray(drawing((200, 0, 0), 255)[:, :, :3]) for _ in range(2)]
    frames[3].paste((0, 0, 200), (0, 0, 12, SIDE))
    frames[4].paste((0, 200, 0), (0, 0, 12, SIDE))
    file = io.BytesIO()
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(container, {})
    frames[0].save(file, container, save_all=True, append_images=frames[1:], **options)
    assert np.abs(look(file) - np.asarray(frames[3])).max() <= (6 if container == "AVIF" else 1)


def test_an_animation_whose_first_frame_is_transparent():
    empty = Image.fromarray(np.zeros((SIDE, 31, 4), np.uint8))
    full = Image.fromarray(drawing((250, 10, 20)))
    file = io.BytesIO()
    empty.save(file, "WEBP", save_all=True, append_images=[full], lossless=True, exact=True)
    shown = drawing((250, 10, 20))[:, :, 3] == 255
    assert np.abs(look(file)[shown] - (250, 10, 20)).max() <= 1


@pytest.mark.parametrize("container", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("first", ["white", "drawn"])
def test_an_animation_is_turned_upright(container, orientation, first):
    values, expected = stored("RGB")
    drawn = to_image(TURNS[orientation](values), "RGB")
    frames = [Image.new("RGB", drawn.size, "white"), drawn] if first == "white" else [drawn, Image.new("RGB", drawn.size)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    options = {"lossless": True} if container == "WEBP" else {}
    frames[0].save(file, container, save_all=True, append_images=frames[1:], exif=exif, **options)
    assert np.abs(look(file) - expected).max() == 0


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("level", [1, 999])  # 999: a damaged file names a level that there is not
def test_the_transparent_level_of_a_png_with_few_bits(bits, level):
    levels = np.random.default_rng(0).integers(2**bits, size=(SIDE, 32))
    bit = (levels[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bit)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 32, SIDE, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", level)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    number = struct.Struct(">I").pack
    parts = (number(len(data)) + name + data + number(zlib.crc32(name + data)) for name, data in chunks)
    expected = np.where(levels == level, 255, levels * 255 // (2**bits - 1))
    assert (look(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))) == expected[:, :, None]).all()


def test_grey_with_premultiplied_alpha():
    alpha = np.random.default_rng(0).integers(256, size=(SIDE, 31))
    content = saved(np.stack([alpha // 2, alpha], 2), "LA", "TIFF").read()
    extra_samples = struct.pack("<HHIH", 338, 3, 1, 2)  # 2: alpha of its own
    assert content.count(extra_samples) == 1
    premultiplied = content.replace(extra_samples, struct.pack("<HHIH", 338, 3, 1, 1))
    assert np.abs(look(io.BytesIO(premultiplied)) - (255 - alpha + alpha // 2)[:, :, None]).max() <= 3


# ---- colours -------------------------------------------------------------------------------------------------------------

XYZ_OF_SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
PRIMARIES = {  # RGB -> XYZ at D50, and the gamma
    "sRGB by another name": (XYZ_OF_SRGB, None),
    "Adobe RGB": (
        np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]),
        2.19921875,
    ),
    "ProPhoto": (np.array([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0, 0, 0.8252100]]), 1.8),
    "linear": (XYZ_OF_SRGB, 1.0),
}


def profile(name):
    """The bytes of a matrix profile, version 2, written by hand."""
    matrix, gamma = PRIMARIES[name]
    fixed = lambda number: struct.pack(">i", round(number * 65536))
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round((gamma or 2.2) * 256)) + bytes(2)
    if gamma is None:
        steps = np.linspace(0, 1, 1024)
        table = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
        curve = b"curv" + bytes(4) + struct.pack(">I", 1024) + (table * 65535).round().astype(">u2").tobytes()
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1) + fixed(0.8249),
        **{
            key: b"XYZ " + bytes(4) + b"".join(map(fixed, matrix[:, i])) for i, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, data, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, content in tags.items():
        content += bytes(-len(content) % 4)
        table += key + struct.pack(">II", at + len(data), len(content))
        data += content
    head = (
        b"\0\0\0\0lcms\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    )
    content = head.ljust(128, b"\0") + table + data
    return struct.pack(">I", len(content)) + content[4:]


def in_srgb(values, name):
    """uint8 (..., 3) in a profile's numbers -> float (..., 3), the sRGB numbers of the same colours, clipped."""
    matrix, gamma = PRIMARIES[name]
    linear = (values / 255) ** gamma @ matrix.T @ np.linalg.inv(XYZ_OF_SRGB).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("container", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["Adobe RGB", "ProPhoto", "linear"])
def test_colours_are_converted_to_srgb(container, name):
    values = stored("RGB")[0]
    options = {"lossless": True} if container == "WEBP" else {}
    read = pixels.read(saved(values, "RGB", container, icc_profile=profile(name), **options), SIDE)
    assert np.abs(read.pixels - in_srgb(values, name)).max() <= 3
    assert np.abs(values - in_srgb(values, name)).max() > 30  # so it makes a difference
    assert read.facts.profile == name and read.notes == ()


def test_a_large_picture_is_shrunk_before_it_is_converted():
    values = stored("RGB", shape=(5 * SIDE, 8 * SIDE))[0] // 8 * 0 + np.array([200, 40, 90])
    read = pixels.read(saved(values, "RGB", "PNG", icc_profile=profile("Adobe RGB")), SIDE)
    assert read.pixels.shape == (SIDE, 8 * SIDE // 5, 3) == (*read.size, 3)
    assert np.abs(read.pixels - in_srgb(np.array([200, 40, 90]), "Adobe RGB")).max() <= 2


def test_srgb_is_recognised_whatever_its_name(monkeypatch):
    values = stored("RGB")[0]
    file = saved(values, "RGB", "PNG", icc_profile=profile("sRGB by another name"))
    pixels.read(file, SIDE)  # its transform is known now
    monkeypatch.setattr(ImageCms, "applyTransform", None)
    assert np.array_equal(look(file), values)


def cmyk_profile():
    """The bytes of a CMYK profile, written by hand: cyan, magenta and yellow are greys, their mixtures are black."""
    lightness = {(0, 0, 0, 0): 100, (1, 0, 0, 0): 60, (0, 1, 0, 0): 40, (0, 0, 1, 0): 80}  # C, M, Y, K; others 0
    inks = list(itertools.product((0, 1), repeat=4))
    corners = b"".join(bytes([round(lightness.get(ink, 0) * 2.55), 128, 128]) for ink in inks)
    matrix = b"".join(struct.pack(">i", 65536 * (i in (0, 4, 8))) for i in range(9))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * bytes(range(256)) + corners + 3 * bytes(range(256))
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    names, contents, at, tags = (b"desc", b"wtpt", b"A2B0"), (text, white, table), 128 + 4 + 36, b""
    for name, content in zip(names, contents):
        tags += name + struct.pack(">II", at, len(content))
        at += len(content) + -len(content) % 4
    data = b"".join(content + bytes(-len(content) % 4) for content in contents)
    head = b"\0\0\0\0lcms\x02\x10\0\0prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28) + white[8:]
    whole = head.ljust(128, b"\0") + struct.pack(">I", 3) + tags + data
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize(
    "inks, lightness", [((0, 0, 0, 0), 100), ((255, 0, 0, 0), 60), ((0, 255, 0, 0), 40), ((0, 0, 255, 0), 80)]
)
def test_cmyk_keeps_four_channels_until_it_is_converted(inks, lightness):
    """By a profile whose inks are greys: converted to RGB first, cyan would be a colour."""
    values = np.broadcast_to(np.array(inks), (3 * SIDE, 93, 4))
    read = pixels.read(saved(values, "CMYK", "TIFF", icc_profile=cmyk_profile()), SIDE)
    linear = ((lightness + 16) / 116) ** 3
    assert np.abs(read.pixels - 255 * (1.055 * linear ** (1 / 2.4) - 0.055)).max() <= 3
    assert read.notes == () and read.facts.profile == "inks" and read.pixels.shape[:2] == read.size


@pytest.mark.parametrize("icc", [b"none", profile("linear")[:200], bytes(500)])
def test_a_broken_profile_is_ignored_and_noted(icc):
    values = stored("RGB")[0]
    read = pixels.read(saved(values, "RGB", "PNG", icc_profile=icc), SIDE)
    assert np.array_equal(read.pixels, values) and read.notes == ("profile",)


def test_a_profile_of_another_kind_of_image_is_ignored():
    values, expected = stored("CMYK")
    read = pixels.read(saved(values, "CMYK", "TIFF", icc_profile=profile("linear")), SIDE)
    assert np.abs(read.pixels - expected).max() <= 1 and read.notes == ("profile",)


def test_lab_is_read():
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    colours = Image.fromarray(np.random.default_rng(0).integers(60, 200, size=(SIDE, 31, 3), dtype=np.uint8))
    file = io.BytesIO()
    ImageCms.profileToProfile(colours, srgb, lab, outputMode="LAB").save(file, "TIFF")
    assert np.abs(look(file) - np.asarray(colours).astype(int)).mean() < 3


# ---- cut off ------------------------------------------------------------------------------------------------------------


def jpeg(width=160, height=120, **options):
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 1))
    picture = np.stack([x * 200 // width, y * 200 // height, (x + y) % 256], 2) + noise
    return saved(picture.clip(0, 255), "RGB", "JPEG", quality=90, **options)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("side", [SIDE, 120])
def test_a_jpeg_that_lacks_its_end_is_read_and_noted(options, side):
    content = jpeg(**options).read()
    whole = look(io.BytesIO(content), side)
    for missing in (1, 2, len(content) // 8):
        read = pixels.read(io.BytesIO(content[:-missing]), side)
        assert read.notes == ("incomplete",) and read.pixels.shape == whole.shape
        rows = len(whole) * 3 // 4
        assert np.abs(read.pixels[:rows].astype(int) - whole[:rows]).mean() < (6 if options.get("progressive") else 0.01)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_plain_lower_half_is_not_missing(mode):
    picture = np.array(Image.open(jpeg()).convert("RGB"))
    picture[60:] = 250
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", quality=90)
    read = pixels.read(io.BytesIO(file.getvalue()[:-2]), 120)
    assert read.notes == ("incomplete",) and read.pixels[-20:].min() > 240
    with pytest.raises(Unreadable, match="^the file is cut off$"):
        pixels.read(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]), 120)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6])
def test_a_jpeg_of_which_too_little_is_left_is_refused(share):
    content = jpeg().read()
    with pytest.raises(Unreadable, match="^the file is cut off$"):
        pixels.read(io.BytesIO(content[: int(share * len(content))]), SIDE)


# ---- size, memory and time ----------------------------------------------------------------------------------------------


def test_a_baseline_jpeg_of_any_size_is_decoded_at_an_eighth():
    content = jpeg(1600, 1200).read()
    assert look(io.BytesIO(content), SIDE, memory=200 * 150 * 4).shape == (150, 200, 3)
    with pytest.raises(Unreadable, match="200 x 150 pixels take 0.0 GB, and the limit is 0.0 GB"):
        look(io.BytesIO(content), SIDE, memory=200 * 150 * 4 - 1)


def test_a_progressive_jpeg_counts_six_bytes_for_each_pixel():
    content, need = jpeg(1600, 1200, progressive=True).read(), 1600 * 1200 * 6 + 200 * 150 * 4
    assert look(io.BytesIO(content), SIDE, memory=need).shape == (150, 200, 3)
    with pytest.raises(Unreadable, match="the limit is"):
        look(io.BytesIO(content), SIDE, memory=need - 1)


@pytest.mark.parametrize("mode, each", [("L", 1), ("RGB", 4), ("I;16", 2), ("P", 1)])
def test_any_other_picture_counts_its_whole_size(mode, each):
    content = saved(stored(mode)[0], mode, "PNG").read()
    look(io.BytesIO(content), memory=SIDE * 31 * each)
    with pytest.raises(Unreadable, match="the limit is"):
        look(io.BytesIO(content), memory=SIDE * 31 * each - 1)


def test_the_limit_of_pillow_is_lifted_only_meanwhile(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert look(saved(stored("L")[0], "L", "TIFF", compression="tiff_lzw")).shape == (SIDE, 31, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("mode", ["F", "I", "I;16", "RGBA", "P", "CMYK"])
def test_memory_per_pixel(tmp_path, mode):
    """At most 16 bytes a pixel and 200 MB, in a process of its own."""
    path, (height, width) = tmp_path / "large.tif", (4000, 5000)
    row = stored(mode, shape=(1, width))[0]
    path.write_bytes(saved(np.repeat(row, height, 0), mode, "TIFF", compression="tiff_adobe_deflate").read())
    script = """
import resource, sys
from data import pixels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels.read(sys.argv[1], 128)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) <= 16 * height * width + 200e6


def test_plain_ppm_is_refused_beyond_a_megabyte_and_binary_is_read():
    digits = b"P3\n500 400\n255\n" + b"200 100 50\n" * 200000
    with pytest.raises(Unreadable, match="decimal digits of more than 1 MB"):
        look(io.BytesIO(digits))
    assert (look(io.BytesIO(b"P3\n31 20\n255\n" + b"200 100 50\n" * 620)) == (200, 100, 50)).all()
    assert look(io.BytesIO(b"P6\n800 600\n255\n" + bytes(800 * 600 * 3)), 600).shape == (600, 800, 3)


def test_mpo_is_decoded_scaled(monkeypatch):
    file = io.BytesIO()
    first = Image.open(jpeg(800, 600))
    first.save(file, "MPO", save_all=True, append_images=[first.rotate(180)])
    file.seek(0)
    assert Image.open(file).format == "MPO"
    read = pixels.read(file, SIDE)
    assert read.pixels.shape == (75, 100, 3) and read.facts[:3] == (800, 600, "MPO")
    plain = look(jpeg(800, 600))
    assert np.abs(read.pixels - plain).mean() < 3
