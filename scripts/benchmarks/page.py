"""Times the page with many images in a headless Chromium, and measures the memory of the server and of the browser's tab.

python scripts/benchmarks/page.py [--sizes 10000 100000] [--delay 0 20]

The images are synthetic: embeddings, thumbprints, thumbnails; their files are empty. --delay: milliseconds that a slow disk
takes for each call that opens a file, or looks at one. It needs tests/requirements.txt and a Chromium.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import bench  # finds the project
from data.pixels import Facts
from gallery import derived
from gallery.contents import Contents, Entry
from gallery.folder import GalleryFolder
from gallery.search import open_gallery
from gallery.table import HASH_BYTES, Content, File
from gallery.thumbprints import SIDE
from gallery.writer import Writer
from searching import model_in

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
COPIES = 0.02  # share of the images that are copies of another one
CLICKS = 30
SLOW = """
import os, runpy, sqlite3, sys, time
delay, folder = float(sys.argv[1]) / 1000, sys.argv[2]

def slow(function):
    def call(path, *args, **more):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folder):
            time.sleep(delay)
        return function(path, *args, **more)
    return call

for owner, name in ((os, "listdir"), (os, "stat"), (os, "lstat"), (os, "open"), (sqlite3, "connect")):
    setattr(owner, name, slow(getattr(owner, name)))
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def thumbnails(count=200):
    """Return JPEGs of 256 x 256 pixels and about 10 kB, as of photos."""
    made = []
    for seed in range(count):
        colours = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(colours).resize((256, 256), Image.Resampling.BICUBIC).save(file, "JPEG", quality=75)
        made.append(file.getvalue())
    return made


def gallery_of(folder, size):
    """Make a gallery of synthetic images, with all results that the page shows, as after the first visit."""
    root, folder = os.path.join(folder, "photos"), os.path.join(folder, "gallery")
    model = model_in(folder)
    writer = Writer(folder, model.digest, model.dim, "float32")
    vectors, labels = bench.embeddings(size, classes=max(2, size // 100), noise=0.05)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (size, HASH_BYTES), np.uint8)
    prints = rng.integers(0, 256, (size, SIDE, SIDE), np.uint8)
    copies = rng.choice(size, int(COPIES * size), replace=False)
    hashes[copies], vectors[copies], prints[copies] = (part[copies - 1] for part in (hashes, vectors, prints))
    files = [File(f"{root}/{number // 500:04}/{number:07}.jpg", 0, 1) for number in range(size)]
    for file in files:
        os.makedirs(os.path.dirname(file.path), exist_ok=True)
        Path(file.path).touch()
    rows = writer.plan(files)
    writer.put(rows, vectors, prints, hashes)
    small = thumbnails()
    facts = Content(Facts(4000, 3000, "JPEG", None, None, 1, None), ())
    entries = (Entry(digest.tobytes(), facts, small[row % len(small)]) for row, digest in enumerate(hashes))
    Contents(GalleryFolder(folder).contents).put(entries)
    about = {"name": "made", "root": root, "source": "made", "kind": model.kind, "net": "EfficientNet-Lite0", "dim": 512}
    writer.finish([], about)
    gallery, index = open_gallery(folder)
    groups = derived.packed([np.flatnonzero(labels == label) for label in np.unique(labels)])
    gallery.kept("page-clusters", lambda: groups, derived.GROUP_RULES)  # making them is not what is measured
    derived.named_groups(gallery)
    derived.found_duplicates(gallery, index, "identical", 0, False)
    return gallery


def resident(pid):
    """Return the resident memory of a process, in MB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmRSS"))


LOADED = "[...document.querySelectorAll('main .tile img, main .card img')].some((i) => i.complete && i.naturalWidth)"
ANSWERS = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/search?')).map((e) => e.duration)"


def shown_after(page, action):
    """Return the milliseconds from an action to the moment when a first picture of the new view is loaded."""
    began = time.perf_counter()
    action()
    while not page.evaluate(LOADED):
        page.wait_for_timeout(5)
    return 1000 * (time.perf_counter() - began)


def visit(folder, gallery, delay):
    """Return the numbers of a visit to the served gallery."""
    from browser import browser

    program = [sys.executable, "-c", SLOW, str(delay), folder, str(ROOT / "search.py")]
    server = subprocess.Popen(
        [*program, "serve", f"{folder}/gallery", "--port", "0"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        url = next(line.split()[4] for line in server.stderr if line.startswith("the page is at"))
        with browser() as running:
            page = running.new_page(viewport={"width": 1280, "height": 800})

            def go(view):
                page.evaluate("(view) => { document.querySelector('main').replaceChildren(); location.hash = view; }", view)

            first = shown_after(page, lambda: page.goto(url, wait_until="commit"))
            keys = gallery.keys[:: len(gallery) // CLICKS][:CLICKS]
            clicks = [shown_after(page, lambda key=key: go(f"#/search?image={key}")) for key in keys]
            answers = page.evaluate(ANSWERS)
            duplicates = shown_after(page, lambda: go("#/duplicates"))
            tools = page.context.new_cdp_session(page)
            tools.send("Performance.enable")
            metrics = {entry["name"]: entry["value"] for entry in tools.send("Performance.getMetrics")["metrics"]}
            times = first, float(np.median(answers)), max(answers), float(np.median(clicks)), duplicates
            return *times, resident(server.pid), metrics["JSHeapUsedSize"] / 1e6, metrics["Nodes"]
    finally:
        server.terminate()
        server.wait()


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    flags.add_argument("--delay", type=float, nargs="*", default=[0, 20])
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("The page with many images")
    rows = []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            gallery = gallery_of(folder, size)
            rows += [(size, delay, *visit(folder, gallery, delay)) for delay in args.delay]
    bench.table(
        [
            "images",
            "disk's delay, ms",
            "first picture, ms",
            "look-alikes: answer, ms",
            "the slowest, ms",
            "a click to the first picture, ms",
            "duplicates, ms",
            "server, MB",
            "page's objects, MB",
            "nodes",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
