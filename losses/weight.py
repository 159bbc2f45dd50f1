"""`Weight`: the multi-similarity loss with pair mining."""

import torch
from torch import Tensor, nn

from losses.pairs import mine, pairs


class WeightLoss(nn.Module):
    """Multi-similarity loss: Wang et al. 2019, "Multi-Similarity Loss with General Pair Weighting" (arXiv 1904.06627).

    margin: margin of the mining (epsilon in eqs. 11 and 12); a smaller one keeps only harder pairs.
    alpha, beta, base: settings of the loss (eq. 13). alpha is the steepness for negatives, beta for positives: UDML-SS swaps
        the paper's letters, and so does this class. base (lambda) is the similarity at which a pair weighs half.
    """

    def __init__(self, alpha: float, beta: float, base: float, margin: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.base, self.margin = alpha, beta, base, margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        positive, negative = mine(sim, positive, negative, self.margin)
        of_positives = _log1p_sum_exp(-self.beta * (sim - self.base), positive) / self.beta
        of_negatives = _log1p_sum_exp(self.alpha * (sim - self.base), negative) / self.alpha
        return (of_positives + of_negatives).mean()


def _log1p_sum_exp(x: Tensor, mask: Tensor) -> Tensor:
    """Return log(1 + sum of exp(x) where mask) for each row, without overflow: the 1 is one more term, exp(0)."""
    x = x.masked_fill(~mask, -torch.inf)
    return torch.logsumexp(nn.functional.pad(x, (0, 1), value=0.0), dim=1)
