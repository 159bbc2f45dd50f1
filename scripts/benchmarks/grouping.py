"""Measures what the page prepares from a gallery's rows: neighbours for smoothing, groups, and the map; time and memory.

python scripts/benchmarks/grouping.py [--sizes 10000 100000 1000000] [--dim 512]

The rows are made vectors in planted classes, float16 in a memory-mapped file, as a gallery holds them. For groups, NMI with
the planted classes is given too. The limit is one matrix product: of all rows with as many centres as there are groups.
"""

import os
import tempfile

import numpy as np

from bench import embeddings, heading, measure, parser, set_threads, table
from evaluations.cluster_metrics import nmi
from gallery.derived import ON_MAP
from gallery.smoothing import SmoothedRows, made
from utils.arrays import evenly, row_blocks
from utils.clustering.grouping import group
from utils.clustering.layout import layout

CLASSES = 300


def mapped(n, dim, folder):
    """Return made rows, float16 (n, dim), memory-mapped, and their classes."""
    rows, labels = embeddings(n, dim, CLASSES)
    path = os.path.join(folder, f"{n}.npy")
    np.save(path, rows.astype(np.float16))
    return np.load(path, mmap_mode="r"), labels


def main():
    flags = parser(__doc__)
    flags.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    flags.add_argument("--dim", type=int, default=512)
    args = flags.parse_args()
    set_threads(args.threads)
    heading(f"Neighbours, groups and map of rows of {args.dim} numbers in {CLASSES} classes")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for n in args.sizes:
            rows, labels = mapped(n, args.dim, folder)
            neighbours = measure(lambda: made(rows))
            smoothed = SmoothedRows(rows, neighbours.result)
            groups = measure(lambda: group(smoothed))
            found = groups.result
            on_map = measure(lambda: layout(smoothed[evenly(n, ON_MAP)]))
            centres = np.ones((args.dim, len(found.order)), np.float32)
            limit = measure(lambda: sum(float((block @ centres)[0, 0]) for block in row_blocks(rows)))
            for name, measured, what in (
                ("neighbours for smoothing", neighbours, ""),
                ("groups", groups, f"{len(found.order)} groups, NMI {nmi(labels, found.labels):.3f}"),
                ("map", on_map, f"{min(n, ON_MAP):,} images"),
                ("limit: one product", limit, ""),
            ):
                lines.append((f"{n:,}", name, measured.core_seconds, measured.peak_mb, what))
    table(["rows", "", "core seconds", "memory, MB", ""], lines)


if __name__ == "__main__":
    main()
