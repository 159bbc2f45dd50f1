"""Scores of an embedding that need no labels: do two random crops of an image find the same other images?"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

QUERIES_AT_ONCE = 1024  # queries in one matrix product


def neighbour_agreement(centre: Tensor, crops: Sequence[Tensor]) -> float:
    """Return the share of images whose nearest other image is the same for two random crops, averaged over pairs of crops.

    centre: (N, d), rows of length 1: embeddings of the images' central crops, the candidates for neighbours. crops: two or
    more tensors (N, d) of the same images' random crops; each is paired with the next one. Fewer than 3 images give 0,
    because an image then has one other at most.
    """
    same = lambda one, other: (one == other).float().mean()
    return _over_pairs(centre, crops, nearest_other, same)


def soft_agreement(centre: Tensor, crops: Sequence[Tensor], temperature: float = 1.0) -> float:
    """Return how alike the soft neighbours of two random crops are, from 0 to 1, averaged over pairs of crops.

    centre, crops: as in `neighbour_agreement`. temperature: as in `soft_neighbours`. A crop's soft neighbours are a
    distribution over all other images. Two crops agree by <A, B> / (|A| |B|), where A and B (N, N) hold the distributions
    of all images. Memory is N x N for each set of crops, so N is a sample.
    """
    cosine = lambda one, other: (one * other).sum() / (one.norm() * other.norm())
    return _over_pairs(centre, crops, partial(soft_neighbours, temperature=temperature), cosine)


def _over_pairs(centre: Tensor, crops: Sequence[Tensor], look: Callable, compare: Callable) -> float:
    """Return the mean of compare(look(crop, centre), look(next crop, centre)), without pairing two crops twice."""
    if len(centre) < 3:
        return 0.0
    views = [look(rows, centre) for rows in crops]
    pairs = list(zip(views, views[1:])) + ([(views[-1], views[0])] if len(views) > 2 else [])
    return float(torch.stack([compare(*pair) for pair in pairs]).mean())


def soft_neighbours(rows: Tensor, centre: Tensor, temperature: float = 1.0) -> Tensor:
    """Return (N, N): row i is the softmax of similarity / (temperature * deviation) over all images but i.

    rows, centre: (N, d). The deviation is the standard deviation of all these similarities. Spaces with similarities of any
    spread thus compare.
    """
    similar = rows @ centre.T
    own = torch.eye(len(similar), dtype=torch.bool, device=similar.device)
    deviation = similar[~own].std().clamp(min=torch.finfo(similar.dtype).eps)
    return (similar / (temperature * deviation)).masked_fill_(own, -torch.inf).softmax(1)


def nearest_other(rows: Tensor, centre: Tensor) -> Tensor:
    """Return int64 (N,): for row i of (N, d), the most similar row of `centre` (N, d) other than i."""
    return nearest_others(rows, centre, 1)[:, 0].long()


def nearest_others(rows: Tensor, centre: Tensor, count: int) -> Tensor:
    """Return int32 (N, k): for row i of (N, d), the k most similar rows of `centre` (N, d) other than i, nearest first.
    k is `count`, or the number of other rows if that is less."""
    nearest = []
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        similar = rows[start : start + QUERIES_AT_ONCE] @ centre.T
        own = torch.arange(start, start + len(similar), device=rows.device)
        similar[own - start, own] = -torch.inf
        nearest.append(similar.topk(min(count, len(centre) - 1)).indices.int())
    return torch.cat(nearest)
