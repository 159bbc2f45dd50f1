"""Small folders of photos, and what a gallery of them should hold, computed in a slow and obvious way."""

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

# Flags that make embed.py fast: small crops, few numbers, one process.
TINY = ("--width", "32", "--origin_width", "36", "--dim", "16", "--nThreads", "0", "--device", "cpu")

KINDS = ("missing", "empty", "cut", "noise", "a folder")  # ways to damage a file


def damage(path, kind):
    """Damage a file in the way `kind`, one of KINDS."""
    whole = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        noise = np.random.default_rng(0).bytes(len(whole))
        path.write_bytes({"empty": b"", "cut": whole[: 2 * len(whole) // 3], "noise": noise}[kind])


def photo(path, seed=0, size=(48, 40)):
    """Write a picture of large coloured squares, drawn from the seed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    picture = Image.fromarray(squares).resize(size, Image.Resampling.NEAREST)
    with open(path, "wb") as file:  # Pillow cannot open every name that is not UTF-8
        picture.save(file, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def photos(folder, count, first=0):
    """Write `count` photos, half of them into a subfolder. Returns their paths, sorted."""
    return sorted(str(photo(folder / ("deep" * (i % 2)) / f"{i:03}.jpg", i)) for i in range(first, first + count))


def snapshot(folder):
    """Return everything that is visible of a folder: names, types, times, bytes."""
    seen = {}
    for here, folders, files in os.walk(folder):
        for name in [".", *folders, *files]:
            path = os.path.join(here, name)
            status = os.lstat(path)
            held = Path(path).read_bytes() if os.path.isfile(path) else os.path.islink(path) and os.readlink(path)
            seen[path] = (status.st_mode, status.st_mtime_ns, status.st_size, held)
    return seen


def hash_of(path):
    """Return the hash that a gallery keeps of a file: uint8 (16,)."""
    return np.frombuffer(hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest(), np.uint8)


def checkpoint_of(folder, seed):
    """Write a checkpoint of a tiny net, as train.py does, and return its path."""
    torch.manual_seed(seed)
    embedder = models.create("timm/test_resnet", 16, False, width=32, origin_width=36)
    path = checkpoint.path_of(str(folder), seed)
    checkpoint.save(path, {"state_dict": embedder.state_dict(), "epoch": seed, "settings": embedder.settings})
    return path


# ---- without a net: rows that are drawn ------------------------------------------------------------------------------

# In RAM, because syncing a gallery to a disk takes 0.2 s, and these tests make hundreds.
RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
DIM = 8
ABOUT = {"name": "drawn", "root": "/photos", "source": "/photos", "kind": "pooled", "net": "none", "dim": DIM}


def files_named(*names, size=100, mtime_ns=10**18):
    """Return Files of these names, sorted, as a survey does. They are not on the disk."""
    return sorted(File(f"/photos/{name}", size, mtime_ns) for name in names)


def drawn(file):
    """Return an embedding, a print and a hash, drawn from the File's name, size and time."""
    rng = np.random.default_rng(list(repr(file).encode()))
    embedding = rng.normal(size=DIM)
    return embedding / np.linalg.norm(embedding), rng.integers(0, 256, (SIDE, SIDE)), rng.integers(0, 256, 16)


def put(writer, indices):
    """Make a Writer write the drawn rows of its files at these indices."""
    for i in indices:
        writer.put(np.array([i]), *(part[None] for part in drawn(writer.files[i])))


def make(folder, files, bad=(), model="model", dtype="float32"):
    """Make or renew the gallery of these files in a folder. Returns the files whose rows were written."""
    os.makedirs(folder, exist_ok=True)
    GalleryFolder(folder).put_in_place()
    writer = Writer(str(folder), model, DIM, dtype)
    unreadable = {entry.file for entry in bad}
    todo = [int(i) for i in writer.plan(files) if files[i] not in unreadable]
    put(writer, todo)
    writer.finish(bad, ABOUT)
    return [files[i] for i in todo]


def is_drawn(gallery, files, dtype="float32"):
    """Return True if a gallery holds the drawn rows of exactly these files, in this order."""
    rows = [drawn(file) for file in files]
    return (
        gallery.files == list(files)
        and list(gallery.paths) == [file.path for file in files]
        and gallery.embeddings.dtype == dtype
        and np.array_equal(gallery.embeddings, np.array([row[0] for row in rows], dtype))
        and np.array_equal(gallery.prints, np.array([row[1] for row in rows], np.uint8))
        and np.array_equal(gallery.hashes, np.array([row[2] for row in rows], np.uint8))
    )
