"""`Weight`: the multi-similarity loss with pair mining."""

from typing import NamedTuple

import torch
from torch import nn


class PairLoss(NamedTuple):
    """A loss over the pairs of a batch and what the log says about them. All are scalar tensors."""

    loss: torch.Tensor  # back-propagates, also when no pair is left
    positive: torch.Tensor  # mean similarity of all positive pairs (nan if there are none)
    negative: torch.Tensor  # mean similarity of all negative pairs (nan if there are none)
    lowest: torch.Tensor  # similarity of the least similar pair; close to 1 when the embedding has collapsed


class WeightLoss(nn.Module):
    """Multi-similarity loss: Wang et al. 2019, "Multi-Similarity Loss with General Pair Weighting" (arXiv 1904.06627).

    margin: of the mining (epsilon in eqs. 11 and 12): a negative is kept when it is more similar than the hardest
        positive less the margin, a positive when it is less similar than the hardest negative plus the margin.
    alpha, beta, base: of the loss (eq. 13). As in UDML-SS and contrary to that paper's letters, alpha is the steepness
        for negatives, beta the one for positives; base is the similarity (lambda) at which a pair weighs half.
    """

    def __init__(self, alpha=40.0, beta=2.0, base=0.5, margin=0.1):
        super().__init__()
        self.alpha, self.beta, self.base, self.margin = alpha, beta, base, margin

    def forward(self, embeddings, labels):
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a PairLoss, a mean over N anchors."""
        sim = embeddings @ embeddings.T
        positive = labels[:, None] == labels[None, :]
        negative = ~positive
        positive.fill_diagonal_(False)  # an anchor is not its own positive; by index, equal images may both be there

        with torch.no_grad():
            hardest_positive = sim.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
            hardest_negative = sim.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
            mined_negative = negative & (sim + self.margin > hardest_positive)
            mined_positive = positive & (sim - self.margin < hardest_negative)
            mean_positive, mean_negative = sim[positive].mean(), sim[negative].mean()
            lowest = sim.amin()

        loss = (_log1p_sum_exp(-self.beta * (sim - self.base), mined_positive) / self.beta
                + _log1p_sum_exp(self.alpha * (sim - self.base), mined_negative) / self.alpha)
        return PairLoss(loss.mean(), mean_positive, mean_negative, lowest)


def _log1p_sum_exp(x, mask):
    """log(1 + sum of exp(x) where mask) for each row, without overflow: the 1 is one more term, exp(0)."""
    x = x.masked_fill(~mask, -torch.inf)
    return torch.logsumexp(nn.functional.pad(x, (0, 1), value=0.0), dim=1)
