"""Recall@K by expectation over ties: exact, for any number of K at once, without ranking and without an N x N array.

A query is a hit at K when fewer than K images come before its nearest positive. So two passes are enough. The first finds
the similarity of each query to its nearest positive, from products within classes. The second, a product in blocks, only
counts the images that are more similar.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.errors import InputError

KS = (1, 2, 4, 8, 16, 32)  # as in most tables of the field
# Similarities this close are ties, in all metrics. Equal rows of 2,048 numbers have similarities up to 4.2e-7 apart: these
# depend on the order in which a product sums. Without TIE, that order would rank equal rows.
TIE = 5e-7
BLOCK_SIDE = 2040  # rows and columns of a block: 16 MB of similarities, and 255 words of 8 for `_count`
BLOCK_SIDE_ON_GPU = 4 * BLOCK_SIDE
QUERIES_AT_ONCE = 256  # queries, in order of class, whose positives are looked up together


class Recall(NamedTuple):
    """Recall@K, and the number of queries that it averages."""

    at_k: dict[int, float]  # K -> expected share of queries with a positive among their K nearest
    queries: int  # queries that have a positive in the gallery
    without_positive: int  # queries that have no positive: left out


@torch.inference_mode()
def recall_at_k(
    query: Any, query_labels: Any, gallery: Any = None, gallery_labels: Any = None, *, ks: Iterable[int] = KS
) -> Recall:
    """Recall@K by cosine similarity.

    query: (N, d) of float32, float16 or bfloat16, L2-normalised; query_labels: int64 (N,). NumPy arrays or tensors;
    computed in float32 on the device that `query` is on. gallery, gallery_labels: the same for the images to find; without
    them each query searches all other queries (it is left out by index).
    Images within TIE of the nearest positive count by expectation over their random orders, so a collapsed embedding scores
    as chance.
    Time: half an N x N x d product (a whole one with a gallery). Memory: a few blocks.
    Raises InputError when a feature is not finite.
    """
    same_set = gallery is None
    query, query_labels = torch.as_tensor(query), np.asarray(query_labels)
    if same_set:
        gallery, gallery_labels = query, query_labels
    gallery, gallery_labels = torch.as_tensor(gallery), np.asarray(gallery_labels)
    for features in {id(x): x for x in (query, gallery)}.values():
        if not features.sum(dtype=torch.float32).isfinite():
            raise InputError("features are not finite: the model has diverged, there is nothing to score")
    best, tied_positive = _nearest_positive(query, query_labels, gallery, gallery_labels, same_set)
    valid = best.isfinite()
    above, tied = _count_above(query, gallery, best.where(valid, torch.inf), same_set)
    cases = torch.stack([above, tied, tied_positive])[:, valid].cpu().numpy()
    return Recall(_expectation(cases, ks), cases.shape[1], len(query) - cases.shape[1])


def _nearest_positive(
    query: Tensor, query_labels: np.ndarray, gallery: Tensor, gallery_labels: np.ndarray, same_set: bool
) -> tuple[Tensor, Tensor]:
    """Return the similarity to the nearest positive, float32 (N,), -inf without one; and the positives tied with it, int64.

    With images in order of class, a block of queries needs only the stretch of the gallery that holds its classes.
    """
    order = np.argsort(query_labels, kind="stable")
    gallery_order = order if same_set else np.argsort(gallery_labels, kind="stable")
    sorted_labels = gallery_labels[gallery_order]
    best = torch.full((len(query),), -torch.inf, device=query.device)
    tied = torch.zeros(len(query), dtype=torch.int64, device=query.device)

    def similarities(rows: np.ndarray) -> Iterator[Tensor]:
        """Yield similarities of the queries `rows` to blocks of their stretch of the gallery; -inf except for positives."""
        x, labels = query[rows].float(), query_labels[rows]
        first = np.searchsorted(sorted_labels, labels[0], side="left")
        last = np.searchsorted(sorted_labels, labels[-1], side="right")
        for begin in range(first, last, 16 * BLOCK_SIDE):
            columns = gallery_order[begin : min(begin + 16 * BLOCK_SIDE, last)]
            other = (labels[:, None] != gallery_labels[columns]) | (same_set & (rows[:, None] == columns))
            yield (x @ gallery[columns].float().T).masked_fill_(torch.from_numpy(other).to(query.device), -torch.inf)

    for start in range(0, len(order), QUERIES_AT_ONCE):
        rows = order[start : start + QUERIES_AT_ONCE]
        index = torch.from_numpy(rows).to(query.device)
        for sim in similarities(rows):
            best[index] = torch.maximum(best[index], sim.amax(1))
        for sim in similarities(rows):
            tied[index] += (sim >= best[index, None] - TIE).sum(1)
    return best, tied


def _count_above(query: Tensor, gallery: Tensor, best: Tensor, same_set: bool) -> tuple[Tensor, Tensor]:
    """Count the gallery images above `best` by more than TIE, and the images that equal it within TIE: two int64 (N,).

    When gallery and query are the same set, a block of the product counts for its rows and, transposed, for its columns.
    """
    block = BLOCK_SIDE if query.device.type == "cpu" else BLOCK_SIDE_ON_GPU
    thresholds = best - TIE, best + TIE
    at_least = [torch.zeros(len(query), dtype=torch.int64, device=query.device) for _ in thresholds]
    sim_space = torch.empty(block * block, device=query.device)
    hit_space = torch.empty(block * block, dtype=torch.bool, device=query.device)
    for i in range(0, len(query), block):
        x = query[i : i + block].float()
        for j in range(i if same_set else 0, len(gallery), block):
            y = gallery[j : j + block].float()
            shape = len(x), len(y)
            sim, hits = (space[: shape[0] * shape[1]].view(shape) for space in (sim_space, hit_space))
            torch.mm(x, y.T, out=sim)
            if same_set and i == j:
                sim.fill_diagonal_(-torch.inf)
            for threshold, counts in zip(thresholds, at_least):
                counts[i : i + block] += _count(torch.ge(sim, threshold[i : i + block, None], out=hits), 1)
                if same_set and i != j:
                    counts[j : j + block] += _count(torch.ge(sim, threshold[j : j + block], out=hits), 0)
    return at_least[1], at_least[0] - at_least[1]


def _count(hits: Tensor, dim: int) -> Tensor:
    """Return hits.sum(dim) of a contiguous boolean matrix, int64. On the CPU it adds eight booleans at once, as one int64
    word, which is several times faster. Beyond 255 words a byte of the sum could overflow."""
    if hits.device.type != "cpu" or hits.shape[1] % 8:
        return hits.sum(dim)
    words = hits.view(torch.int64)
    sums = torch.stack([part.sum(dim) for part in words.split(255, dim)])  # dim 0: (parts, columns/8), 1: (parts, rows)
    counts = sums.view(torch.uint8).view(len(sums), -1, 8).sum(0)
    return counts.view(-1) if dim == 0 else counts.sum(1)


def _expectation(cases: np.ndarray, ks: Iterable[int]) -> dict[int, float]:
    """Return for each k the probability of a positive within the first k of a ranking, averaged over the queries.

    cases: int64 (3, N), for each query (above, tied, positive). First come `above` images, none of them a positive; then
    `tied` images in random order, `positive` of them positives.
    """
    above, tied, positive = cases
    if not len(above):
        return {k: float("nan") for k in ks}
    mixed = tied > positive
    first = np.sort(above[~mixed])  # for these queries the next image is a positive
    cases, counts = np.unique(cases[:, mixed], axis=1, return_counts=True)
    return {k: float((np.searchsorted(first, k) + counts @ _hit_probability(cases, k)) / len(above)) for k in ks}


def _hit_probability(cases: np.ndarray, k: int) -> np.ndarray:
    """Return that probability for one k and each case (above, tied, positive), int64 (3, M): float64 (M,).

    The tied images have m = k - above places. All positives miss them with probability C(tied - positive, m) / C(tied, m).
    """
    from scipy.special import gammaln  # here, because scipy takes long to import

    above, tied, positive = cases
    places = np.clip(k - above, 0, tied)
    negative = tied - positive
    can_miss = places <= negative
    m = np.where(can_miss, places, 0)
    log_miss = gammaln(negative + 1) - gammaln(negative - m + 1) - gammaln(tied + 1) + gammaln(tied - m + 1)
    return np.where(can_miss, -np.expm1(np.minimum(log_miss, 0.0)), 1.0)
