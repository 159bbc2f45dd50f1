"""Times Recall@K: ours, the plain product as its limit, the original's algorithm, pytorch-metric-learning.

python scripts/benchmarks/recall.py [--n 60502] [--n_peers 20000] [--curve 10000 20000 40000 80000 200000]
"""

import faiss
import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from bench import compare, curve, embeddings, heading, measure, measure_together, parser, set_threads, table
from evaluations.recall import recall_at_k

KS = range(1, 1001)


def product(x, block=2040):
    """Compute the limit: all N x N similarities, block by block, without using them."""
    space = torch.empty(block, block)
    for i in range(0, len(x), block):
        for j in range(0, len(x), block):
            rows, columns = x[i : i + block], x[j : j + block]
            torch.mm(rows, columns.T, out=space[: len(rows), : len(columns)])


def original(x, labels, ks=(1, 2, 4, 8, 16, 32)):
    """Run the original's algorithm: a dense matrix less a dense identity, and a scan of each query's row by masks."""
    sim = (x @ x.T - torch.eye(len(x))).numpy()
    above = np.empty(len(x))
    for i, row in enumerate(sim):
        nearest = row[labels == labels[i]].max()
        above[i] = np.sum(row > nearest)
    return {k: (above < k).mean() for k in ks}


def precision_at_1(x, labels):
    calculator = AccuracyCalculator(include=("precision_at_1",), k=1, device=torch.device("cpu"))
    return calculator.get_accuracy(torch.from_numpy(x), torch.from_numpy(labels))["precision_at_1"]


def recall_from_lists(x, labels, depth=1000):
    """Compute Recall@1..1000 from faiss's lists of neighbours. An image is taken as the first of its own list."""
    neighbours = faiss.knn(x, x, depth + 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 1:]
    first = np.where(hit := labels[neighbours] == labels[:, None], np.arange(depth), depth).min(1)
    return np.cumsum(np.bincount(first, minlength=depth + 1))[:depth] / len(x), hit.any()


def against_the_product(n, dim, repeats):
    """Compare ours with its limit on the same images, then time ours on other inputs."""
    x, labels = embeddings(n, dim)
    tensor = torch.from_numpy(x)
    print(
        f"N = {n:,}, d = {dim}, {len(np.unique(labels)):,} classes; all of K = 1..1000 at once. Goal: ours "
        "at most 0.75 of the product, under 512 MB.\n"
    )
    both = measure_together(
        {"ours": lambda: recall_at_k(x, labels, ks=KS), "limit: the blocked N x N product alone": lambda: product(tensor)},
        repeats,
    )
    compare(both)
    ours, limit = both.values()
    print(
        f"ours / product: {ours.seconds / limit.seconds:.3f}; R@1 {ours.result.at_k[1]:.4f}, "
        f"R@1000 {ours.result.at_k[1000]:.4f}\n"
    )
    half = n // 2
    others = {
        "float16": lambda: recall_at_k(tensor.half(), labels, ks=KS),
        "bfloat16": lambda: recall_at_k(tensor.bfloat16(), labels, ks=KS),
        f"{half:,} queries in a gallery of {n - half:,}": lambda: recall_at_k(
            x[::2], labels[::2], x[1::2], labels[1::2], ks=KS
        ),
    }
    measured = {name: measure(call) for name, call in others.items()}
    table(["the same, other inputs", "s", "MB above the inputs"], [(name, *m[:2]) for name, m in measured.items()])


def against_peers(n, dim):
    """Compare ours, the original's algorithm and two peers on the same images."""
    x, labels = embeddings(n, dim)
    tensor = torch.from_numpy(x)
    print(
        f"N = {n:,}. Goals: 5 times faster than the original's algorithm in a tenth of the memory; faster than "
        "pytorch-metric-learning.\n"
    )
    peers = measure_together(
        {
            "ours, K = 1..1000": lambda: recall_at_k(x, labels, ks=KS),
            "the original's algorithm, 6 K": lambda: original(tensor, labels),
            "pytorch-metric-learning (faiss), K = 1": lambda: precision_at_1(x, labels),
            "faiss lists, K = 1..1000": lambda: recall_from_lists(x, labels),
        },
        repeats=1,
    )
    compare(peers)
    ours, theirs, precision, _ = (m.result for m in peers.values())
    print(f"R@1: ours {ours.at_k[1]:.4f}, the original's {theirs[1]:.4f}, pytorch-metric-learning {precision:.4f}\n")


def main():
    flags = parser(__doc__)
    flags.add_argument("--n", type=int, default=20000, help="images; 60502 is Stanford Online Products' test half")
    flags.add_argument("--n_peers", type=int, default=5000, help="images for the peers: the original keeps n x n matrices")
    flags.add_argument("--dim", type=int, default=512)
    flags.add_argument("--curve", type=int, nargs="*", default=[5000, 10000, 20000], help="sizes for the time model")
    flags.add_argument("--repeats", type=int, default=3)
    args = flags.parse_args()
    set_threads(args.threads)
    heading("Recall@K")
    against_the_product(args.n, args.dim, args.repeats)
    against_peers(args.n_peers, args.dim)
    rows = []
    for n in args.curve:
        x, labels = embeddings(n, args.dim)
        rows.append((n, *measure(lambda: recall_at_k(x, labels, ks=KS))[:2]))
    curve("N", rows, predict=(200_000, 1_000_000))


if __name__ == "__main__":
    main()
