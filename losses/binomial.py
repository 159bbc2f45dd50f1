"""`Binomial`: the binomial deviance loss."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from losses.pairs import mean_of_rows, pairs


class BinomialLoss(nn.Module):
    """Binomial deviance: Yi, Lei, Li 2014, "Deep Metric Learning for Practical Person Re-Identification" (arXiv 1407.4979).

    Of each anchor, the mean of log(1 + exp(-beta (s - base))) over its positives plus the mean of
    log(1 + exp(alpha (s - base))) over its negatives; s is the similarity. The defaults are those of
    bnu-wangxun/Deep_Metric, losses/Binomial.py. As there and unlike `Weight`, the terms are not divided by their steepness.
    There, an anchor without negatives counts for nothing, and one without positives makes the loss nan; here, it only lacks
    the term that it has no pairs for.
    """

    def __init__(self, alpha: float = 40.0, beta: float = 2.0, base: float = 0.5) -> None:
        super().__init__()
        self.alpha, self.beta, self.base = alpha, beta, base

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        of_positives = mean_of_rows(softplus(-self.beta * (sim - self.base)), positive)
        of_negatives = mean_of_rows(softplus(self.alpha * (sim - self.base)), negative)
        return (of_positives + of_negatives).mean()
