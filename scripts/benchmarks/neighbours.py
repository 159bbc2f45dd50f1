"""Measures the neighbours that `shared_neighbours` and `cluster_contrast` use: exact against the inverted file, and Jaccard.

python scripts/benchmarks/neighbours.py [--n 100000] [--noise 0.035] [--exact] --threads 1

The vectors are synthetic, with planted classes of 30. Without --exact, the exact time is extrapolated from 1,000 queries.
"""

import torch

import bench  # finds the project
from utils import log
from utils.clustering import nearest, reciprocal

K1, K2, NEAR, FAR = 30, 6, 0.7, 0.9  # as in `shared_neighbours`


def pair_precision(features, labels, lists):
    """Return the seconds of the Jaccard distances, pairs nearer than NEAR for each image, and the share of one class."""
    took = bench.measure(lambda: reciprocal.jaccard(reciprocal.encode(features, lists, K1, K2), FAR, 4 * K1))
    distances = took.result.tocoo()
    pair = (distances.row != distances.col) & (distances.data < NEAR)
    right = labels[distances.row[pair]] == labels[distances.col[pair]]
    return took.core_seconds, pair.sum() / len(features), right.mean()


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--n", type=int, nargs="+", default=[100_000])
    flags.add_argument("--dim", type=int, default=512)
    flags.add_argument("--noise", type=float, default=0.035, help="standard deviation of each number")
    flags.add_argument("--exact", action="store_true", help="also compare all with all, and compare the pairs")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Neighbours of all images")
    log.listen()
    table = []
    for n in args.n:
        features, labels = bench.embeddings(n, args.dim, n // 30, args.noise)
        rows, sample = torch.from_numpy(features), torch.arange(0, n, n // 1000)[:1000]
        ways = {"inverted file": lambda: nearest.InvertedFile(rows).nearest(K1)}
        if args.exact:
            ways["exact"] = lambda: nearest.nearest_of_all(rows, torch.arange(n), K1)
        exact = bench.measure(lambda: nearest.nearest_of_all(rows, sample, K1))
        for name, way in ways.items():
            took = bench.measure(way)
            recall = nearest.shared(took.result[sample.numpy()], exact.result)
            table.append((f"{n:,}", name, took.core_seconds, recall, *pair_precision(features, labels, took.result)))
        if not args.exact:
            table.append((f"{n:,}", "exact, extrapolated", exact.core_seconds * n / len(sample), 1.0, "", "", ""))
    header = ["images", "neighbours", "core s", f"recall@{K1}", "Jaccard, core s", "pairs an image", "of one class"]
    bench.table(header, [(*row[:-1], f"{row[-1]:.4f}" if row[-1] else "") for row in table])


if __name__ == "__main__":
    main()
