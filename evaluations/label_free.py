"""Scores of a net that need no labels, for choosing a checkpoint, a setting or a method.

Two rest on the soft agreement of two random crops (`utils/clustering/agreement.py`) in the closed form of the net, for each
weight of the second order. The third sees a net that has collapsed, which the first two do not.
"""

from collections.abc import Mapping, Sequence

CHOOSES = "evidence"
SCORES = {
    CHOOSES: "geometric mean of the agreement of the net and the agreement before training, at the best weight for both",
    "agreement": "agreement of the net at its best weight (it favours long training)",
    "rank": "effective rank of the first-order features: how many directions they use",
}
COLLAPSED = 0.03  # a net with less than this share of the rank before training has collapsed
SAMPLE = 2048  # images that nets are judged by, at most: time and memory grow with their square


def label_free(
    agreement: Mapping[float, float], rank: float, before: Mapping[float, float], rank_before: float
) -> dict[str, float]:
    """Return the SCORES of a net.

    agreement: its soft agreement for each weight. rank: the effective rank of its first-order features. before, rank_before:
    the same of the net before training.

    Training raises the agreement at small weights whether it helps or not, because first-order features are what it changes
    most. A weight counts as much as the net before training agrees there, so such a rise counts little.
    """
    shared = agreement.keys() & before.keys()
    evidence = max((agreement[weight] * before[weight]) ** 0.5 for weight in shared)
    if rank < COLLAPSED * rank_before:
        evidence = 0.0
    return {CHOOSES: evidence, "agreement": max(agreement.values()), "rank": rank}


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
