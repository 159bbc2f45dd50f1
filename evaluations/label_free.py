"""Scores of a net that need no labels, for choosing a checkpoint, a setting or a method.

All nets are judged on the same images, in one fixed space of their pooled features (`evaluations.learnability.fixed_space`),
whatever their readout.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from evaluations.learnability import fixed_space, learnability
from utils.clustering.agreement import neighbour_agreement
from utils.clustering.kmeans import kmeans
from utils.features import Encoder, extract, report_bad

CHOOSES = "evidence"
SCORES = {
    CHOOSES: "geometric mean of learnability (it favours the net before training) and agreement (it favours long training)",
    "learnability": "how often a linear model of the untrained net's closed form predicts its clusters of images",
    "agreement": "how often two random crops of an image have the same nearest other image",
    "reciprocity": "how often neighbours are mutual, mean over lists of 1 to 50",
    "clusterings": "adjusted Rand index of k-means from three starts",
    "rank": "effective rank of the features (Garrido et al. 2023, arXiv 2210.02885)",
}
SAMPLE = 2048  # images that nets are judged by, at most: time and memory grow with their square
CROPS = 2  # random crops of each image
RATIO = 0.5  # smallest share of the image in a random crop
DEPTHS = (1, 2, 5, 10, 20, 50)
STARTS = 3


def judge(
    encoders: list[Encoder], reference: Encoder, crops: Callable[[Any], Iterable], count: int, on_bad_image: str, seed: int
) -> list[dict[str, float]]:
    """Return `label_free` of several nets, on images that they were trained on.

    encoders: functions from a uint8 batch (n, 3, H, W) to pooled features. reference: such a function to the closed form of
    the net before training. crops: maps a seed, or None for central crops, to batches of the images as `extract` takes
    them. count: the number of images, SAMPLE or less. on_bad_image: see `report_bad`.
    """
    passes = []
    for drawn in (None, *((seed, crop) for crop in range(CROPS))):
        wanted = encoders if drawn else [*encoders, reference]
        passes.append(extract(wanted, crops(drawn), count, "without labels"))
    report_bad(passes[0].bad, on_bad_image)
    *centre, description = passes[0].arrays
    return [label_free(own, [seen.arrays[net] for seen in passes[1:]], description, seed) for net, own in enumerate(centre)]


def verdict(names: Sequence[str], paths: Sequence[str | None], scores: Sequence[dict[str, float]], count: int) -> str:
    """Format the scores of nets as a table. Of several nets, it recommends the first with the highest score of CHOOSES.

    names, paths: of each net; the net before training has no path. count: the number of images that judged the nets.
    """
    lines = [f"without labels, by {count} training images:", f"{'':<28}" + "".join(f"{score:>14}" for score in scores[0])]
    for name, values in zip(names, scores):
        lines.append(f"{name:<28}" + "".join(f"{value:14.4f}" for value in values.values()))
    if len(names) > 1:
        best = max(range(len(names)), key=lambda place: scores[place][CHOOSES])
        advice = paths[best] or "training did not help, take the closed form (train.py --method closed_form)"
        lines.append(f"by {CHOOSES} the best is {names[best]}: {advice}")
    return "\n".join(lines)


def label_free(centre: np.ndarray, crops: Sequence[np.ndarray], reference: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return the SCORES of a net.

    centre: float32 (n, d), pooled features of central crops, rows of length 1. crops: the same for two or more random crops.
    reference: float32 (n, e), the images in the closed form of the net before training. Memory is n x n, so n is a sample.
    """
    rows, *views = fixed_space(centre, *crops)
    learnable = learnability(rows, reference, seed)
    agreement = neighbour_agreement(torch.from_numpy(rows), [torch.from_numpy(view) for view in views])
    return {
        CHOOSES: (learnable * agreement) ** 0.5,
        "learnability": learnable,
        "agreement": agreement,
        "reciprocity": reciprocity(rows),
        "clusterings": clusterings(rows, seed),
        "rank": effective_rank(centre),
    }


def reciprocity(rows: np.ndarray) -> float:
    """Return how often neighbours are mutual: the share of the links to the k nearest other rows that go both ways, averaged
    over k in DEPTHS. rows: float32 (n, d) of length 1."""
    if len(rows) < 2:
        return 0.0
    similar = torch.from_numpy(rows @ rows.T).fill_diagonal_(-torch.inf)
    deepest = min(DEPTHS[-1], len(rows) - 1)
    nearest = similar.topk(deepest, dim=1).indices
    shares = []
    for k in dict.fromkeys(min(depth, deepest) for depth in DEPTHS):
        listed = torch.zeros(similar.shape, dtype=torch.bool).scatter_(1, nearest[:, :k], True)
        shares.append(float((listed & listed.T).sum() / listed.sum()))
    return float(np.mean(shares))


def clusterings(rows: np.ndarray, seed: int = 0) -> float:
    """Return the mean adjusted Rand index between STARTS k-means of float32 (n, d) rows into sqrt(n) clusters."""
    from sklearn.metrics import adjusted_rand_score  # here: it takes seconds

    k = max(1, round(len(rows) ** 0.5))
    labelings = [kmeans(rows, k, seed=seed + start).labels for start in range(STARTS)]
    return float(np.mean([adjusted_rand_score(*pair) for pair in combinations(labelings, 2)]))


def effective_rank(rows: np.ndarray) -> float:
    """Return exp of the entropy of the singular values (as shares of their sum) of float32 (n, d) rows less their mean."""
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False).astype(np.float64)
    shares = values / max(values.sum(), 1e-12)
    return float(np.exp(-(shares * np.log(shares + 1e-12)).sum()))
