"""The nets of a study that were judged without labels (label_free.json of a set), for scripts/study.py. Lists the nets that
are due, and makes the table of how well each score ranks nets."""

import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from typing import NamedTuple

from utils.files import write_json

JUDGED = "label_free.json"  # the file of a set's judged nets
FEWEST = 3  # nets that a rank correlation needs
NO_TRAINING, BOUND = "closed_form", "supervised"  # the methods without training, and with labels


class Judged(NamedTuple):
    """A net that was judged without labels."""

    method: str  # its folder's name without the seed
    epoch: int
    recall: float  # Recall@1 of unseen classes in per cent, by the closed form
    scores: dict[str, float]  # without labels


def checkpoints(folder: str) -> set[str]:
    """Return the paths of the trained checkpoints in a set's result files. Exits where a file names no checkpoints."""
    paths = set()
    for name in os.listdir(folder):
        if re.fullmatch(r".+-seed-\d+\.json", name) and not name.startswith(NO_TRAINING):
            file = os.path.join(folder, name)
            trained = [entry for entry in read(file) if entry["epoch"]]
            if any("checkpoint" not in entry for entry in trained):
                remedy = "remove it, and the study tests them again"
                print(f"{file}: does not name its checkpoints; {remedy}", file=sys.stderr)
                sys.exit(2)
            paths |= {entry["checkpoint"] for entry in trained}
    return paths


def due(folder: str) -> list[str]:
    """Return the existing checkpoints that are not judged yet, or newer than the file of judged nets."""
    file = os.path.join(folder, JUDGED)
    judged = {entry.get("checkpoint") for entry in read(file)} if os.path.exists(file) else set()
    since = os.path.getmtime(file) if judged else 0
    existing = filter(os.path.exists, sorted(checkpoints(folder)))
    return [path for path in existing if path not in judged or os.path.getmtime(path) > since]


def add_judged(new: str, folder: str) -> None:
    """Move the entries of the file `new` into a set's file of judged nets. They replace older entries of the same nets."""
    judged, entries = os.path.join(folder, JUDGED), read(new)
    again = {entry.get("checkpoint") for entry in entries}  # None: the net before training, which is in both files
    kept = [entry for entry in read(judged) if entry.get("checkpoint") not in again] if os.path.exists(judged) else []
    write_json(judged, kept + entries)
    os.remove(new)


def load_judged(folder: str) -> list[Judged]:
    """Read a set's judged nets. The net before training belongs to the method ""."""
    nets, judged = checkpoints(folder), []
    for entry in read(os.path.join(folder, JUDGED)):
        path = entry.get("checkpoint", "")
        if entry["readout"] == "closed_form" and (not path or path in nets):
            method = re.sub(r"-seed-\d+", "", os.path.basename(os.path.dirname(path)))
            judged.append(Judged(method, entry["epoch"], 100 * entry["recall"]["1"], entry["label_free"]))
    return judged


def read(file: str) -> list[dict]:
    """Read the entries of a result file of test.py."""
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)


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
    for score in next(iter(sets.values()))[0].scores:
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
