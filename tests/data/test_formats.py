"""Every format that people have, files that are none, and why a file is not read. The files are made here."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from data import formats, pixels
from data.formats import Unreadable
from raw_files import dng

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scene():
    """A smooth picture (120, 160) with all colours, which lossy formats keep."""
    y, x = np.mgrid[0:120, 0:160]
    return Image.fromarray(np.stack([x * 255 // 160, y * 255 // 120, 255 - (x + y) * 255 // 280], 2).astype(np.uint8))


def difference(read, image):
    """The mean difference of levels, both at the size of the picture that was read."""
    height, width = read.pixels.shape[:2]
    return np.abs(read.pixels.astype(int) - np.asarray(image.convert("RGB").resize((width, height)), int)).mean()


# ---- formats of Pillow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension, container, mode",
    [
        ("jfif", "JPEG", "RGB"),
        ("jpe", "JPEG", "RGB"),
        ("jp2", "JPEG2000", "RGB"),
        ("j2k", "JPEG2000", "RGB"),
        ("pgm", "PPM", "L"),
        ("pbm", "PPM", "1"),
        ("pnm", "PPM", "RGB"),
        ("tga", "TGA", "RGB"),
        ("dib", "DIB", "RGB"),
        ("ico", "ICO", "RGBA"),
        ("qoi", "QOI", "RGB"),
        ("avif", "AVIF", "RGB"),
        ("webp", "WEBP", "RGB"),
        ("bmp", "BMP", "RGB"),
        ("gif", "GIF", "RGB"),
    ],
)
def test_formats_of_pillow(tmp_path, scene, extension, container, mode):
    image = scene.convert(mode)
    try:
        image.save(tmp_path / f"a.{extension}", container, **({"sizes": [(160, 120)]} if container == "ICO" else {}))
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {container}")
    read = pixels.read(tmp_path / f"a.{extension}", 120)
    assert difference(read, image) < (8 if container == "GIF" else 4)


def test_psd(tmp_path, scene):
    """Without layers and compression, written by hand."""
    planes = np.asarray(scene).transpose(2, 0, 1).tobytes()
    head = b"8BPS\0\1" + bytes(6) + b"\0\3" + (120).to_bytes(4, "big") + (160).to_bytes(4, "big") + b"\0\x08\0\3"
    (tmp_path / "a.psd").write_bytes(head + bytes(12) + b"\0\0" + planes)
    assert difference(pixels.read(tmp_path / "a.psd", 120), scene) == 0


# ---- HEIC ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def heic():
    """heic(image, **options) -> an open HEIC. pillow-heif encodes in a process of its own, as it would also decode here."""
    pytest.importorskip("pillow_heif")

    def make(image, turned=1, **options):
        script = """
import io, sys
import pillow_heif
from PIL import Image
pillow_heif.register_heif_opener()
image, out = Image.open(io.BytesIO(sys.stdin.buffer.read())), io.BytesIO()
exif = Image.Exif()
exif[0x0112] = int(sys.argv[1])
exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
image.save(out, "HEIF", quality=95, exif=exif.tobytes(), icc_profile=image.info.get("icc_profile"))
sys.stdout.buffer.write(out.getvalue())
"""
        png = io.BytesIO()
        image.save(png, "PNG", **options)
        command = [sys.executable, "-c", script, str(turned)]
        return io.BytesIO(subprocess.run(command, input=png.getvalue(), capture_output=True, check=True).stdout)

    return make


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
def test_heic_is_upright(heic, scene, turned):
    stored = scene.rotate({1: 0, 3: 180, 6: 90, 8: 270}[turned], expand=True)
    read = pixels.read(heic(stored, turned), 120)
    assert difference(read, scene) < 4
    assert read.facts == (160, 120, "HEIF", "2024-05-01 12:30:00", None, turned, None)


def test_heic_has_its_colour_profile_converted(heic, scene):
    lab = ImageCms.createProfile("sRGB")
    assert difference(pixels.read(heic(scene, icc_profile=ImageCms.ImageCmsProfile(lab).tobytes()), 120), scene) < 4
    from test_pixels import in_srgb, profile

    read = pixels.read(heic(scene, icc_profile=profile("linear")), 120)
    assert np.abs(read.pixels - in_srgb(np.asarray(scene), "linear")).mean() < 6 and read.facts.profile == "linear"


@pytest.mark.parametrize("missing", [1, 100, 2000])
def test_heic_that_is_cut_off_is_refused(heic, scene, missing):
    content = heic(scene).read()
    with pytest.raises(Unreadable):
        pixels.read(io.BytesIO(content[:-missing]), 120)


# ---- raw files of cameras, and JPEG XL -------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
def test_a_raw_file_shows_its_preview_upright(tmp_path, scene, turned):
    """By its extension: Pillow takes a DNG for a TIFF."""
    pytest.importorskip("rawpy")
    stored = scene.rotate({1: 0, 3: 180, 6: 90, 8: 270}[turned], expand=True)
    (tmp_path / "a.DNG").write_bytes(dng(stored, turned))
    read = pixels.read(tmp_path / "a.DNG", 120)
    assert difference(read, scene) < 4
    assert read.facts == (160, 120, "RAW", "2024-05-01 12:30:00", "Maker X100", turned, None)
    assert pixels.target_size(tmp_path / "a.DNG", 60) == (60, 80)


def test_a_jpeg_with_the_extension_of_a_raw_file_is_a_jpeg(tmp_path, scene):
    scene.save(tmp_path / "a.jpg", quality=95)
    os.rename(tmp_path / "a.jpg", tmp_path / "a.nef")
    assert difference(pixels.read(tmp_path / "a.nef", 120), scene) < 4


def test_jpeg_xl(tmp_path, scene):
    pytest.importorskip("pillow_jxl")
    assert formats.installed("pillow-jxl-plugin")
    scene.save(tmp_path / "a.jxl", quality=95)
    assert difference(pixels.read(tmp_path / "a.jxl", 120), scene) < 4


@pytest.mark.parametrize(
    "name, content, package",
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "pi-heif"),
        ("a.jxl", b"\xff\x0a" + bytes(40), "pillow-jxl-plugin"),
        ("a.dng", b"II*\0" + bytes(40), "rawpy"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, content, package):
    monkeypatch.setattr(formats, "installed", lambda package: False)
    for plugin in ("HEIF", "JXL", "Jxl"):
        monkeypatch.delitem(Image.OPEN, plugin, raising=False)
    monkeypatch.setattr(Image, "ID", [plugin for plugin in Image.ID if plugin in Image.OPEN])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable, match=f"which needs: pip install {package}$"):
        pixels.read(tmp_path / name, 20)


# ---- files that are no pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "the file is empty"),
        (bytes(5000), "it begins with zeros: the file was never written whole"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page, not a picture"),
        (b"\n  <html>", "a web page, not a picture"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG or XML, which is not read"),
        (b"%PDF-1.7\n" + bytes(50), "PDF, which is not read"),
        (b"PK\x03\x04" + bytes(50), "a ZIP archive, not a picture"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "a video, not a picture"),
        (b"\x1aE\xdf\xa3" + bytes(50), "a video, not a picture"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(50), "a video, not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript is not decoded"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC, damaged or of a kind that is not read"),
        (b"hello, this is a text", "no picture, or of a format that is not read"),
    ],
)
def test_the_reason_says_what_a_file_is(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(formats, "installed", lambda package: True)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(Unreadable) as caught:
        pixels.read(tmp_path / "a.jpg", 20)
    assert str(caught.value) == reason


@pytest.mark.parametrize("container", ["PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "QOI", "TGA"])
def test_a_file_that_is_cut_off_says_so_or_is_read(scene, container):
    """Of noise, so that the half that is missing counts."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, container)
    with pytest.raises(Unreadable) as caught:
        pixels.read(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]), 20)
    print(container, caught.value)
    if container in ("PNG", "GIF", "TIFF", "BMP"):
        assert str(caught.value) == "the file is cut off"


def test_a_heic_named_jpg_is_read_by_its_content(tmp_path, heic, scene):
    (tmp_path / "a.jpg").write_bytes(heic(scene).read())
    assert difference(pixels.read(tmp_path / "a.jpg", 120), scene) < 4


def test_a_tiff_of_a_kind_that_is_not_read(tmp_path, scene):
    scene.save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    compression = b"\x03\x01\x03\0\x01\0\0\0\x01\0"  # tag 259, SHORT, 1 value: none
    assert content.count(compression) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(compression, compression[:-2] + b"\xe7\x03"))
    with pytest.raises(Unreadable, match="^TIFF of a kind that is not read"):
        pixels.read(tmp_path / "a.tif", 20)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(Unreadable, match="^not a file$"):
        pixels.read(tmp_path / "pipe.jpg", 20)
    with pytest.raises(Unreadable, match="No such file"):
        pixels.read(tmp_path / "none.jpg", 20)
