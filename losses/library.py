"""Losses of pytorch-metric-learning, each with the settings of its paper or of bnu-wangxun/Deep_Metric.

Importing this file takes seconds, so losses/__init__.py imports it only to build one of these losses.
"""

from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, MarginLoss, NCALoss, ProxyAnchorLoss, TripletMarginLoss
from pytorch_metric_learning.miners import DistanceWeightedMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import SumReducer
from torch import Tensor, nn


class PerAnchor(nn.Module):
    """A summed loss divided by the number of images; it is 0 rather than nan if there is nothing to sum."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, labels) / len(embeddings)


class Mined(nn.Module):
    """A loss over the triplets that a miner chooses from the batch."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if not embeddings.isfinite().all():
            return embeddings.sum()  # nan, which the caller reports; Margin's miner would raise its own error
        loss = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return loss + sum(0 * p.sum() for p in self.parameters())  # each has a gradient, even without triplets


def contrastive() -> nn.Module:
    """`Contrastive`: Hadsell, Chopra, LeCun 2006, on similarities s, with a margin of 0.5 for negatives.

    A positive adds 1 - s, a negative with s > 0.5 adds s - 0.5. The loss is their sum divided by the number of anchors.
    bnu-wangxun/Deep_Metric, losses/Contrastive.py, adds s for such a negative: another value, the same gradient.
    """
    return PerAnchor(ContrastiveLoss(pos_margin=1, neg_margin=0.5, distance=CosineSimilarity(), reducer=SumReducer()))


def nca() -> nn.Module:
    """`NCA`: Goldberger et al. 2004, "Neighbourhood Components Analysis", on similarities with a softmax scale of 16.

    The loss of an anchor is -log of the share of its positives in the softmax over all other images, 0 without positives.
    The scale is the default in bnu-wangxun/Deep_Metric, losses/NCA.py. That file cannot run (it reads a variable that it
    never sets), takes similarities for distances, and uses the 32 nearest images only.
    """
    return PerAnchor(NCALoss(softmax_scale=16, distance=CosineSimilarity(), reducer=SumReducer()))


def triplet() -> nn.Module:
    """`Triplet`: Schroff et al. 2015, "FaceNet" (arXiv 1503.03832), eq. 3, over all triplets of the batch; margin 0.2.

    Distances are squared Euclidean, 2 - 2s. The mean is over the triplets that violate the margin, so that easy triplets do
    not dilute it (Hermans et al. 2017, arXiv 1703.07737). Deep_Metric's losses/triplet.py is not a triplet loss: it is
    Deep_Metric's HardMining with a margin of 0.
    """
    return TripletMarginLoss(margin=0.2, distance=LpDistance(power=2))


def semi_hard() -> nn.Module:
    """`SemiHard`: `Triplet` over the semi-hard triplets: Schroff et al. 2015, eq. 4.

    In a semi-hard triplet, the negative is farther from the anchor than the positive, by less than the margin of 0.2.
    bnu-wangxun/Deep_Metric names this strategy in its README; its losses/SemiHard.py is not valid Python.
    """
    return Mined(triplet(), TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=LpDistance(power=2)))


def margin(num_classes: int) -> nn.Module:
    """`Margin`: Wu et al. 2017, "Sampling Matters in Deep Embedding Learning" (arXiv 1706.07567).

    A positive should be nearer than beta - 0.2, a negative farther than beta + 0.2, in Euclidean distance. The mean is over
    the pairs that violate this. Triplets come from distance-weighted sampling (section 4): a negative at distance d has the
    weight 1/q(d), q the density of distances on the sphere. d is cut off below 0.5. Negatives beyond 1.4 are not drawn,
    because the loss at the first beta is 0 there.

    The returned module learns beta, float32 (num_classes,), starting at 1.2; labels are 0 to num_classes - 1. Give beta no
    weight decay. A clustering can renumber pseudo-labels, and a beta then serves another cluster. Our k-means starts from
    the previous clusters, which keeps most numbers. Triplets are drawn from torch's global generators (the CPU's and the
    device's): all processes must seed them alike to draw the same triplets.
    """
    loss = MarginLoss(margin=0.2, nu=0, beta=1.2, learn_beta=True, num_classes=num_classes)
    return Mined(loss, DistanceWeightedMiner(cutoff=0.5, nonzero_loss_cutoff=1.4))


def proxy_anchor(dim: int, num_classes: int) -> nn.Module:
    """`ProxyAnchor`: Kim et al. 2020, "Proxy Anchor Loss for Deep Metric Learning" (arXiv 2003.13911), eq. 4.

    Margin (delta) 0.1 and scale (alpha) 32, as in the paper. The returned module learns a proxy for each class,
    float32 (num_classes, dim), drawn from torch's global generator; labels are 0 to num_classes - 1. The paper gives proxies
    100 times the learning rate of the net. A clustering can renumber pseudo-labels, and a proxy then serves another cluster.
    Our k-means starts from the previous clusters, which keeps most numbers.
    """
    return ProxyAnchorLoss(num_classes, dim, margin=0.1, alpha=32)
