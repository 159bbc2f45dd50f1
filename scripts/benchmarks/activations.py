"""Counts the activations that 200 steps of shared neighbours over a million images make and keep, and the bytes and seconds
of their checkpoints.

    python scripts/benchmarks/activations.py [--n 1000000] [--epochs 20] [--folder DIR]      # two minutes, 3 GB of disk

All images of the list are one made JPEG. Neighbours are drawn at random, because a look at a million images takes hours.
Only the frozen stages run. DIR is the folder for the temporary files.
"""

import os
import tempfile
import time

import numpy as np
import torch

import bench  # finds the project
import models
from bench import heading, measure, table
from data.lists import ImageList, Paths
from data.transforms import Transforms
from data.views import Loading
from input import make_photos
from models import cut, methods
from models.activations import Activations
from utils import beside, checkpoint, device
from utils.rehearsal import new_views
from utils.run_state import Position, capture

PAIRS, POSITIVES = 60, 20  # neighbours of an image, and positives among them, about as many as on birds


def made_method(embedder, images):
    """Return the method after a look that found random neighbours."""
    settings = methods.default_settings("shared_neighbours")
    method = methods.create("shared_neighbours", embedder, images, settings)
    rng = np.random.default_rng(0)
    method.neighbours[:, :PAIRS] = torch.from_numpy(rng.integers(len(images), size=(len(images), PAIRS), dtype=np.int32))
    method.distance[:, :PAIRS] = torch.linspace(settings.near - 0.02 * POSITIVES, settings.far, PAIRS)
    return method, settings


def on_disk(folder):
    """Return the bytes that open files without a name take in a folder."""
    links = (
        (f"/proc/self/fd/{handle}", os.path.realpath(f"/proc/self/fd/{handle}")) for handle in os.listdir("/proc/self/fd")
    )
    return sum(os.stat(link).st_blocks * 512 for link, target in links if target.startswith(folder))


def activations(embedder, method, settings, loading, images, folder, epochs):
    """Make the activations of each step, and print a table."""
    inputs = Activations(loading.load(images), embedder, loading.compute, folder, settings.views, settings.seed)
    each, drawn, drawing, steps, different = inputs.bytes_of(1), 0, 0.0, 0, set()
    began = time.process_time()
    for epoch in range(1, epochs + 1):
        start = time.process_time()
        draws = list(method.draws(epoch))
        drawing += time.process_time() - start
        for draw in (draw for step in draws for draw in step):
            different.add(inputs._place(draw))
            drawn += 1
        for batch, _ in inputs.steps(draws):
            steps += len(batch.images) > 0
    seconds = time.process_time() - began
    inputs._kept.flush()
    forecast = inputs.bytes_of(new_views([drawn], len(images) * settings.views))
    print(f"{steps} steps of {drawn / steps:.0f} views, {len(images):,} images with {settings.views} random crops each\n")
    gb = lambda views: views * each / 1e9
    rows = [
        ("views that the steps drew", drawn, gb(drawn)),
        ("different views among them", len(different), gb(len(different))),
        ("activations that were made and kept", inputs._used, gb(inputs._used)),
        ("blocks of the file on the disk", "", on_disk(folder) / 1e9),
        ("forecast of a dry run", "", forecast / 1e9),
        ("all views", len(images) * settings.views, gb(len(images) * settings.views)),
    ]
    table(["", "views", "GB"], rows)
    print(f"{seconds:.0f} core seconds, of which {drawing:.0f} went into the draws\n", flush=True)


def checkpoints(method, settings, folder):
    """Write and read checkpoints of the method, and print a table. It has no state of an optimiser."""
    path = os.path.join(folder, "ckp_ep1.pth.tar")

    def state(parted):
        scaler = device.choose("cpu").scaler()
        content = capture(Position(1, 0, 1), method, method.trained(), None, scaler, [], "", settings)
        return {**content, "look": {name: content["method"].pop(name) for name in method.of_look}} if parted else content

    def row(name, work):
        took = measure(work)
        sizes = os.path.getsize(path) / 1e6, sum(map(os.path.getsize, beside.all_in(folder))) / 1e6
        return name, took.seconds, took.core_seconds, took.peak_mb, *sizes

    rows = [
        row("all in one file: write", lambda: checkpoint.save(path, state(False))),
        row("all in one file: read", lambda: checkpoint.load(path)),
        row("first write", lambda: checkpoint.save(path, state(True))),
        row("later write", lambda: checkpoint.save(path, state(True))),
        row("read the net", lambda: checkpoint.load(path)),
        row("read to resume", lambda: checkpoint.load_to_resume(path)),
    ]
    table(["a checkpoint", "s", "core seconds", "MB of memory", "MB of its file", "MB beside"], rows)


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--n", type=int, default=1_000_000, help="number of images")
    flags.add_argument("--epochs", type=int, default=20, help="of ten steps")
    flags.add_argument("--net", default="EfficientNet-Lite0")
    flags.add_argument("--width", type=int, default=128)
    flags.add_argument("--folder", default=None, help="for temporary files; default: the system's")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    heading(f"Kept activations and checkpoints of {args.n:,} images")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_photos(os.path.join(folder, "one"), 1, (160, 144), 85)
        images = ImageList(Paths([os.path.join(folder, "one", "0.jpg")] * args.n), None, folder)
        embedder = models.create(
            args.net, pretrained=False, freeze_bn=True, width=args.width, origin_width=args.width * 9 // 8
        )
        cut.train_from(embedder, "middle")
        method, settings = made_method(embedder, images)
        loading = Loading(Transforms(args.width, args.width * 9 // 8), settings.batch_size, 0, device.choose("cpu"))
        activations(embedder, method, settings, loading, images, os.path.realpath(folder), args.epochs)
        checkpoints(method, settings, folder)


if __name__ == "__main__":
    main()
