"""Neighbour agreement: a score of an embedding that needs no labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

QUERIES_AT_ONCE = 1024  # queries in one matrix product


def neighbour_agreement(centre: Tensor, crops: Sequence[Tensor]) -> float:
    """Return the share of images whose nearest other image is the same for two random crops, averaged over pairs of crops.

    centre: (N, d), rows of length 1: embeddings of the images' central crops, the candidates for neighbours. crops: two or
    more tensors (N, d) of the same images' random crops; each is paired with the next one. Fewer than 3 images give 0,
    because an image then has one other at most.
    """
    if len(centre) < 3:
        return 0.0
    nearest = [nearest_other(rows, centre) for rows in crops]
    pairs = list(zip(nearest, nearest[1:])) + ([(nearest[-1], nearest[0])] if len(nearest) > 2 else [])
    return float(torch.stack([(a == b).float().mean() for a, b in pairs]).mean())


def nearest_other(rows: Tensor, centre: Tensor) -> Tensor:
    """Return int64 (N,): for row i of (N, d), the most similar row of `centre` (N, d) other than i."""
    nearest = []
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        similar = rows[start : start + QUERIES_AT_ONCE] @ centre.T
        own = torch.arange(start, start + len(similar), device=rows.device)
        similar[own - start, own] = -torch.inf
        nearest.append(similar.argmax(1))
    return torch.cat(nearest)
