"""A folder of small pictures, and real galleries of it, whose embeddings need no net."""

import os
import shutil
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from data.creatures import recipe, snapshot
from data.images import decode
from data.pixels import read
from gallery.contents import Entry
from gallery.growth import spread
from gallery.page.gallery_view import GalleryView
from gallery.search import open_gallery
from gallery.table import Bad, Content, File
from gallery.thumbprints import thumbprint
from gallery.writer import Writer
from thumbnails import make_image_folder

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


def embedding(side):
    """Return an embedding by the colours at side x side places: PIL images -> float32 (n, 3 * side * side), rows of length
    1."""

    def embed(images):
        rows = [np.asarray(image.convert("RGB").resize((side, side)), np.float32).ravel() - 127.5 for image in images]
        return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)

    return embed


def draw(folder):
    """Draw 72 images of 8 colours, two copies of the first, a creature in two sizes, a hostile name, a damaged file."""
    make_image_folder(folder, train_classes=6, test_classes=2, per_class=9)
    first = folder / "train/class 0/0.jpg"
    shutil.copy(first, folder / "copy of 0.jpg")
    shutil.copy(first, folder / "test/another copy of 0.jpg")
    creature = snapshot(recipe(0, 0, 0), np.random.default_rng(0))
    creature.save(folder / "creature.png")
    creature.resize((300, 300)).save(folder / "creature (large).jpg", quality=60)
    shutil.copy(folder / "train/class 1/1.jpg", folder / HOSTILE)
    (folder / "broken.jpg").write_bytes(first.read_bytes()[:300])
    return folder


def draw_copies(folder, count=12):
    """Draw creatures, of each a smaller, a coarser and an identical copy. Every other one has a date and a camera."""
    (folder / "2023 summer/sea").mkdir(parents=True)
    (folder / "from phone").mkdir()
    for number in range(count):
        image = snapshot(recipe(0, 0, number), np.random.default_rng(number)).resize((640, 640))
        exif = Image.Exif()
        if number % 2:
            exif[0x0132], exif[0x0110] = f"2023:07:{number + 1:02}{' 12:30:00'}", "Camera"
            exif.get_ifd(0x8769)[0x9003] = exif[0x0132]
        best = folder / f"2023 summer/{'sea/' if number % 3 else ''}IMG_{number:04}.jpg"
        image.save(best, quality=92, exif=exif)
        image.resize((320, 320)).save(folder / f"from phone/IMG_{number:04} (1).jpg", quality=80)
        image.save(folder / f"from phone/resaved {number}.jpg", quality=40, exif=exif)
        shutil.copy(best, folder / f"copy of {number}.jpg")
        os.utime(best, (1.6e9, 1.6e9 + number))
    return folder


def write(folder, name, root, embed, images=None, plain=False):
    """Write a real gallery of the images below `root` into `folder`. images: a number, for a state that lacks the others."""
    files = sorted(str(path) for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    os.makedirs(folder, exist_ok=True)
    readable = [path for path in files if not path.endswith("broken.jpg")]
    bad = [Bad(File(path, 300, 0), "image file is truncated") for path in set(files) - set(readable)]
    unfinished = {} if images is None else {"of": len(readable), "plain": plain}
    readable = readable if images is None else [readable[place] for place in np.sort(spread(len(readable))[:images])]
    embeddings = embed([Image.open(path) for path in readable])
    pictures = [read(path, 144) for path in readable]
    prints = np.stack([thumbprint(decode(path, 144)) for path in readable])
    hashes = np.stack([np.frombuffer(digest(Path(path).read_bytes(), 16), np.uint8) for path in readable])
    writer = Writer(str(folder), name, embeddings.shape[1], "float32")
    rows = writer.plan([File(path, os.path.getsize(path), os.stat(path).st_mtime_ns) for path in readable])
    entries = [Entry(hashes[row].tobytes(), Content(pictures[row].facts, pictures[row].notes), None) for row in rows]
    writer.put(rows, embeddings[rows], prints[rows], hashes[rows], entries)
    about = {"name": name, "root": str(root), "source": str(root), "kind": "embedding", "net": "none"}
    writer.finish(bad, {**about, **unfinished, "dim": embeddings.shape[1]})
    return open_view(folder, embed)


def open_view(folder, embed):
    gallery, index = open_gallery(str(folder))
    return GalleryView(gallery, index, embed, side=64)


def digest(data, size):
    return blake2b(data, digest_size=size).digest()


def key_of(path):
    """Return the key that stands for an image in the page's addresses."""
    return digest(os.fsencode(path), 8).hex()
