"""The nets of a study that were judged without labels (label_free.json of a set), for scripts/study.py. Lists the nets that
are due, and makes the table of how well each score ranks nets."""

import os
import re
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from study_results import JUDGED_FILE, NO_TRAINING, checkpoints, read

from utils.files import write_json

FEWEST = 3  # nets that a rank correlation needs
BOUND = "supervised"  # the method with labels
OTHER_START = re.compile(",(NET|WIDTH|ORIGIN_WIDTH)=")  # in a word of METHODS: the net before training is another one


class Judged(NamedTuple):
    """A net that was judged without labels."""

    method: str  # a word of METHODS
    epoch: int
    recall: float  # Recall@1 of unseen classes in per cent, by the closed form
    scores: dict[str, float]  # without labels


def due(folder: str) -> list[str]:
    """Return the existing checkpoints that are not judged yet, or newer than the file of judged nets.

    Nets with another backbone or other crops are never due, because nets are compared with one net before training.
    """
    file = os.path.join(folder, JUDGED_FILE)
    judged = {entry.get("checkpoint") for entry in read(file)} if os.path.exists(file) else set()
    since = os.path.getmtime(file) if judged else 0
    runs = checkpoints(folder).items()
    trained = (path for path, run in runs if not run.startswith(NO_TRAINING) and not OTHER_START.search(run))
    existing = filter(os.path.exists, sorted(trained))
    return [path for path in existing if path not in judged or os.path.getmtime(path) > since]


def add_judged(new: str, folder: str) -> None:
    """Move the entries of the file `new` into a set's file of judged nets. They replace older entries of the same nets."""
    judged, entries = os.path.join(folder, JUDGED_FILE), read(new)
    again = {entry.get("checkpoint") for entry in entries}  # None: the net before training, which is in both files
    kept = [entry for entry in read(judged) if entry.get("checkpoint") not in again] if os.path.exists(judged) else []
    write_json(judged, kept + entries)
    os.remove(new)


def judged_nets(entries: Sequence[dict]) -> list[Judged]:
    """Return the judged nets of a set from its entries in `study_results.collect`. The method before training is ""."""
    return [
        Judged(re.sub(r"-seed-\d+$", "", entry["run"]), entry["epoch"], 100 * entry["recall"]["1"], entry["label_free"])
        for entry in entries
    ]


def rank_correlation(nets: Sequence[Judged], score: str) -> float | None:
    """Return Spearman's rho of a score without labels with Recall@1; None for too few nets, or where either is constant."""
    from scipy.stats import spearmanr

    pairs = [(net.scores[score], net.recall) for net in nets]
    if len(nets) < FEWEST or any(len(set(values)) < 2 for values in zip(*pairs)):
        return None
    return float(spearmanr(*zip(*pairs)).statistic)


def judged_table(sets: dict[str, list[Judged]]) -> str:
    """Return a table with a row for each score without labels: its rank correlation in each set, and the Recall@1 of the net
    that it chooses. Nets trained with labels are ranked, but cannot be chosen."""
    choices = {name: [net for net in nets if BOUND not in net.method] for name, nets in sets.items()}
    heads = "".join(f" {name}: all nets | within a method | chosen, R@1 |" for name in sets)
    lines = ["**Scores without labels: rank correlation with R@1**", "", f"| |{heads}", "|---" * (1 + 3 * len(sets)) + "|"]
    first, *others = sets.values()
    for score in [name for name in first[0].scores if all(name in nets[0].scores for nets in others)]:
        cells = []
        for name, nets in sets.items():
            start = [net for net in nets if not net.epoch]
            methods = sorted({net.method for net in nets if net.epoch})
            own = ([net for net in nets if net.method == method] for method in methods)
            within = [rank_correlation([*start, *trained], score) for trained in own]
            defined = [value for value in within if value is not None]
            every = rank_correlation(nets, score)
            cells.append("" if every is None else f"{every:.2f}")
            cells.append(f"{statistics.mean(defined):.2f}" if defined else "")
            cells.append(f"{max(choices[name], key=lambda net: net.scores[score]).recall:.2f}")
        lines.append(f"| {score} | {' | '.join(cells)} |")
    recalls = [[net.recall for net in nets] for nets in choices.values()]
    ends = [f" | | {min(each):.2f} to {max(each):.2f} |" for each in recalls]
    return "\n".join([*lines, "| to choose from |" + "".join(ends)])
