"""The pairs of a batch: masks of the positive and the negative pairs, their similarities, and the hard pairs."""

import torch
from torch import Tensor


def pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities (N, N) of all pairs, and bool masks (N, N) of the positive and of the negative pairs.

    embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Row i is anchor i. An anchor is not its own positive,
    but two equal images are a pair.
    """
    sim = embeddings @ embeddings.T
    positive = labels[:, None] == labels[None, :]
    negative = ~positive
    positive.fill_diagonal_(False)
    return sim, positive, negative


@torch.no_grad()
def mine(sim: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return masks of the hard positives and the hard negatives: Wang et al. 2019 (arXiv 1904.06627), eqs. 11 and 12.

    A negative is hard when it is more similar than the anchor's hardest positive less the margin. A positive is hard when it
    is less similar than the hardest negative plus the margin. An anchor without positives or negatives keeps no pair.
    """
    hardest_positive = sim.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    hardest_negative = sim.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    return positive & (sim - margin < hardest_negative), negative & (sim + margin > hardest_positive)


def mean_of_rows(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each row of x (N, M) where mask (N, M) is True: (N,); 0 for a row without True."""
    return x.masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)


@torch.no_grad()
def similarities(embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return similarities of a batch for the log, whatever its loss: scalars without gradient.

    positive, negative: mean similarity of all positive or negative pairs, nan without such pairs. lowest: similarity of the
    least similar pair; close to 1 if the embedding has collapsed, nan if any embedding is.
    """
    sim, positive, negative = pairs(embeddings, labels)
    return {"positive": sim[positive].mean(), "negative": sim[negative].mean(), "lowest": sim.amin()}
