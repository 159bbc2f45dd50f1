"""Measures embed.py in images a second, from files to rows on the disk, against a forward pass over ready crops.

python scripts/benchmarks/embedding.py --images FOLDER [--nets EfficientNet-Lite0 ResNet50] [--widths 128 224] [--count 1000]
"""

import os
import tempfile

import torch

import bench  # finds the project
from closed_form import embedder_of
from gallery.model import Model
from gallery.renew import embedded
from gallery.survey import survey
from gallery.table import File
from gallery.writer import Writer
from utils import device

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


def compared(net, width, files, repeats):
    """Return a row of the table. Ours and the limit take turns."""
    embedder, compute = embedder_of(net, width), device.choose("cpu")
    model = Model(embedder, "closed_form", {}, 0)
    crops = torch.randint(256, (BATCH, 3, width, width), dtype=torch.uint8)
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        both = bench.measure_together(
            {
                "ours": lambda: rows_on_the_disk(model, compute, files, cores, folder),
                "one process": lambda: rows_on_the_disk(model, compute, files, 0, folder),
                "limit": lambda: forward(embedder, crops, len(files) // BATCH),
            },
            repeats,
        )
    ours, alone, limit = (len(files) / measured.seconds for measured in both.values())
    return net, width, ours, alone, limit, ours / limit


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
    bench.table(
        ["net", "px", "ours, images/s", "no loading processes", "limit: bare forward pass", "ours / limit"],
        [compared(net, width, files, args.repeats) for net in args.nets for width in args.widths],
    )


if __name__ == "__main__":
    main()
