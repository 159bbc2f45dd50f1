"""Times a training step: ours, one forward pass for all views, the original's two; memory layouts, torch.compile, the limit.

    python scripts/benchmarks/step.py            # small batches, about a minute
    python scripts/benchmarks/step.py --full [--compile ResNet18 EfficientNet-Lite0]    # the paper's, 10 minutes

The images are random and in memory from the start, so no decoding is timed. BatchNorm is frozen, as by default.
"""

import time
from statistics import median

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

import bench  # finds the project
import models
from bench import measure_together, table
from data.views import Batch
from models import methods
from utils import device
from utils.distributed import Group
from utils.grad_cache import ForwardBackward
from utils.timing import TimeByPart

WIDTHS = {"ResNet18": 128, "Inception": 227, "EfficientNet-Lite0": 128}
FULL = {"batch": 80, "rotations": 16}


class Images:
    """A stand-in for a method's images, which only has their number."""

    labels, source = None, ""

    def __len__(self):
        return 1000


class Step:
    """A training step as in train.py, on the same batch each time.

    schedule: "ours"; "one", one backbone call; "two", the original's two calls, one for metric and one for rotated views.
    """

    def __init__(self, net, args, compute, schedule="ours", compiled=False):
        torch.manual_seed(0)
        rows, width, self.compute = args.batch + 4 * args.rotations, WIDTHS[net], compute
        row = torch.arange(rows)
        metric = row < args.batch
        self.batch = Batch(
            torch.randint(256, (rows, 3, width, width), dtype=torch.uint8),
            row,
            row // 5,
            torch.where(metric, -1, (row - args.batch) % 4),
            metric,
        )
        embedder = models.create(net, pretrained=False, freeze_bn=True)
        self.method = compute.place(methods.create("udml_ss", embedder, Images(), methods.default_settings("udml_ss")))
        backbone = embedder.features
        if compiled:
            embedder.features = torch.compile(backbone)
        sizes = [args.batch, 4 * args.rotations] if schedule == "two" else rows
        if schedule != "ours":
            embedder.pool = lambda images: torch.cat(
                [backbone(embedder.normalise(views, embedder.layout)).flatten(1).float() for views in images.split(sizes)]
            )
        self.passes = ForwardBackward(self.method, compute, Group())
        self.optimiser = torch.optim.Adam(self.method.param_groups(), lr=1e-5, weight_decay=5e-4)
        self.calls = []

    def __call__(self):
        """Take the step, and note its seconds by part in `calls`. The passes include normalising and the heads."""
        clock = TimeByPart()
        with clock("forward"):
            out = self.passes.forward(self.batch)
            self.compute.synchronise()
        with clock("losses"):
            self.optimiser.zero_grad(set_to_none=True)
            loss, _ = self.method.loss(out, self.batch)
            self.compute.synchronise()
        with clock("backward"):
            self.passes.backward(loss)
            self.compute.synchronise()
        with clock("optimiser"):
            self.optimiser.step()
            self.compute.synchronise()
        self.calls.append(clock.seconds)

    def parts(self, repeats):
        """Return the median seconds of each part in the last `repeats` calls."""
        return {name: median(call[name] for call in self.calls[-repeats:]) for name in self.calls[-1]}

    def flops(self):
        """Return the floating point operations of both passes. A forward pass of two images is counted; a backward pass has
        twice as many. (torch's counter takes depthwise convolutions for full ones in the backward pass.)"""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.method.embedder.pool(self.batch.images[:2])
        return 3 * counter.get_total_flops() * len(self.batch.images) / 2


def machine_flops(compute, n=2048, channels=256, side=16, images=64):
    """Return the floating point operations a second, in the run's precision, of a matrix product and a 3 x 3 convolution.

    The two come from different libraries, and either can be slower.
    """
    a = torch.randn(n, n, device=compute.device, dtype=compute.amp)
    x = torch.randn(images, channels, side, side, device=compute.device, dtype=compute.amp)
    x, kernel = (t.to(memory_format=torch.channels_last) for t in (x, x[:1, :, :3, :3].repeat(channels, 1, 1, 1)))

    def timed(function):
        return lambda: (function(), compute.synchronise())

    took = measure_together(
        {"product": timed(lambda: a @ a), "convolution": timed(lambda: conv2d(x, kernel, padding=1))}, repeats=9, warm_up=2
    )
    return 2 * n**3 / took["product"].seconds, 2 * 9 * x.numel() * channels / took["convolution"].seconds


def steps_of(net, args):
    """Return the steps to compare, by (layout, eager or compiled, schedule), and the time of the first compiled steps."""
    steps, first_steps = {}, {}
    for layout, channels_last in (("contiguous", False), ("channels_last", True)):
        compute = device.choose(args.device, channels_last=channels_last)
        for schedule in ("ours", "one", "two"):
            steps[layout, "eager", schedule] = Step(net, args, compute, schedule)
        if net in args.compile:
            step = Step(net, args, compute, compiled=True)
            began = time.perf_counter()
            try:
                step()
            except Exception as error:  # no C++ compiler, no headers, an operator it does not know, ...
                first_steps[layout, "compiled"] = f"not available: {' '.join(str(error).split())[:80]}"
            else:
                first_steps[layout, "compiled"] = f"{time.perf_counter() - began:.0f} s"
                steps[layout, "compiled", "ours"] = step
    return steps, first_steps


def cells_of(layout, how, steps, measured, repeats, limit):
    """Return the cells of a row between its first two, layout and eager or compiled, and its last, the first step."""
    if (layout, how, "ours") not in steps:
        return [""] * 9
    keys = [(layout, how, schedule) for schedule in ("ours", "one", "two")]
    ours, one, two = (1e3 * measured[key].seconds if key in steps else "" for key in keys)
    parts = steps[keys[0]].parts(repeats)
    passes = parts["forward"] + parts["backward"]
    times = [1e3 * passes, 1e3 * parts["losses"], 1e3 * parts["optimiser"]]
    outside = f"{1 - passes / sum(parts.values()):.1%}"
    return [ours, one, two, ours / two if two else "", *times, outside, f"{ours / 1e3 / limit:.2f}"]


def compare(net, args, peak):
    """Print the table of one net."""
    steps, first_steps = steps_of(net, args)
    limit = next(iter(steps.values())).flops() / peak
    measured = measure_together(steps, args.repeats, warm_up=1)
    print(
        f"### {net}, {args.batch} + 4 x {args.rotations} views of {WIDTHS[net]} px\n\n"
        f"Limit: {limit * peak / 1e9:,.0f} GFLOP of forward and backward pass at {peak / 1e9:,.0f} GFLOP/s, "
        f"{1e3 * limit:,.0f} ms.\n"
    )
    keys = dict.fromkeys([key[:2] for key in steps] + list(first_steps))
    rows = [(*key, *cells_of(*key, steps, measured, args.repeats, limit), first_steps.get(key, "")) for key in keys]
    headings = ["layout", "", "ours, ms", "one forward, ms", "two forwards, ms", "ours / two", "forward/backward, ms"]
    table([*headings, "losses, ms", "optimiser, ms", "outside", "x limit", "first step"], rows)


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--nets", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    flags.add_argument("--batch", type=int, default=20, help="number of metric views")
    flags.add_argument("--rotations", type=int, default=4, help="images that also come in four rotations")
    flags.add_argument("--full", action="store_true", help=f"the paper's sizes: {FULL}")
    flags.add_argument(
        "--compile",
        nargs="+",
        default=[],
        choices=list(WIDTHS),
        metavar="NET",
        help="nets to try with torch.compile too; for Inception it takes more than four minutes to start",
    )
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--repeats", type=int, default=3)
    args = flags.parse_args()
    if args.full:
        vars(args).update(FULL)
    bench.set_threads(args.threads)
    bench.heading("The training step")
    print("Goals: faster than the original's two forward passes; under 5 % of the step outside the network.\n")
    product, convolution = machine_flops(device.choose(args.device))
    print(
        f"The machine: matrix product {product / 1e9:,.0f} GFLOP/s, 3 x 3 convolution {convolution / 1e9:,.0f} GFLOP/s; "
        "the faster one sets the limit.\n"
    )
    peak = max(product, convolution)
    for net in args.nets:
        compare(net, args, peak)


if __name__ == "__main__":
    main()
