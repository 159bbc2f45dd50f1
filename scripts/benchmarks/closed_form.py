"""Measures the closed form: its time beyond the backbone's forward pass, its covariance, and its solvers.

python scripts/benchmarks/closed_form.py [--nets EfficientNet-Lite0 ResNet50] [--widths 128 224] [--rows 100000]
"""

import torch

import bench  # finds the project
import models
from models.closed_form import REDUCED, ClosedForm, Moments
from models.second_order import matrix_root
from models.taps import middle_and_last, stages
from utils import device

BATCH, DIM = 100, 512


def embedder_of(net, width):
    """Return a frozen net with random weights and a random closed form. Their values do not affect the time."""
    torch.manual_seed(0)
    embedder = models.create(net, DIM, False, width=width, origin_width=width * 9 // 8).eval()
    sizes = stages(embedder.features, torch.zeros(1, 3, width, width))
    layers = {name: (sizes[name][1], REDUCED) for name in middle_and_last(sizes)}
    embedder.closed_form = ClosedForm(embedder.feature_dim, layers, DIM)
    for buffer in [*embedder.closed_form.reduce.buffers(), embedder.closed_form.projection]:
        buffer.normal_()
    return device.choose("cpu").place(embedder)


@torch.inference_mode()
def embedding(nets, widths, repeats):
    """Return rows (net, pixels, ours, limit, limit / ours, MB of each). limit: the bare forward pass.
    The two are timed in turns, so a slow minute of the machine meets both."""
    rows = []
    for net in nets:
        for width in widths:
            embedder = embedder_of(net, width)
            images = torch.randint(256, (BATCH, 3, width, width), dtype=torch.uint8)
            both = bench.measure_together(
                {"ours": lambda: embedder.read(images, "closed_form"), "limit": lambda: embedder.pool(images)}, repeats, 1
            )
            ours, limit = both.values()
            rows.append((net, width, ours.seconds, limit.seconds, limit.seconds / ours.seconds, ours.peak_mb, limit.peak_mb))
    return rows


def made(rows, dim, block):
    """Yield random rows in blocks, float32 (block, dim). Memory never holds all of them."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, rows, block):
        yield torch.rand(min(block, rows - start), dim, generator=generator)


def moments(rows, dim, block):
    total = Moments(dim)
    for x in made(rows, dim, block):
        total.add(x)
    return total.total().matrix


def product(rows, dim, block=4096):
    """Compute the bare product, a bound on the speed: X^T X in float32, in large blocks, without subtracting a mean."""
    total = torch.zeros(dim, dim)
    for x in made(rows, dim, block):
        total.addmm_(x.T, x)
    return total


def root_by_eigh(matrices):
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--nets", nargs="*", default=["EfficientNet-Lite0", "ResNet50"])
    flags.add_argument("--widths", type=int, nargs="+", default=[128, 224])
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--dim", type=int, default=3360, help="width of rows; EfficientNet-Lite0: 2,336, ResNet50: 3,104")
    flags.add_argument("--repeats", type=int, default=5)
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Closed form")

    print(f"Embedding {BATCH} crops, against the backbone's forward pass alone. Goal: limit / ours at least 0.8.\n")
    bench.table(
        ["net", "px", "ours, s", "limit: bare forward pass, s", "limit / ours", "ours, MB", "limit, MB"],
        embedding(args.nets, args.widths, args.repeats),
    )

    print(f"Covariance of {args.rows:,} x {args.dim:,} float32 rows in blocks of 100; both times include making the rows.\n")
    bench.compare(
        bench.measure_together(
            {
                "ours: Moments": lambda: moments(args.rows, args.dim, 100),
                "limit: X^T X in float32, blocks of 4,096": lambda: product(args.rows, args.dim),
                "making the rows alone": lambda: sum(1 for _ in made(args.rows, args.dim, 100)),
            }
        )
    )

    print(f"Eigendecomposition of {args.dim:,} x {args.dim:,}.")
    print("float64 is used for the final fit, float32 while trying candidate part weights.\n")
    matrix = product(2 * args.dim, args.dim)
    bench.compare(
        {
            f"torch.linalg.eigh, {str(dtype)[6:]}": bench.measure(lambda: torch.linalg.eigh(matrix.to(dtype)))
            for dtype in (torch.float64, torch.float32)
        }
    )

    print(f"Square roots of {BATCH} matrices {REDUCED} x {REDUCED}.\n")
    x = torch.rand(BATCH, 64, REDUCED)
    matrices = x.mT @ x / 64
    both = bench.measure_together(
        {"ours: matrix_root": lambda: matrix_root(matrices), "peer: torch.linalg.eigh": lambda: root_by_eigh(matrices)},
        20 * args.repeats,
        warm_up=5,
    )
    bench.compare(both, "ms", 1e3)
    ours, peer = (m.result for m in both.values())
    print(f"largest difference {float((ours - peer).abs().max()):.1e}, of values up to {float(peer.abs().max()):.2g}\n")


if __name__ == "__main__":
    main()
