"""Scores of a net that need no labels, for choosing a checkpoint, a setting or a method.

The overlap chooses. It compares two lists of the nearest images: one by the judged net, and one by the net before training,
which sees the images enlarged. Larger images show a net more, so it finds better neighbours in them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

CHOOSES = "overlap"
SCORES = {
    CHOOSES: "share of nearest images in common with the net before training on enlarged images, at the best weight",
    "agreement": "agreement of two crops at its best weight (it favours long training)",
}
SAMPLE = 2048  # images that nets are judged by, at most: time and memory grow with their square


def label_free(
    agreement: Mapping[float, float], nearest: Mapping[float, np.ndarray], enlarged: np.ndarray
) -> dict[str, float]:
    """Return the SCORES of a net.

    agreement: its soft agreement for each weight of the second order. nearest: for each weight, its nearest images of random
    crops, int (crops, n, k); empty for a net that makes all images alike. enlarged: the same of the net before training, for
    enlarged images, at one weight. A crop is compared with the enlarged image's next crop: two nets that see the same crop
    would find the same images for its background alone.
    """
    other_crops = np.roll(enlarged, 1, axis=0)
    shared = [overlap(rows, other_crops) for rows in nearest.values()]
    return {CHOOSES: max(shared, default=0.0), "agreement": max(agreement.values())}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean share of a row's numbers in `one` that the same row of `other` holds too.

    Both: int (..., k), without a number twice in a row. It is 0 without numbers.
    """
    joined = np.sort(np.concatenate([one, other], axis=-1), axis=-1)  # a number that both hold stands there twice in a row
    return float((joined[..., 1:] == joined[..., :-1]).sum() / max(1, one.size))


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
