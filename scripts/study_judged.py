"""The nets of a study that were judged without labels (label_free.json of a set), for scripts/study.py: which are due, how
well each score ranks them, and the table of that."""

import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from typing import NamedTuple

from utils.files import write_json

JUDGED = "label_free.json"  # of all nets of a set
FEWEST = 3  # nets that have a rank correlation
NO_TRAINING, BOUND = "closed_form", "supervised"  # methods that have a part of their own


class Judged(NamedTuple):
    """A net that was judged without labels."""

    method: str  # its folder, whatever the seed
    epoch: int
    recall: float  # Recall@1 of unseen kinds in per cent, by the closed form
    scores: dict[str, float]  # without labels


def checkpoints(folder: str) -> set[str]:
    """Paths of the trained checkpoints in the result files of a set. Leaves with a line where one does not name its own."""
    found = set()
    for name in os.listdir(folder):
        if re.fullmatch(r".+-seed-\d+\.json", name) and not name.startswith(NO_TRAINING):
            file = os.path.join(folder, name)
            trained = [entry for entry in read(file) if entry["epoch"]]
            if any("checkpoint" not in entry for entry in trained):
                remedy = "remove it, and the study tests them again"
                print(f"{file}: does not say of which checkpoints it is; {remedy}", file=sys.stderr)
                sys.exit(2)
            found |= {entry["checkpoint"] for entry in trained}
    return found


def due(folder: str) -> list[str]:
    """Those that are still there, and not judged yet or newer than what is known of them."""
    file = os.path.join(folder, JUDGED)
    known = {entry.get("checkpoint") for entry in read(file)} if os.path.exists(file) else set()
    since = os.path.getmtime(file) if known else 0
    there = filter(os.path.exists, sorted(checkpoints(folder)))
    return [path for path in there if path not in known or os.path.getmtime(path) > since]


def add_judged(new: str, folder: str) -> None:
    """Move the entries of the file `new` to those that are known of a set, in place of older ones of the same nets."""
    known, entries = os.path.join(folder, JUDGED), read(new)
    again = {entry.get("checkpoint") for entry in entries}  # None: of the net before training, which is in both
    kept = [entry for entry in read(known) if entry.get("checkpoint") not in again] if os.path.exists(known) else []
    write_json(known, kept + entries)
    os.remove(new)


def load_judged(folder: str) -> list[Judged]:
    """What is known of a set's nets without labels; the net before training belongs to the method ""."""
    nets, found = checkpoints(folder), []
    for entry in read(os.path.join(folder, JUDGED)):
        path = entry.get("checkpoint", "")
        if entry["readout"] == "closed_form" and (not path or path in nets):
            method = re.sub(r"-seed-\d+", "", os.path.basename(os.path.dirname(path)))
            found.append(Judged(method, entry["epoch"], 100 * entry["recall"]["1"], entry["label_free"]))
    return found


def read(file: str) -> list[dict]:
    """The entries of a result file of test.py."""
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)


def rank_correlation(nets: Sequence[Judged], score: str) -> float | None:
    """Spearman's, of a score without labels with Recall@1; None where one of the two is the same for all."""
    from scipy.stats import spearmanr

    pairs = [(net.scores[score], net.recall) for net in nets]
    if len(nets) < FEWEST or any(len(set(values)) < 2 for values in zip(*pairs)):
        return None
    return float(spearmanr(*zip(*pairs)).statistic)


def judged_table(found: dict[str, list[Judged]]) -> str:
    """Each score without labels: how it ranks the nets of each set, and the Recall@1 of the one that it chooses. Those that
    were trained with labels are ranked, but cannot be chosen."""
    choices = {name: [net for net in nets if BOUND not in net.method] for name, nets in found.items()}
    heads = "".join(f" {name}: all nets | within a method | chosen, R@1 |" for name in found)
    lines = ["**Scores without labels: rank correlation with R@1**", "", f"| |{heads}", "|---" * (1 + 3 * len(found)) + "|"]
    for score in next(iter(found.values()))[0].scores:
        cells = []
        for name, nets in found.items():
            start = [net for net in nets if not net.epoch]
            methods = sorted({net.method for net in nets if net.epoch})
            own = ([net for net in nets if net.method == method] for method in methods)
            within = [rank_correlation([*start, *some], score) for some in own]
            known = [value for value in within if value is not None]
            every = rank_correlation(nets, score)
            cells.append("" if every is None else f"{every:.2f}")
            cells.append(f"{statistics.mean(known):.2f}" if known else "")
            cells.append(f"{max(choices[name], key=lambda net: net.scores[score]).recall:.2f}")
        lines.append(f"| {score} | {' | '.join(cells)} |")
    recalls = [[net.recall for net in nets] for nets in choices.values()]
    ends = [f" | | {min(some):.2f} to {max(some):.2f} |" for some in recalls]
    return "\n".join([*lines, "| to choose from |" + "".join(ends)])
