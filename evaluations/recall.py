"""Recall@K by expectation over ties: exact, for any number of K at once, without ranking and without an N x N array.

A query is a hit at K when fewer than K images come before its nearest positive. So two passes do: the similarity of every
query to its nearest positive, from products within classes; then a product in blocks that only counts what lies above.
"""

from typing import NamedTuple

import numpy as np
import torch

from utils.errors import InputError

# Similarities of unit vectors that differ by less are ties: it is the rounding of a float32 product of 512 terms, which
# would otherwise order the images of a collapsed embedding, and score them, by accident.
TIE = 1e-6
BLOCK = 2040  # rows and columns of a block: 16 MB of similarities, and 255 words of 8 for `_count`
BLOCK_ON_GPU = 4 * BLOCK
CLASS_BLOCK = 256  # queries, in order of class, whose positives are looked up together


class Recall(NamedTuple):
    """Recall@K and how many queries it is a mean of."""

    at: dict  # K -> expected share of queries with a positive among their K nearest
    queries: int  # queries that have a positive in the gallery
    without_positive: int  # queries that have none: left out


@torch.inference_mode()
def recall_at_k(query, query_labels, gallery=None, gallery_labels=None, ks=(1, 2, 4, 8, 16, 32)):
    """Recall@K by cosine similarity.

    query: (N, d) of float32, float16 or bfloat16, L2-normalised; query_labels: int64 (N,). NumPy arrays or tensors;
    computed in float32 on the device that `query` is on. gallery, gallery_labels: the same for the images to find; without
    them the queries are each other's gallery, and each is removed from its own by index.
    Equal similarities count by expectation over a random order of them, so a collapsed embedding scores as chance.
    Time is that of half an N x N x d product (a whole one for a gallery of its own), memory a few blocks.
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
    above, tied, tied_positive = (count[valid].cpu().numpy() for count in (above, tied, tied_positive))
    at = _expectation(above, tied, tied_positive, ks)
    return Recall(at, len(above), len(query) - len(above))


def _nearest_positive(query, query_labels, gallery, gallery_labels, same_set):
    """float32 (N,) similarity to the nearest positive, -inf where there is none; int64 (N,) positives tied with it.

    In order of class, the positives of neighbouring queries are neighbours too: a block of queries needs only the stretch
    of the gallery in which its classes lie.
    """
    order = np.argsort(query_labels, kind="stable")
    gallery_order = order if same_set else np.argsort(gallery_labels, kind="stable")
    sorted_labels = gallery_labels[gallery_order]
    best = torch.full((len(query),), -torch.inf, device=query.device)
    tied = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    for start in range(0, len(order), CLASS_BLOCK):
        rows = order[start:start + CLASS_BLOCK]
        labels = query_labels[rows]
        first = np.searchsorted(sorted_labels, labels[0], side="left")
        last = np.searchsorted(sorted_labels, labels[-1], side="right")
        x, index = query[rows].float(), torch.from_numpy(rows).to(query.device)

        def similarities():
            for at in range(first, last, 16 * BLOCK):
                columns = gallery_order[at:min(at + 16 * BLOCK, last)]
                other = torch.from_numpy((labels[:, None] != gallery_labels[columns])
                                         | (same_set & (rows[:, None] == columns)))
                yield (x @ gallery[columns].float().T).masked_fill_(other.to(query.device), -torch.inf)

        for sim in similarities():
            best[index] = torch.maximum(best[index], sim.amax(1))
        for sim in similarities():
            tied[index] += (sim >= best[index, None] - TIE).sum(1)
    return best, tied


def _count_above(query, gallery, best, same_set):
    """How many gallery images are above `best` by more than TIE, and how many equal it within TIE: two int64 (N,).

    Where gallery and query are the same set, a block of the product serves its rows and, transposed, its columns.
    """
    block = BLOCK if query.device.type == "cpu" else BLOCK_ON_GPU
    thresholds = best - TIE, best + TIE
    at_least = [torch.zeros(len(query), dtype=torch.int64, device=query.device) for _ in thresholds]
    sim_space = torch.empty(block * block, device=query.device)
    hit_space = torch.empty(block * block, dtype=torch.bool, device=query.device)
    for i in range(0, len(query), block):
        x = query[i:i + block].float()
        for j in range(i if same_set else 0, len(gallery), block):
            y = gallery[j:j + block].float()
            shape = len(x), len(y)
            sim, hits = (space[:shape[0] * shape[1]].view(shape) for space in (sim_space, hit_space))
            torch.mm(x, y.T, out=sim)
            if same_set and i == j:
                sim.fill_diagonal_(-torch.inf)
            for threshold, counts in zip(thresholds, at_least):
                counts[i:i + block] += _count(torch.ge(sim, threshold[i:i + block, None], out=hits), 1)
                if same_set and i != j:
                    counts[j:j + block] += _count(torch.ge(sim, threshold[j:j + block], out=hits), 0)
    return at_least[1], at_least[0] - at_least[1]


def _count(hits, dim):
    """hits.sum(dim) of a contiguous boolean matrix, int64. On the CPU eight at a time, which is several times faster: eight
    booleans are added as one int64 word, up to 255 words before a byte of the sum could overflow."""
    if hits.device.type != "cpu" or hits.shape[1] % 8:
        return hits.sum(dim)
    words = hits.view(torch.int64)
    sums = torch.stack([part.sum(dim) for part in words.split(255, dim)])  # dim 0: (parts, columns/8), 1: (parts, rows)
    counts = sums.view(torch.uint8).view(len(sums), -1, 8).sum(0)
    return counts.view(-1) if dim == 0 else counts.sum(1)


def _expectation(above, tied, positive, ks):
    """Mean over the queries, for each k, of the probability of a positive within the first k of a ranking.

    `above` images come first (none a positive), then `tied` in random order, of which `positive` are positives.
    """
    if not len(above):
        return {k: float("nan") for k in ks}
    mixed = tied > positive
    first = np.sort(above[~mixed])  # of these a positive comes right after them
    cases, counts = np.unique(np.stack([above, tied, positive])[:, mixed], axis=1, return_counts=True)
    return {k: float((np.searchsorted(first, k) + counts @ _hit_probability(*cases, k)) / len(above)) for k in ks}


def _hit_probability(above, tied, positive, k):
    """With m = k - above places left for the tied, all positives miss with probability C(tied - positive, m) / C(tied, m).
    """
    from scipy.special import gammaln  # here, because scipy takes long to import

    places = np.clip(k - above, 0, tied)
    negative = tied - positive
    can_miss = places <= negative
    m = np.where(can_miss, places, 0)
    log_miss = gammaln(negative + 1) - gammaln(negative - m + 1) - gammaln(tied + 1) + gammaln(tied - m + 1)
    return np.where(can_miss, -np.expm1(np.minimum(log_miss, 0.0)), 1.0)
