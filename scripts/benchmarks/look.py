"""Measures the look of shared neighbours: time and memory from the descriptions of all images to their pairs.

python scripts/benchmarks/look.py [--n 100000 1000000] [--searched 20000] [--folder DIR] --threads 1

The descriptions are made up: as many numbers as those of EfficientNet-Lite0, in planted classes of 30 images. A look keeps
them in a memory-mapped file, here in DIR: 9.3 GB for a million. Pages of that file do not count as memory, because the
system can take them back. The limit is one matrix product: of all descriptions with the matrix that places them.

--searched N: only N images are searched with, and the seconds of the whole search are extrapolated. The other images get
made neighbours: two thirds of their own class, the others of the classes beside it. Where the inverted file does not pay,
all images are compared with all nevertheless: a million take hours.
"""

import os
import tempfile
import time
from collections import defaultdict

import numpy as np
import torch

import bench  # finds the project
import models
from data.lists import ImageList
from models import methods
from models.closed_form import REDUCED, ClosedForm
from models.methods import shared_neighbours
from utils import log
from utils.arrays import row_blocks
from utils.clustering import reciprocal
from utils.clustering.nearest import InvertedFile

SIZE = 30  # images of a class
HIDDEN, SPREAD, NOISE = 128, 0.06, 0.001  # numbers behind a description; deviations of each of them, and of its own numbers


def descriptions(n, columns, folder):
    """Return made descriptions, float32 (n, columns), in a memory-mapped file, and their classes, int64 (n,)."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(os.path.join(folder, f"{n}.npy"), "w+", np.float32, (n, columns))
    labels = rng.permutation(np.arange(n) // SIZE)
    centres = rng.standard_normal((labels.max() + 1, HIDDEN), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    mixing = rng.standard_normal((HIDDEN, columns), dtype=np.float32) / np.sqrt(columns)
    for start in range(0, n, 2**14):
        hidden = centres[labels[start : start + 2**14]]
        hidden += SPREAD * rng.standard_normal(hidden.shape, dtype=np.float32)
        block = hidden @ mixing
        block += NOISE * rng.standard_normal(block.shape, dtype=np.float32)
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows, labels


def made_neighbours(labels, k, rng):
    """Return made lists of neighbours, int32 (n, k): an image itself, others of its class, then of the classes beside it."""
    members = np.argsort(labels, kind="stable").astype(np.int32).reshape(-1, SIZE)
    own = members[labels]
    own[own == np.arange(len(labels))[:, None]] = own[:, 0]  # each row has one: the image, which comes first below
    beside = (labels[:, None] + rng.integers(1, 6, (len(labels), k - 2 * k // 3))) % len(members)
    lists = np.hstack([own[:, : 2 * k // 3], members[beside, rng.integers(SIZE, size=beside.shape)]])
    lists[:, 0] = np.arange(len(labels))
    return lists


def searched_in_part(count, labels, extrapolated):
    """Return a function like `nearest`, which searches with `count` images only. Appends its extrapolated core seconds."""

    def nearest(rows, k, device):
        began = time.process_time()
        file = InvertedFile(torch.from_numpy(rows))
        built = time.process_time() - began
        whole, file.order = len(file.order), file.order[:count]  # images of the same cells, as a whole search takes them
        began = time.process_time()
        neighbours = file.nearest(k)
        extrapolated.append(built + (time.process_time() - began) * whole / count)
        lists = made_neighbours(labels, k, np.random.default_rng(0))
        lists[file.order.numpy()] = neighbours[file.order.numpy()]
        return lists

    return nearest


def timed(module, names, seconds):
    """Make functions of a module add their core seconds to a dict."""
    for name in names:
        function = getattr(module, name)

        def timing(*args, function=function, name=name):
            began = time.process_time()
            result = function(*args)
            seconds[name] += time.process_time() - began
            return result

        setattr(module, name, timing)


def measured(n, searched, folder, seconds):
    """Yield the lines of the table for n images. searched: as the flag. seconds: where `timed` functions add theirs."""
    embedder = models.create("EfficientNet-Lite0", pretrained=False, width=128)
    images = ImageList([f"{i}.jpg" for i in range(n)], None, "made")
    method = methods.create("shared_neighbours", embedder, images, methods.default_settings("shared_neighbours"))
    layers = {"middle": (REDUCED, REDUCED), "last": (REDUCED, REDUCED)}
    method.result.closed_form = form = ClosedForm(embedder.feature_dim, layers, embedder.dim)
    rows, labels = descriptions(n, sum(form.sizes), folder)
    extrapolated = []
    if searched:
        reciprocal.nearest = searched_in_part(searched, labels, extrapolated)
    seconds.clear()
    look = bench.measure(lambda: method.prepare(rows, np.arange(n)))
    neighbours, positive = method.neighbours.numpy(), method.distance.numpy() < method.settings.near
    right = labels[neighbours] == labels[:, None]
    matrix = np.ones((sum(form.sizes), shared_neighbours.PLACES), np.float32)
    limit = bench.measure(lambda: sum(float((block @ matrix)[0, 0]) for block in row_blocks(rows)))
    what = f"{positive.sum() / n:.1f} pairs an image, {right[positive].mean():.2%} of one class"
    yield f"{n:,}", "the look", look.core_seconds, look.peak_mb, what
    yield from ((f"{n:,}", f"of it: {name}", took, "", "") for name, took in seconds.items())
    yield from ((f"{n:,}", "the whole search, extrapolated", took, "", "") for took in extrapolated)
    yield f"{n:,}", "limit: one product", limit.core_seconds, limit.peak_mb, ""


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--n", type=int, nargs="+", default=[100_000, 1_000_000])
    flags.add_argument("--searched", type=int, default=0, help="images to search with; 0: all")
    flags.add_argument("--folder", default=None, help="for the temporary file")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("The look of shared neighbours, from the descriptions of all images to their pairs")
    log.listen()
    seconds = defaultdict(float)
    timed(reciprocal, ["nearest", "encode", "jaccard", "nearest_first"], seconds)
    timed(shared_neighbours.SharedNeighbours, ["place", "start_heads"], seconds)
    lines = []
    for n in args.n:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            lines += measured(n - n % SIZE, args.searched, folder, seconds)
    bench.table(["images", "", "core seconds", "memory above its start, MB", ""], lines)


if __name__ == "__main__":
    main()
