"""MAP@R and R-Precision: how well the R positives of a query fill the first R places of its ranking."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluations.recall import TIE
from utils.errors import InputError

BLOCK_BYTES = 128 * 2**20  # of the arrays of a block of queries


class PrecisionAtR(NamedTuple):
    """Means over the queries that have a positive in the gallery; nan if there is none."""

    map_at_r: float
    r_precision: float


def count_positives(query_labels: Any, gallery_labels: Any = None) -> Tensor:
    """Return R of each query, int64 (Q,): the number of gallery images with its label (of other queries without a gallery).

    query_labels, gallery_labels: int64 (Q,) and (G,), NumPy arrays or tensors.
    """
    query_labels = torch.as_tensor(query_labels)
    if gallery_labels is None:
        return count_positives(query_labels, query_labels) - 1  # not itself
    both = torch.cat([query_labels, torch.as_tensor(gallery_labels, device=query_labels.device)])
    classes, member = both.unique(return_inverse=True)
    query, gallery = member.split([len(query_labels), len(both) - len(query_labels)])
    return torch.bincount(gallery, minlength=len(classes))[query]


@torch.inference_mode()
def precision_at_r(
    query: Any, query_labels: Any, gallery: Any = None, gallery_labels: Any = None, *, seed: int = 0
) -> PrecisionAtR:
    """MAP@R and R-Precision by cosine similarity (Musgrave, Belongie and Lim 2020, arXiv 2003.08505, section 3).

    R is the number of positives of a query in the gallery. R-Precision is the share of positives among the R nearest. MAP@R
    is 1/R times the sum of P(i) over the places i = 1..R that hold a positive; P(i) is the share of positives among the
    first i. Both are 1 when all positives come first. A query without a positive is left out.

    query: (Q, d) of float32, float16 or bfloat16, L2-normalised; query_labels: int64 (Q,). NumPy arrays or tensors;
    computed in float32 on the device that `query` is on. gallery, gallery_labels: the same for the G images to find;
    without them each query searches all other queries (it is left out by index).
    Similarities that round to the same multiple of recall.TIE rank in a random order, drawn from `seed`. Data sets are
    sorted by class: in that order a collapsed embedding would score better than chance.
    Works in blocks of queries: memory is O(block x gallery), about 128 MB beside a copy of the gallery.
    Raises InputError when a feature is not finite.
    """
    same_set = gallery is None
    query, query_labels = torch.as_tensor(query), torch.as_tensor(query_labels)
    gallery, gallery_labels = (query, query_labels) if same_set else map(torch.as_tensor, (gallery, gallery_labels))
    shuffled = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(seed))
    gallery, gallery_labels = (x[shuffled.to(x.device)].to(query.device) for x in (gallery, gallery_labels))
    gallery, query_labels = gallery.float(), query_labels.to(query.device)
    if same_set:
        query, query_labels = gallery, gallery_labels
    if not (query.sum(dtype=torch.float32) + gallery.sum()).isfinite():
        raise InputError("features are not finite: the model has diverged, there is nothing to score")
    positives = count_positives(query_labels, None if same_set else gallery_labels)
    order = positives.argsort(descending=True)  # a block ranks as deep as its largest R: similar R go together
    order = order[: int((positives > 0).sum())]

    average_precision, r_precision = [], []
    while len(order):
        depth = int(positives[order[0]])
        rows = max(1, BLOCK_BYTES // (4 * len(gallery) + 40 * depth))  # similarities, and several arrays (rows, depth)
        block, order = order[:rows], order[rows:]
        sim = query[block].float() @ gallery.T
        if same_set:
            sim.scatter_(1, block[:, None], -torch.inf)
        nearest = gallery_labels[sim.div_(TIE).round_().topk(depth).indices]
        place, r = torch.arange(1, depth + 1, device=query.device), positives[block, None]
        hit = (nearest == query_labels[block, None]) & (place <= r)
        hits = hit.cumsum(1)
        average_precision.append(((hits / place * hit).sum(1) / r[:, 0]).cpu())
        r_precision.append((hits[:, -1] / r[:, 0]).cpu())
    if not r_precision:
        return PrecisionAtR(float("nan"), float("nan"))
    return PrecisionAtR(*(float(torch.cat(values).double().mean()) for values in (average_precision, r_precision)))
