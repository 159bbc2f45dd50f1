"""Times Weight loss, forward and backward: ours, a loop over anchors, pytorch-metric-learning, matrix products alone.

python scripts/benchmarks/loss.py [--batch 80] [--dim 512] [--repeats 50]
"""

import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner

import bench  # finds the project
import losses


def loop(embeddings, labels, alpha=40.0, beta=2.0, base=0.5, margin=0.1):
    """Compute the loss as the original does: anchor by anchor, mined with boolean masks."""
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


def steps(batch=80, dim=512):
    """Return {name: function}. A function runs the loss of one batch forward and backward."""
    labels = torch.arange(batch) // 5
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(batch // 5 + 1, dim, generator=generator)
    raw = centres[labels] + 2 * torch.randn(batch, dim, generator=generator)
    raw = torch.nn.functional.normalize(raw, dim=1).requires_grad_()
    ours, miner, peer = losses.create("Weight"), MultiSimilarityMiner(0.1), MultiSimilarityLoss(alpha=2, beta=40, base=0.5)
    return {
        name: lambda loss=loss: torch.autograd.grad(loss(), raw)
        for name, loss in {
            "ours": lambda: ours(raw, labels),
            "loop over anchors": lambda: loop(raw, labels),
            "pytorch-metric-learning": lambda: peer(raw, labels, miner(raw, labels)),
            "limit: x @ x.T and its gradient": lambda: (raw @ raw.T).sum(),
        }.items()
    }


def main():
    flags = bench.parser(__doc__)
    for name, default in (("batch", 80), ("dim", 512), ("repeats", 50)):
        flags.add_argument(f"--{name}", type=int, default=default)
    args = flags.parse_args()
    bench.set_threads(args.threads or 1)
    bench.heading("Weight loss")
    print(f"Forward and backward, batch {args.batch} x {args.dim}, in ms.\n")
    bench.compare(bench.measure_together(steps(args.batch, args.dim), args.repeats, warm_up=3), "ms", 1e3)


if __name__ == "__main__":
    main()
