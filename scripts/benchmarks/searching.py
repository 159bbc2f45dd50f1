"""Times index and queries at growing numbers of embeddings, and the page until it shows its first neighbours.

python scripts/benchmarks/searching.py [--sizes 10000 100000 1000000] [--page 100000]
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

import bench  # finds the project
import models
from gallery import index, smoothing
from gallery.folder import GalleryFolder
from gallery.model import Model
from gallery.store import Gallery
from gallery.table import HASH_BYTES, File
from gallery.thumbprints import SIDE
from gallery.writer import Writer

ROOT = Path(__file__).parents[2]
QUERIES = 200


def searched(size):
    """Return a row of the table: one query at a time, against the product of one query with all embeddings."""
    vectors, _ = bench.embeddings(size, classes=max(2, size // 100), noise=0.05)
    built = bench.measure(lambda: index.build(vectors))
    searcher, queries = built.result, vectors[:QUERIES]

    def one_by_one():
        for row in queries:
            searcher.search(row[None], 10)

    def products():
        for row in queries:
            vectors @ row

    both = bench.measure_together({"ours": one_by_one, "limit": products}, 1, 0)
    ours, limit = (1000 * measured.seconds / QUERIES for measured in both.values())
    about = searcher.about
    return size, about["kind"], built.seconds, built.peak_mb, ours, limit, about.get("recall", 1.0), about.get("probes", "")


def smoothed(size):
    """Return the seconds for a table of neighbours and for its renewal with one new image, and the ms to order results."""
    vectors, _ = bench.embeddings(size, classes=max(2, size // 100), noise=0.05)
    names = np.arange(size, dtype=">u4").view(np.uint8).reshape(-1, 4)
    table = bench.measure(lambda: smoothing.made(vectors))
    before = smoothing.made(vectors[:-1])
    one_new = bench.measure(lambda: smoothing.renewed(vectors, names, before, names[:-1]))
    rows, similarities = index.build(vectors).search(vectors[:QUERIES], smoothing.SHORTLIST + 1)
    searcher = smoothing.SmoothedRows(vectors, table.result)

    def one_by_one():
        for query, found, values in zip(vectors, rows[:, 1:], similarities[:, 1:]):
            searcher.best_first(query, found, values, slice(60))

    return size, table.seconds, one_new.seconds, 1000 * bench.measure(one_by_one).seconds / QUERIES


def model_in(folder):
    """Return a net with random weights, saved for the gallery that is made in `folder`."""
    model = Model(models.create("EfficientNet-Lite0", 512, False, width=128, origin_width=144).eval(), "embedding", {}, 0)
    model.save(GalleryFolder(folder).making.model)
    return model


def gallery_of(folder, size):
    """Make a gallery of synthetic embeddings. Its images are names only."""
    model = model_in(folder)
    writer = Writer(folder, model.digest, model.dim, "float32")
    vectors, _ = bench.embeddings(size, classes=max(2, size // 100), noise=0.05)
    rows = writer.plan([File(f"/made/{number:07}.jpg", 1, 1) for number in range(size)])
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 256, (size, SIDE, SIDE), np.uint8)
    writer.put(rows, vectors, prints, rng.integers(0, 256, (size, HASH_BYTES), np.uint8))
    about = {"name": "made", "root": None, "source": "made", "kind": model.kind, "net": "EfficientNet-Lite0", "dim": 512}
    writer.finish([], about)
    return Gallery(folder)


def page(size):
    """Return the size, the seconds from the command to the address and to the first answer, and the ms of later answers."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = gallery_of(folder, size)
        index.save(index.build(gallery.embeddings), folder, gallery.about["model"], gallery.stamp)
        smoothing.neighbours_of(gallery)
        began = time.perf_counter()
        command = [sys.executable, ROOT / "search.py", "serve", folder, "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            url = next(line.split()[4] for line in server.stderr if line.startswith("the page is at"))
            shown = time.perf_counter() - began
            times = []
            for row in range(100):
                start = time.perf_counter()
                with urllib.request.urlopen(f"{url}api/0/search?image={gallery.keys[row]}&count=60") as answer:
                    answer.read()
                times.append(time.perf_counter() - (began if row == 0 else start))
        finally:
            server.terminate()
            server.wait()
    return size, shown, times[0], 1000 * float(np.median(times[1:])), 1000 * max(times[1:])


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    flags.add_argument("--page", type=int, nargs="*", default=[100_000])
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Search")
    print("Synthetic embeddings of 512 numbers, in classes of about 100. One query at a time, 10 neighbours.\n")
    bench.table(
        ["embeddings", "index", "build, s", "build, MB", "query, ms", "limit: one product, ms", "recall@10", "probes"],
        [searched(size) for size in args.sizes],
    )
    print("Smoothing over neighbours.\n")
    bench.table(
        ["embeddings", "neighbours of all, s", "with one new image, s", "order of a query's results, ms"],
        [smoothed(size) for size in args.sizes],
    )
    print("`search.py serve` on synthetic embeddings: 60 neighbours after a click on an image.\n")
    bench.table(
        ["images", "start to address, s", "start to first neighbours, s", "a later answer, ms", "the slowest of 99, ms"],
        [page(size) for size in args.page],
    )


if __name__ == "__main__":
    main()
