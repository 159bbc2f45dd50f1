"""Weight loss, forward and backward: ours, the loop over anchors, pytorch-metric-learning, and the matrix products alone.

    python scripts/benchmarks/loss.py [--batch 80] [--dim 512] [--repeats 20]
"""

import argparse
import os
import platform
import sys
import time

import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import losses  # noqa: E402


def loop(embeddings, labels, alpha=40.0, beta=2.0, base=0.5, margin=0.1):
    """The way of the original: anchor by anchor, mined with boolean masks."""
    sim = embeddings @ embeddings.T
    total = embeddings.sum() * 0
    for i in range(len(sim)):
        same = labels == labels[i]
        same[i] = False
        positive, negative = sim[i][same], sim[i][labels != labels[i]]
        if not len(positive) or not len(negative):
            continue
        kept_negative = negative[negative + margin > positive.min()]
        kept_positive = positive[positive - margin < negative.max()]
        if len(kept_negative) and len(kept_positive):
            total = total + torch.log1p(torch.exp(-beta * (kept_positive - base)).sum()) / beta
            total = total + torch.log1p(torch.exp(alpha * (kept_negative - base)).sum()) / alpha
    return total / len(sim)


def median_seconds(function, raw, labels, repeats):
    times = []
    for _ in range(repeats + 2):
        leaf = raw.clone().requires_grad_()
        began = time.perf_counter()
        function(leaf, labels).backward()
        times.append(time.perf_counter() - began)
    return sorted(times[2:])[repeats // 2]


def compare(batch=80, dim=512, repeats=20):
    """name -> median seconds of one forward and backward pass."""
    labels = torch.arange(batch) // 5
    centres = torch.randn(batch // 5 + 1, dim, generator=torch.Generator().manual_seed(0))
    raw = torch.nn.functional.normalize(centres[labels] + 2 * torch.randn(batch, dim), dim=1)
    ours, miner = losses.create("Weight"), MultiSimilarityMiner(0.1)
    peer = MultiSimilarityLoss(alpha=2, beta=40, base=0.5)
    return {name: median_seconds(function, raw, labels, repeats) for name, function in {
        "ours": lambda x, y: ours(x, y).loss,
        "loop over anchors": loop,
        "pytorch-metric-learning": lambda x, y: peer(x, y, miner(x, y)),
        "limit: x @ x.T and its gradient": lambda x, y: (x @ x.T).sum(),
    }.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("batch", 80), ("dim", 512), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    print(f"batch {args.batch} x {args.dim}, {torch.get_num_threads()} threads, {platform.machine()}, "
          f"torch {torch.__version__}")
    times = compare(args.batch, args.dim, args.repeats)
    for name, seconds in times.items():
        print(f"{name:<34}{1e3 * seconds:9.3f} ms {seconds / times['ours']:8.1f} x ours")
