"""Measures queries by an exported net: ONNX Runtime against PyTorch, for one image and a batch, and the limit.

python scripts/benchmarks/export.py [--nets EfficientNet-Lite0 ResNet50] [--width 224] [--batches 1 32] --threads 1

The limit is the time of the net's multiplications at the speed of a large matrix product.
"""

import os
import tempfile

import torch
from torch.utils.flop_counter import FlopCounterMode

import bench  # finds the project
from closed_form import embedder_of
from models import exported
from step import machine_flops
from utils import device
from utils.onnx_file import open_graph


@torch.inference_mode()
def embed(embedder, images):
    return embedder(images)


@torch.inference_mode()
def forward(embedder, normalised):
    return embedder.features(normalised)


def work_of(embedder, width):
    """Return the floating point operations of the backbone for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedder.features(torch.zeros(1, 3, width, width))
    return counter.get_total_flops()


def compared(net, args, peak):
    """Return the rows for one net with the closed form. The three passes take turns, so that a slow minute meets all."""
    embedder, rows = embedder_of(net, args.width), []
    work = work_of(embedder, args.width)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        exported.write_graph(embedder, path)
        run = open_graph(path, torch.get_num_threads())
    for batch in args.batches:
        images = torch.randint(256, (batch, 3, args.width, args.width), dtype=torch.uint8)
        pixels, normalised = images.numpy(), embedder.normalise(images, embedder.layout)
        took = bench.measure_together(
            {
                "ours": lambda: run(pixels),
                "PyTorch": lambda: embed(embedder, images),
                "forward": lambda: forward(embedder, normalised),
            },
            args.repeats * max(1, 32 // batch),
            warm_up=2,
        )
        ours, torchs, bare = (1000 * measured.seconds for measured in took.values())
        limit = 1000 * batch * work / peak
        rows.append((net, batch, ours, torchs, bare, limit, torchs / ours, ours / limit))
    return rows


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--nets", nargs="+", default=["EfficientNet-Lite0", "ResNet50"])
    flags.add_argument("--width", type=int, default=224)
    flags.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="images in one call")
    flags.add_argument("--repeats", type=int, default=5, help="repeats of a batch of 32; smaller batches repeat more often")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Queries by an exported net")
    peak = max(machine_flops(device.choose("cpu")))
    print(f"From crops of {args.width} px to the closed form (512 numbers), in ms. Products: {peak / 1e9:,.0f} GFLOP/s.\n")
    bench.table(
        ["net", "images", "ours: ONNX", "PyTorch", "bare forward pass", "limit", "PyTorch / ours", "ours / limit"],
        [row for net in args.nets for row in compared(net, args, peak)],
    )


if __name__ == "__main__":
    main()
