"""`Binomial`: the binomial deviance loss."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from losses.pairs import mean_of_rows, pairs

ALPHA, BETA = 40.0, 2.0  # steepness for negatives, for positives
BASE = 0.5  # similarity at which a pair weighs half


class BinomialLoss(nn.Module):
    """Binomial deviance: Yi, Lei, Li 2014, "Deep Metric Learning for Practical Person Re-Identification" (arXiv 1407.4979).

    The loss of an anchor is the mean of log(1 + exp(-beta (s - base))) over its positives plus the mean of
    log(1 + exp(alpha (s - base))) over its negatives; s is the similarity. The constants come from bnu-wangxun/Deep_Metric,
    losses/Binomial.py. As there, and unlike in `Weight`, the terms are not divided by their steepness. Deep_Metric skips an
    anchor without negatives, and returns nan for an anchor without positives; here such an anchor only lacks that one term.
    """

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        of_positives = mean_of_rows(softplus(-BETA * (sim - BASE)), positive)
        of_negatives = mean_of_rows(softplus(ALPHA * (sim - BASE)), negative)
        return (of_positives + of_negatives).mean()
