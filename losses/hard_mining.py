"""`HardMining`: a loss made of the plain similarities of hard pairs."""

from torch import Tensor, nn

from losses.pairs import mean_of_rows, mine, pairs

MARGIN = 0.1  # margin of the mining


class HardMiningLoss(nn.Module):
    """The loss of an anchor is the mean of 1 - s over its hard positives plus the mean of s over its hard negatives.

    The loss and its margin come from bnu-wangxun/Deep_Metric, losses/HardMining.py; no paper describes it. A pair is hard if
    the mining of Wang et al. 2019 (eqs. 11 and 12) keeps it. An anchor without hard pairs counts as 0.
    """

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings: float32 (N, dim), L2-normalised; labels: int64 (N,). Returns a scalar, the mean over N anchors."""
        sim, positive, negative = pairs(embeddings, labels)
        positive, negative = mine(sim, positive, negative, MARGIN)
        return (mean_of_rows(1 - sim, positive) + mean_of_rows(sim, negative)).mean()
