"""`LiftedStructure`: the lifted structure loss, in Deep_Metric's improved form."""

import torch
from torch import Tensor, nn

from losses.pairs import pairs

ALPHA, BETA = 40.0, 2.0  # steepness for negatives, for positives


class LiftedStructureLoss(nn.Module):
    """The loss of an anchor is a soft maximum over all its positives plus one over all its negatives.

    It follows Song et al. 2016, "Deep Metric Learning via Lifted Structured Feature Embedding" (arXiv 1511.06452), eq. 4.
    Their squared hinge over positive pairs did badly. bnu-wangxun/Deep_Metric, losses/LiftedStructure.py, replaces it by
    2/beta log sum exp(-beta s) over the positives + 2/alpha log sum exp(alpha s) over the negatives; s is the similarity.
    This is Deep_Metric's loss with its constants. An anchor without positives or without negatives counts as 0. There is no
    hinge, so the loss may be negative.
    """

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        both = positive.any(1) & negative.any(1)  # the logarithm of an empty sum would be -inf
        sim, positive, negative = sim[both], positive[both], negative[both]
        of_positives = torch.logsumexp((-BETA * sim).masked_fill(~positive, -torch.inf), 1)
        of_negatives = torch.logsumexp((ALPHA * sim).masked_fill(~negative, -torch.inf), 1)
        return (2 / BETA * of_positives + 2 / ALPHA * of_negatives).sum() / len(embeddings)
