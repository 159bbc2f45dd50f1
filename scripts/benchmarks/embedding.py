"""Measures embed.py in images a second, from files to rows on the disk, against passes over ready crops by each engine.

python scripts/benchmarks/embedding.py --images FOLDER [--nets EfficientNet-Lite0 ResNet50] [--widths 128 224] [--count 1000]

OpenVINO has a row if it is installed (pip install openvino). Decoding is what no engine saves: reading, hashes, thumbnails.
"""

import copy
import os
import tempfile
import time
from importlib.util import find_spec

import torch

import bench  # finds the project
from closed_form import embedder_of
from gallery.intake import take_in
from gallery.model import Model
from gallery.renew import embedded
from gallery.survey import survey
from gallery.table import File
from gallery.writer import Writer
from models import engine, exported
from utils import device
from utils.onnx_file import open_graph

BATCH = 64


def rows_on_the_disk(model, compute, files, workers, folder):
    """Do the work of embed.py between its first and its last image."""
    writer = Writer(tempfile.mkdtemp(dir=folder), model.digest, model.dim, "float32")
    todo = writer.plan(files)
    for batch, rows in embedded(model, compute, [file.path for file in files], todo, BATCH, workers):
        writer.put(batch.indices, rows, batch.prints, batch.hashes, batch.entries)
    writer.finish([], {"name": "", "root": None})


@torch.inference_mode()
def forward(embedder, crops, times):
    for _ in range(times):
        embedder.pool(crops)


def over(run, crops, times):
    """Run a graph of engine.AT_ONCE images over the crops."""
    for _ in range(times):
        for part in crops.split(engine.AT_ONCE):
            run(part.numpy())


def peers(embedder, width, folder):
    """Return the backbone in ONNX Runtime alone, and in OpenVINO alone if it is installed: name -> function of images."""
    path, threads = os.path.join(folder, "alone.onnx"), torch.get_num_threads()
    example = torch.zeros(engine.AT_ONCE, 3, width, width, dtype=torch.uint8)
    exported.write(engine.Trunk(embedder, []).eval(), example, ["pooled"], path, any_number=False)
    runs = {"ONNX Runtime alone": open_graph(path, threads)}
    if find_spec("openvino"):
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        runs["OpenVINO alone"] = openvino.Core().compile_model(path, "CPU", settings)
    return runs


def compared(net, width, files, repeats):
    """Return the rows of a net's table. All take turns, and the rows begin with PyTorch's bare pass."""
    embedder, compute = embedder_of(net, width).eval(), device.choose("cpu", engine="onnx")
    by_torch = copy.deepcopy(embedder)
    busy = time.process_time()
    engine.use(embedder, compute, len(files))
    print(f"{net}, {width} px: the graph was ready after {time.process_time() - busy:.1f} core seconds\n")
    ours, theirs = (Model(net, "closed_form", {}, 0) for net in (embedder, by_torch))
    crops, times = torch.randint(256, (BATCH, 3, width, width), dtype=torch.uint8), len(files) // BATCH
    cores, paths = os.cpu_count() or 1, [file.path for file in files]
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "PyTorch's bare pass": lambda: forward(by_torch, crops, times),
            "ours": lambda: rows_on_the_disk(ours, compute, files, 0, folder),
            f"ours, {cores} loading processes": lambda: rows_on_the_disk(ours, compute, files, cores, folder),
            "ours, --engine torch": lambda: rows_on_the_disk(theirs, compute, files, 0, folder),
            "decoding alone": lambda: list(take_in(paths, range(len(paths)), embedder.transforms, BATCH)),
        }
        for name, run in peers(by_torch, width, folder).items():
            work[name] = lambda run=run: over(run, crops, times)
        measured = bench.measure_together(work, repeats)
    bare = measured["PyTorch's bare pass"].core_seconds
    return [
        (name, 1000 * m.core_seconds / len(files), bare / m.core_seconds, len(files) / m.seconds)
        for name, m in measured.items()
    ]


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--images", required=True, help="a folder of images")
    flags.add_argument("--nets", nargs="*", default=["EfficientNet-Lite0", "ResNet50"])
    flags.add_argument("--widths", type=int, nargs="+", default=[128, 224])
    flags.add_argument("--count", type=int, default=2048, help="number of images to embed")
    flags.add_argument("--repeats", type=int, default=3)
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Embedding a folder")
    files: list[File] = survey([args.images]).files
    files = files[:: max(1, len(files) // args.count)][: args.count // BATCH * BATCH]
    size = sum(file.size for file in files) / len(files) / 1000
    print(f"{len(files)} images of {size:.0f} kB, decoded and embedded with the closed form (512 numbers) and hashed\n")
    for net in args.nets:
        for width in args.widths:
            rows = compared(net, width, files, args.repeats)
            bench.table([f"{net}, {width} px", "core ms an image", "x PyTorch's bare pass", "images/s"], rows)


if __name__ == "__main__":
    main()
