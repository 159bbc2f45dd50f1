"""Which names are those of images."""

import pytest
from PIL import Image

from data import extensions
from data.extensions import EXTENSIONS, PLAIN, extension, why_not_read
from data.formats import HEIF, JXL, RAW


def test_pillow_opens_every_plain_extension():
    formats = Image.registered_extensions()  # of those that it writes
    for end in PLAIN:
        name = formats.get(end, {".psd": "PSD", ".qoi": "QOI"}.get(end))
        assert name == "MPO" or name in Image.OPEN, end  # an MPO is opened as a JPEG
    wanted = "jpg jpeg jpe jfif mpo png bmp dib gif webp tif tiff ppm pgm pbm pnm avif jp2 j2k tga ico qoi psd heic heif hif"
    assert sorted(EXTENSIONS) == sorted(f".{end}" for end in wanted.split())


@pytest.mark.parametrize("name", ["a.jpg", "A.JPG", "x/.jpg", "a.b.Png", "a b.HEIC", "new\nline.tiff", "caf\udce9.webp"])
def test_images(name):
    assert why_not_read(name) is None


@pytest.mark.parametrize(
    "name, why",
    [
        ("clip.MOV", "video"),
        ("drawing.svg", "SVG"),
        ("scan.pdf", "PDF"),
        ("a.jpg.xmp", "sidecar"),
        ("figure.eps", "PostScript"),
        ("notes.txt", ".txt"),
        ("a.jpg.bak", ".bak"),
        ("README", "no extension"),
        ("jpg", "no extension"),
        ("folder.jpg/README", "no extension"),
        ("Trip to St. Ives, and back", "no extension"),
        ("a.jpg~", "no extension"),
        ("", "no extension"),
    ],
)
def test_other_files(name, why):
    assert why_not_read(name) == why


@pytest.mark.parametrize(
    "names, package, what", [(RAW, "rawpy", "camera raw"), (JXL, "pillow-jxl-plugin", "JPEG XL"), (HEIF, "pi-heif", "HEIC")]
)
def test_formats_that_need_a_package(monkeypatch, names, package, what):
    for present in (True, False):
        monkeypatch.setattr(extensions, "installed", lambda name, present=present: present or name != package)
        reasons = {why_not_read(f"a{end.upper()}") for end in names}
        assert reasons == ({None} if present else {f"{what}, which needs: pip install {package}"})


def test_extension():
    assert [extension(name) for name in ("a.B", "a", "a.", ".jpg", "a/b.c/d", "a.\u0130")] == [".b", "", "", ".jpg", "", ""]
