"""Small folders of photos, and what a gallery of them should hold, computed the slow way."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import models
from gallery.folder import GalleryFolder
from gallery.table import File
from gallery.thumbprints import SIDE
from gallery.writer import Writer
from utils import checkpoint

# Fast: the ready-made net of embed.py on thumbnails, in this process.
TINY = ("--width", "32", "--origin_width", "36", "--dim", "16", "--nThreads", "0", "--device", "cpu")

KINDS = ("missing", "empty", "cut", "noise", "a folder")  # of damage


def damage(path, kind):
    """Damage a file in one of KINDS."""
    whole = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        noise = np.random.default_rng(0).bytes(len(whole))
        path.write_bytes({"empty": b"", "cut": whole[: 2 * len(whole) // 3], "noise": noise}[kind])


def photo(path, seed=0, size=(48, 40)):
    """Write a picture of large coloured squares that depends on the seed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    picture = Image.fromarray(squares).resize(size, Image.Resampling.NEAREST)
    with open(path, "wb") as file:  # Pillow does not take every name that is no UTF-8
        picture.save(file, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def photos(folder, count, first=0):
    """A folder with so many photos, half of them in a folder below it; returns their names, sorted."""
    return sorted(str(photo(folder / ("deep" * (i % 2)) / f"{i:03}.jpg", i)) for i in range(first, first + count))


def snapshot(folder):
    """All that can be seen of a folder: names, kinds, times, bytes."""
    seen = {}
    for here, folders, files in os.walk(folder):
        for name in [".", *folders, *files]:
            path = os.path.join(here, name)
            status = os.lstat(path)
            held = Path(path).read_bytes() if os.path.isfile(path) else os.path.islink(path) and os.readlink(path)
            seen[path] = (status.st_mode, status.st_mtime_ns, status.st_size, held)
    return seen


def hash_of(path):
    """uint8 (16,)"""
    return np.frombuffer(hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest(), np.uint8)


def checkpoint_of(folder, seed):
    """A checkpoint of a tiny net, as train.py writes them."""
    torch.manual_seed(seed)
    embedder = models.create("timm/test_resnet", 16, False, width=32, origin_width=36)
    path = checkpoint.path_of(str(folder), seed)
    checkpoint.save(path, {"state_dict": embedder.state_dict(), "epoch": seed, "settings": embedder.settings})
    return path


# ---- without a net: rows that are drawn ------------------------------------------------------------------------------

# A disk takes 0.2 s to be sure of a gallery; these tests make hundreds.
RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
DIM = 8
ABOUT = {"name": "drawn", "root": "/photos", "source": "/photos", "kind": "pooled", "net": "none", "dim": DIM}


def files_named(*names, size=100, mtime_ns=10**18):
    """Files of these names, sorted, as a survey gives them; they are not on the disk."""
    return sorted(File(f"/photos/{name}", size, mtime_ns) for name in names)


def drawn(file):
    """Of a File an embedding, a print and a hash that depend on all that is known of it."""
    rng = np.random.default_rng(list(repr(file).encode()))
    embedding = rng.normal(size=DIM)
    return embedding / np.linalg.norm(embedding), rng.integers(0, 256, (SIDE, SIDE)), rng.integers(0, 256, 16)


def put(writer, indices):
    """Have a Writer write the drawn rows of its files at these indices."""
    for i in indices:
        writer.put(np.array([i]), *(part[None] for part in drawn(writer.files[i])))


def make(folder, files, bad=(), model="model", dtype="float32"):
    """Make or renew the gallery of these files in a folder. Returns the files of which rows were written."""
    os.makedirs(folder, exist_ok=True)
    GalleryFolder(folder).put_in_place()
    writer = Writer(str(folder), model, DIM, dtype)
    unreadable = {entry.file for entry in bad}
    todo = [int(i) for i in writer.plan(files) if files[i] not in unreadable]
    put(writer, todo)
    writer.finish(bad, ABOUT)
    return [files[i] for i in todo]


def is_drawn(gallery, files, dtype="float32"):
    """Whether a gallery holds the drawn rows of these files and no others, in this order."""
    rows = [drawn(file) for file in files]
    return (
        gallery.files == list(files)
        and list(gallery.paths) == [file.path for file in files]
        and gallery.embeddings.dtype == dtype
        and np.array_equal(gallery.embeddings, np.array([row[0] for row in rows], dtype))
        and np.array_equal(gallery.prints, np.array([row[1] for row in rows], np.uint8))
        and np.array_equal(gallery.hashes, np.array([row[2] for row in rows], np.uint8))
    )
