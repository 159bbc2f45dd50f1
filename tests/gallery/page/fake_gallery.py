"""A gallery, its index and its embedding, as search.py gives them to the page, but made in a second with plain NumPy.

The ready-made embedding is a histogram of colours; the "trained" one holds the colours at each place.
"""

import hashlib
import os

import numpy as np

from data.images import decode
from data.pictures import to_pil
from gallery.not_duplicates import Mark
from gallery.page.gallery_view import GalleryView
from gallery.scale import UNKNOWN
from gallery.store import Gallery
from gallery.table import Bad, File
from gallery.thumbprints import thumbprint
from gallery.writer import Writer
from utils.errors import InputError

SIDE = 64  # pixels of the shorter side that the fake embedding works at


def by_colour(images):
    """Return the square roots of an image's colour histogram: PIL images -> float32 (n, 64), rows of length 1."""
    rows = []
    for image in images:
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.int64) // 64
        rows.append(np.bincount(pixels.reshape(-1, 3) @ [16, 4, 1], minlength=64))
    return unit(np.sqrt(np.array(rows, np.float32).reshape(-1, 64)) + 1e-3)


def by_place(images):
    """Return the colours at 8 x 8 places: PIL images -> float32 (n, 192), rows of length 1."""
    rows = [np.asarray(image.convert("RGB").resize((8, 8)), np.float32).ravel() - 127.5 for image in images]
    return unit(np.array(rows, np.float32).reshape(-1, 192) + 1e-3)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class FakeGallery(Gallery):
    """A gallery of the readable images among `paths`, in memory only."""

    judged = "/no/such/file"

    def __init__(self, name, paths, embed, root):
        self.name, self.root, self.details = name, root, []
        self.paths, self.unreadable, rows, prints, hashes = [], [], [], [], []
        for path in sorted(paths):
            try:
                pixels = decode(path, SIDE)
            except InputError as error:
                self.unreadable.append(Bad(File(path, 1, 0), str(error)))
                continue
            self.paths.append(path)
            rows.append(embed([to_pil(pixels)])[0])
            prints.append(thumbprint(pixels))
            with open(path, "rb") as file:
                hashes.append(np.frombuffer(hashlib.blake2b(file.read(), digest_size=16).digest(), np.uint8))
        self.embeddings, self.prints, self.hashes = np.stack(rows), np.stack(prints), np.stack(hashes)
        self._apart, self.left_out = [], []
        self.files = [File(path, os.path.getsize(path), os.stat(path).st_mtime_ns) for path in self.paths]
        self.about, self.pixels = {"model": name, "dtype": "float32"}, 0
        self.stamp, self.roots = "fake", [root] if root else []

    def contents_of(self, rows):
        return {}

    def noted(self):
        return []

    def thumbnail(self, row):
        return None

    def __len__(self):
        return len(self.paths)

    def kept(self, name, make, rules=1, again=False):
        return make()

    def earlier(self, name, rules=1):
        return {}

    def apart(self):
        return self._apart

    def set_apart(self, rows):
        self._apart.append(sorted(set(rows)))
        return self.marks()[-1].id

    @property
    def place(self):
        return self

    def marks(self, others=()):
        groups = [[gallery.keys[row] for row in group] for gallery in (self, *others) for group in gallery._apart]
        return [
            Mark(hashlib.blake2b(" ".join(keys).encode(), digest_size=8).hexdigest(), [[self.row_of(key) for key in keys]])
            for keys in map(list, dict.fromkeys(map(tuple, groups)))
        ]


def real_gallery(folder, name, paths, embed, root):
    """Write a real gallery of the same images, as embed.py does. Other images that `folder` held are replaced."""
    fake = FakeGallery(name, paths, embed, root)
    dim = fake.embeddings.shape[1]
    writer = Writer(folder, name, dim, "float32")
    rows = writer.plan([File(path, os.path.getsize(path), os.stat(path).st_mtime_ns) for path in fake.paths])
    writer.put(rows, fake.embeddings[rows], fake.prints[rows], fake.hashes[rows])
    about = {"name": name, "root": root, "source": root, "kind": "fake", "net": "none", "dim": dim}
    writer.finish(fake.unreadable, about)
    return Gallery(folder)


class FakeIndex:
    """An index that compares a query with all rows, and knows no neighbours: results are not smoothed, and have no scale."""

    neighbours, scale = None, UNKNOWN

    def __init__(self, embeddings):
        self.embeddings = embeddings

    def search(self, queries, k):
        similarities = queries @ self.embeddings.T.astype(np.float32)
        rows = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return rows, np.take_along_axis(similarities, rows, 1)


def view(name, paths, embed=by_colour, root=None):
    """A GalleryView of image files."""
    gallery = FakeGallery(name, paths, embed, root)
    return GalleryView(gallery, FakeIndex(gallery.embeddings), embed, side=SIDE)
