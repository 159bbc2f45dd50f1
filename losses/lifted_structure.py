"""`LiftedStructure`: the lifted structure loss, as Deep_Metric bettered it."""

import torch
from torch import Tensor, nn

from losses.pairs import pairs


class LiftedStructureLoss(nn.Module):
    """A soft maximum over all positives and one over all negatives of an anchor.

    After Song et al. 2016, "Deep Metric Learning via Lifted Structured Feature Embedding" (arXiv 1511.06452), eq. 4. Their
    squared hinge over positive pairs did badly, so bnu-wangxun/Deep_Metric, losses/LiftedStructure.py, has in its place
    2/beta log sum exp(-beta s) over the positives + 2/alpha log sum exp(alpha s) over the negatives; s is the similarity.
    This is that loss, with the defaults of Deep_Metric. An anchor without positives or without negatives counts as 0. There
    is no hinge, so the loss may be negative.
    """

    def __init__(self, alpha: float = 40.0, beta: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        both = positive.any(1) & negative.any(1)  # the logarithm of an empty sum would be -inf
        sim, positive, negative = sim[both], positive[both], negative[both]
        of_positives = torch.logsumexp((-self.beta * sim).masked_fill(~positive, -torch.inf), 1)
        of_negatives = torch.logsumexp((self.alpha * sim).masked_fill(~negative, -torch.inf), 1)
        return (2 / self.beta * of_positives + 2 / self.alpha * of_negatives).sum() / len(embeddings)
