"""Neighbour agreement: how good an embedding is, told without labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

QUERIES_AT_ONCE = 1024  # queries at once


def neighbour_agreement(centre: Tensor, crops: Sequence[Tensor]) -> float:
    """The share of images whose nearest other image is the same for two random crops, over pairs of crops.

    centre: (N, d), rows of length 1: embeddings of the images' central crops, among which neighbours are sought. crops: two
    or more tensors (N, d) of the same images' random crops; each is paired with the next one. 0 for fewer than 3 images, of
    which each has but one other.
    """
    if len(centre) < 3:
        return 0.0
    found = [nearest_other(rows, centre) for rows in crops]
    pairs = list(zip(found, found[1:])) + ([(found[-1], found[0])] if len(found) > 2 else [])
    return float(torch.stack([(a == b).float().mean() for a, b in pairs]).mean())


def nearest_other(rows: Tensor, centre: Tensor) -> Tensor:
    """int64 (N,): for row i of (N, d) the most similar row of `centre` (N, d) but i."""
    found = []
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        similar = rows[start : start + QUERIES_AT_ONCE] @ centre.T
        own = torch.arange(start, start + len(similar), device=rows.device)
        similar[own - start, own] = -torch.inf
        found.append(similar.argmax(1))
    return torch.cat(found)
