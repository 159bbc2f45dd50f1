"""The pieces of STML's loss: Kim, Kim, Cho, Kwak 2022, "Self-Taught Metric Learning without Labels" (arXiv 2205.01903).

A teacher's embedding and its neighbourhoods give each pair of a batch a similarity from 0 to 1. Two learning heads fit their
distances to these similarities, and one head learns from the other. Details that the paper leaves open follow the official
code (tjddus9597/STML-CVPR22, code/loss.py). Every function takes all pairs of a batch; nothing loops over rows.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def contextual_similarity(embeddings: Tensor, index: Tensor, sigma: float, k: int) -> Tensor:
    """Return the contextualised semantic similarity of all pairs of a batch: (N, N), symmetric, 0 to 1, no gradient.

    It is the mean of two numbers: exp(-d^2 / sigma), d the pair's distance, and the agreement of the two neighbourhoods.
    R(i) are the k-reciprocal neighbours of i: i and each of them are among the other's k nearest. The agreement is

        w(i, j) = |R(i) & R(j)| / |R(i)| for j in R(i), else 0
        averaged over the k / 2 nearest of i (query expansion), then over (i, j) and (j, i)

    embeddings: (N, d), the teacher's, of length 1. index: int64 (N,), the image that each row is a view of; views of one
    image are nearest to each other, whatever their distance. sigma: a larger one makes more pairs similar. k: number of
    rows, i included, at most N. Equally near rows keep their order.
    """
    pairwise = torch.exp(-squared_distances(embeddings) / sigma)
    nearness = pairwise.masked_fill(index[:, None] == index, 1).fill_diagonal_(2)  # first itself, then its image's views
    order = nearness.sort(dim=1, descending=True, stable=True).indices
    k = min(k, len(order))
    half = max(1, round(k / 2))
    near, nearest = (torch.zeros_like(pairwise).scatter_(1, order[:, :count], 1) for count in (k, half))
    mutual = near * near.T  # row i: 1 for the members of R(i), which include i
    agreement = mutual * (mutual @ mutual.T) / mutual.sum(1, keepdim=True)
    expanded = nearest @ agreement / half
    return (pairwise + (expanded + expanded.T) / 2) / 2


def squared_distances(x: Tensor) -> Tensor:
    """Return squared Euclidean distances of all pairs of rows (N, d): (N, N), with zeros on the diagonal."""
    x = x - x.mean(0)  # distances stay, and smaller numbers round better
    squares = x.square().sum(1)
    return (squares[:, None] + squares - 2 * x @ x.T).clamp(min=0).fill_diagonal_(0)


def relative_distances(x: Tensor) -> Tensor:
    """Return distances of all pairs of rows (N, d): (N, N), each row divided by its mean, diagonal included.

    They do not change with the scale of x: the embedding needs no fixed length. They are zero if all rows are the same.
    """
    squared = squared_distances(x)
    same = squared == 0  # the root has no gradient there
    distances = squared.masked_fill(same, 1).sqrt().masked_fill(same, 0)
    return distances / distances.mean(1, keepdim=True).clamp(min=1e-6)


def relaxed_contrastive(relative: Tensor, similarity: Tensor, delta: float) -> Tensor:
    """Return the contrastive loss with similarities for labels, a scalar: Kim et al. 2021 (arXiv 2103.14908).

    A pair with similarity w and relative distance d costs w d^2 + (1 - w) max(0, delta - d)^2. The loss is the mean over
    all ordered pairs of two rows. relative, similarity: (N, N). delta: the relative distance that dissimilar pairs get.
    """
    pull = similarity * relative.square()
    push = (1 - similarity) * (delta - relative).relu().square()
    n = len(relative)
    return (pull + push).fill_diagonal_(0).sum() / max(1, n * (n - 1))


def distillation(relative: Tensor, target: Tensor) -> Tensor:
    """Return the mean over rows of KL(softmax(-target) || softmax(-relative)): both must call the same rows near. A scalar.

    relative: (N, N), relative distances of the learning embedding. target: (N, N), relative distances of the embedding that
    it learns from, which gets no gradient.
    """
    to, of = F.log_softmax(-relative, dim=1), F.log_softmax(-target.detach(), dim=1)
    return F.kl_div(to, of, reduction="batchmean", log_target=True)
