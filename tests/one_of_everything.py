"""A folder with one of everything that people have: pictures of many formats, faults, and files that are no pictures.

python tests/one_of_everything.py FOLDER            # then: python embed.py --images FOLDER --out results/gallery
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from data.creatures import recipe, snapshot  # noqa: E402
from raw_files import dng  # noqa: E402

HEIC = """
import io, sys
import pillow_heif
from PIL import Image
pillow_heif.register_heif_opener()
Image.open(io.BytesIO(sys.stdin.buffer.read())).save(sys.argv[1], "HEIF", quality=80)
"""
TAKEN = "2024:05:01 12:30:00"


def drawn(number):
    """A picture of its own for each number."""
    return snapshot(recipe(0, 0, number), np.random.default_rng(number)).resize((320, 240))


def write_heic(image, path):
    """By pillow-heif in a process of its own: it would also decode here, in place of pi-heif."""
    png = io.BytesIO()
    image.save(png, "PNG")
    subprocess.run([sys.executable, "-c", HEIC, path], input=png.getvalue(), check=True)


def make(folder):
    """Fill a new folder."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    formats = "jpg png gif webp tif bmp jp2 ppm tga avif".split()
    for number, extension in enumerate(formats):
        drawn(number).save(folder / f"picture.{extension}")
    write_heic(drawn(20), folder / "phone.HEIC")
    (folder / "camera.dng").write_bytes(dng(drawn(21)))

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = TAKEN
    drawn(22).save(folder / "both.jpg", exif=exif)
    (folder / "both.dng").write_bytes(dng(drawn(22), taken=TAKEN))

    turned = Image.Exif()
    turned[0x0112] = 6
    drawn(23).convert("L").save(folder / "turned scan.tif", exif=turned)
    Image.fromarray(np.asarray(drawn(24).convert("L"), np.uint16) << 4).save(folder / "x-ray.png")
    white = Image.new("RGBA", (320, 240), (255, 255, 255, 0))
    white.paste((255, 255, 255, 255), (80, 60, 240, 180))
    white.save(folder / "white on nothing.png")
    drawn(25).save(folder / "odd profile.png", icc_profile=b"no profile")

    content = (folder / "picture.jpg").read_bytes()
    (folder / "nearly whole.jpg").write_bytes(content[:-2])
    (folder / "half.jpg").write_bytes(content[: len(content) // 3])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<!doctype html><title>Not found</title>")
    for name in ("film.mp4", "drawing.svg", "letter.pdf", "both.xmp", "notes.txt", ".hidden.jpg", "Thumbs.db"):
        (folder / name).write_bytes(b"content")
    (folder / "@eaDir" / "picture.jpg").mkdir(parents=True)
    drawn(0).save(folder / "@eaDir" / "picture.jpg" / "SYNOPHOTO_THUMB_M.jpg")
    os.link(folder / "picture.png", folder / "second name.png")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return folder


if __name__ == "__main__":
    make(sys.argv[1])
