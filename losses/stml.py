"""The pieces of STML's loss: Kim, Kim, Cho, Kwak 2022, "Self-Taught Metric Learning without Labels" (arXiv 2205.01903).

How similar two images of a batch are, from 0 to 1, is read off a teacher's embedding and its neighbourhoods. Those who learn
put their distances accordingly, and one of them learns from the other. Details that the paper leaves open are those of the
official code (tjddus9597/STML-CVPR22, code/loss.py). All of it is of all pairs of a batch; nothing loops over rows.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def contextual_similarity(embeddings: Tensor, index: Tensor, sigma: float, k: int) -> Tensor:
    """The contextualised semantic similarity of all pairs of a batch: (N, N), symmetric, from 0 to 1, without gradient.

    It is the mean of two: exp(-d^2 / sigma) of the pair's distance d; and how far the neighbourhoods of the two agree, where
    R(i) are the k-reciprocal neighbours of i, those rows that i has among its k nearest and that have i among theirs:

        w(i, j) = |R(i) & R(j)| / |R(i)| for j in R(i), else 0
        averaged over the k / 2 nearest of i (query expansion), then over (i, j) and (j, i)

    embeddings: (N, d), the teacher's, of length 1. index: int64 (N,), of the image that each row is a view of; views of one
    image are nearest to each other, whatever their distance. sigma: larger takes more pairs for similar. k: counts rows, i
    itself among them; more than N are N. Of equally near rows the first come first.
    """
    pairwise = torch.exp(-squared_distances(embeddings) / sigma)
    nearness = pairwise.masked_fill(index[:, None] == index, 1).fill_diagonal_(2)  # first itself, then its image's views
    order = nearness.sort(dim=1, descending=True, stable=True).indices
    k = min(k, len(order))
    half = max(1, round(k / 2))
    near, nearest = (torch.zeros_like(pairwise).scatter_(1, order[:, :count], 1) for count in (k, half))
    mutual = near * near.T  # row i: 1 for the members of R(i), which are at least i
    agreement = mutual * (mutual @ mutual.T) / mutual.sum(1, keepdim=True)
    expanded = nearest @ agreement / half
    return (pairwise + (expanded + expanded.T) / 2) / 2


def squared_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of the rows (N, d): (N, N), with zeros on the diagonal."""
    x = x - x.mean(0)  # which no distance sees: rounding is then of the size of what is left
    squares = x.square().sum(1)
    return (squares[:, None] + squares - 2 * x @ x.T).clamp(min=0).fill_diagonal_(0)


def relative_distances(x: Tensor) -> Tensor:
    """Distances of all pairs of the rows (N, d), those of row i divided by their mean, itself included: (N, N).

    They do not change with the scale of x: the embedding needs no fixed length. All zero where all rows are the same.
    """
    squared = squared_distances(x)
    same = squared == 0  # where the root has no gradient
    distances = squared.masked_fill(same, 1).sqrt().masked_fill(same, 0)
    return distances / distances.mean(1, keepdim=True).clamp(min=1e-6)


def relaxed_contrastive(relative: Tensor, similarity: Tensor, delta: float) -> Tensor:
    """The contrastive loss with similarities in place of labels: Kim et al. 2021 (arXiv 2103.14908). A scalar.

    Each pair of similarity w and relative distance d costs w d^2 + (1 - w) max(0, delta - d)^2; the mean over all ordered
    pairs of two rows. relative, similarity: (N, N). delta: the relative distance to which dissimilar pairs are pushed.
    """
    pull = similarity * relative.square()
    push = (1 - similarity) * (delta - relative).relu().square()
    n = len(relative)
    return (pull + push).fill_diagonal_(0).sum() / max(1, n * (n - 1))


def distillation(relative: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of KL(softmax(-target) || softmax(-relative)): which rows are near has to agree. A scalar.

    relative: (N, N), relative distances of the embedding that learns. target: those of the one that it learns from, which
    gets no gradient.
    """
    to, of = F.log_softmax(-relative, dim=1), F.log_softmax(-target.detach(), dim=1)
    return F.kl_div(to, of, reduction="batchmean", log_target=True)
