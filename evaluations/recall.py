"""Recall@K by expectation over ties."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import gammaln

# Similarities of unit vectors that differ by less are ties: it is the rounding of a float32 product of 512 terms, which
# would otherwise order the images of a collapsed embedding, and score them, by accident.
TIE = 1e-6
BLOCK_BYTES = 128 * 2**20


class Recall(NamedTuple):
    """Recall@K and how many queries it is a mean of."""

    at: dict  # K -> expected share of queries with a positive among their K nearest
    queries: int  # queries that have a positive in the gallery
    without_positive: int  # queries that have none: left out


def recall_at_k(query, query_labels, gallery=None, gallery_labels=None, ks=(1, 2, 4, 8, 16, 32)):
    """Recall@K by cosine similarity.

    query: float32 (N, d), L2-normalised; query_labels: int64 (N,). gallery, gallery_labels: the same for the images to
    find; without them the queries are each other's gallery, and each is removed from its own by index.
    Equal similarities count by expectation over a random order of them, so a collapsed embedding scores as chance.
    Works in blocks of queries: memory is O(block x gallery), at most about 0.5 GB.
    """
    same_set = gallery is None
    if same_set:
        gallery, gallery_labels = query, query_labels
    query, gallery = torch.from_numpy(query), torch.from_numpy(gallery)
    query_labels, gallery_labels = torch.from_numpy(query_labels), torch.from_numpy(gallery_labels)
    rows = max(1, BLOCK_BYTES // (4 * len(gallery)))
    above, tied, tied_positive, valid = [], [], [], []
    for start in range(0, len(query), rows):
        sim = query[start:start + rows] @ gallery.T
        positive = query_labels[start:start + rows, None] == gallery_labels[None, :]
        if same_set:
            own = torch.arange(len(sim))
            sim[own, start + own] = -torch.inf
            positive[own, start + own] = False
        best = sim.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
        above.append((sim > best + TIE).sum(1))
        ties = (sim - best).abs() <= TIE
        tied.append(ties.sum(1))
        tied_positive.append((ties & positive).sum(1))
        valid.append(positive.any(1))
    valid = torch.cat(valid).numpy()
    counts = [torch.cat(c).numpy()[valid] for c in (above, tied, tied_positive)]
    at = {k: float(_hit_probability(*counts, k).mean()) if valid.any() else float("nan") for k in ks}
    return Recall(at, int(valid.sum()), int((~valid).sum()))


def _hit_probability(above, tied, positive, k):
    """Probability, for each query, of a positive within the first k of its ranking.

    `above` images come first (none a positive), then `tied` in random order, of which `positive` are positives. With
    m = k - above places left, all of them miss with probability C(tied - positive, m) / C(tied, m).
    """
    places = np.clip(k - above, 0, tied)
    negative = tied - positive
    can_miss = places <= negative
    m = np.where(can_miss, places, 0)
    log_miss = gammaln(negative + 1) - gammaln(negative - m + 1) - gammaln(tied + 1) + gammaln(tied - m + 1)
    return np.where(can_miss, -np.expm1(np.minimum(log_miss, 0.0)), 1.0)
