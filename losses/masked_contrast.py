"""The contrastive loss over pairs that are positive, negative or neither, and need not form a partition."""

import torch
from torch import Tensor


def masked_contrast(similarity: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, eq. 2) over masks in place of labels.

    For anchor i, with P(i) its positives, N(i) its negatives, t the temperature:

        - mean over p in P(i) of log( exp(s_ip / t) / sum over k in P(i) and N(i) of exp(s_ik / t) )

    similarity: float (n, n). positive, negative: bool (n, n), without the diagonal; a pair in neither is ignored. Returns a
    scalar, the mean over anchors that have a positive; without any, a 0 that back-propagates.
    """
    logits = similarity / temperature
    seen = logits.masked_fill(~(positive | negative), -torch.inf)
    anchors = positive.any(1)
    log_share = logits[anchors] - torch.logsumexp(seen[anchors], dim=1, keepdim=True)
    kept = positive[anchors]
    of_anchor = -log_share.masked_fill(~kept, 0).sum(1) / kept.sum(1)
    return of_anchor.sum() / anchors.sum().clamp(min=1) + 0 * similarity.sum()
