"""Measures the memory of a training step, and how much memory and time three ways of saving it take: making large maps twice
(as train.py does), `--micro_batch` and `--train_from`.

    python scripts/benchmarks/memory.py [--net EfficientNet-Lite0] [--width 128]

Each row has its own process, because a process does not give memory back. BatchNorm is frozen, as by default.
"""

import os
import subprocess
import sys
import time

import torch

import bench  # finds the project
import models
from bench import heading, table
from data.views import Batch
from models import methods
from models.cut import below, train_from, trained_from
from step import Images
from utils import device
from utils.distributed import Group
from utils.grad_cache import ForwardBackward

METRIC, ROTATED = 80, 64  # the paper's views of a step


def megabytes(name):
    """Return this process's VmRSS, or VmHWM (the highest VmRSS so far), in MB of 10^6 bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def measure(net, width, micro_batch, stage, steps=4):
    """Print MB before, MB that autograd keeps between forward and backward pass, highest MB, and seconds of the last step.

    stage: as in `models.cut.train_from`; the activations below it are given. "kept": no large maps are made twice.
    """
    row = torch.arange(METRIC + ROTATED)
    images = torch.randint(256, (len(row), 3, width, width), dtype=torch.uint8)
    batch = Batch(images, row, row // 5, torch.where(row < METRIC, -1, row % 4), row < METRIC)
    compute = device.choose("cpu")
    embedder = models.create(net, pretrained=False, freeze_bn=True, width=width)
    if stage != "kept":
        train_from(embedder, stage)
    method = compute.place(methods.create("udml_ss", embedder, Images(), methods.default_settings("udml_ss")))
    if trained_from(embedder) is not None:
        with torch.no_grad():
            batch = batch._replace(images=torch.cat([below(embedder, part).half() for part in images.split(8)]))
    passes = ForwardBackward(method, compute, Group(), micro_batch)
    optimiser = torch.optim.Adam(method.param_groups(), lr=1e-5)
    before, kept = megabytes("VmRSS"), {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    for step in range(steps):
        began = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(note if not step else lambda t: t, lambda t: t):
            out = passes.forward(batch)
        optimiser.zero_grad(set_to_none=True)
        passes.backward(method.loss(out, batch)[0])
        optimiser.step()
    print(before, 0 if micro_batch else sum(kept.values()) / 1e6, megabytes("VmHWM"), time.perf_counter() - began)


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--net", default="EfficientNet-Lite0")
    flags.add_argument("--width", type=int, default=128)
    flags.add_argument("--micro_batches", type=int, nargs="*", default=[72, 48, 16])
    flags.add_argument("--measure", nargs=2, default=None, help="measure one row, MICRO_BATCH STAGE, in this process")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    if args.measure is not None:
        return measure(args.net, args.width, int(args.measure[0]), args.measure[1])
    heading(f"Memory of a step, {args.net}, {METRIC} + {ROTATED} views of {args.width} px")
    ways = {
        "all maps kept": (0, "kept"),
        "large maps made twice": (0, "all"),
        **{f"--micro_batch {number}": (number, "all") for number in args.micro_batches},
        "--train_from middle, activations known": (0, "middle"),
        "--train_from top, activations known": (0, "top"),
    }
    rows = []
    for name, (micro_batch, stage) in ways.items():
        command = [sys.executable, __file__, "--net", args.net, "--width", str(args.width)]
        if args.threads:
            command += ["--threads", str(args.threads)]
        command += ["--measure", str(micro_batch), stage]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        before, kept, most, seconds = map(float, done.stdout.split())
        rows.append((name, before, kept or "", most, seconds))
    table(["", "before, MB", "kept for the backward pass, MB", "highest, MB", "step, s"], rows)


if __name__ == "__main__":
    main()
