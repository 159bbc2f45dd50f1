"""Measures `search.py query` with a new photo, from the command to the answer: by the gallery's graph, and by PyTorch.

python scripts/benchmarks/query.py --images ~/photos [--repeats 5] --threads 1

Embeds the photos into a folder that is removed afterwards. The limit is the time that Python, NumPy, Pillow, faiss and ONNX
Runtime take to start and to open the graph.
"""

import os
import subprocess
import sys
import tempfile

from PIL import Image

import bench  # finds the project
from gallery.folder import GalleryFolder, read_json
from utils.files import write_json

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BARE = "import sys, numpy, PIL.Image, faiss, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def run(*command):
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--images", required=True, help="a folder of photos")
    flags.add_argument("--repeats", type=int, default=5)
    args = flags.parse_args()
    bench.set_threads(args.threads)
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    bench.heading("A query from the shell")
    with tempfile.TemporaryDirectory() as folder:
        gallery, photo = os.path.join(folder, "gallery"), os.path.join(folder, "new.jpg")
        Image.effect_mandelbrot((1600, 1200), (-2, -1.2, 1, 1.2), 50).convert("RGB").save(photo)
        run("embed.py", "--images", os.path.abspath(args.images), "--out", gallery)
        run("search.py", "query", gallery, photo)  # makes the index, the neighbours and the graph
        place = GalleryFolder(gallery)
        about = read_json(place.query_about)

        def by_torch():
            write_json(place.query_about, {**about, "graph": None})  # says that there is no graph for this net
            run("search.py", "query", gallery, photo)
            write_json(place.query_about, about)

        ways = {
            "ours: by the graph": lambda: run("search.py", "query", gallery, photo),
            "PyTorch": by_torch,
            "limit": lambda: run("-c", BARE, place.query_graph),
        }
        took = bench.measure_together(ways, args.repeats, warm_up=1)
    bench.table(
        ["", "seconds", "core seconds"], [(name, measured.seconds, measured.core_seconds) for name, measured in took.items()]
    )


if __name__ == "__main__":
    main()
