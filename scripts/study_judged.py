"""The nets of a study that were judged without labels (label_free.json of a set), for scripts/study.py. Lists the nets that
are due, and makes tables: how well each score ranks nets, and each net."""

import os
import re
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from study_results import JUDGED_FILE, NO_TRAINING, checkpoints, read

from evaluations.label_free import CHOOSES
from utils.files import write_json

CLEAR = 1.0  # points of Recall@1 that a net is clearly better or worse by
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
    """Return the existing checkpoints that are not judged yet by the present scores, or newer than the file of judged nets.

    Nets with another backbone or other crops are never due, because nets are compared with one net before training.
    """
    file = os.path.join(folder, JUDGED_FILE)
    entries = read(file) if os.path.exists(file) else ()
    judged = {entry.get("checkpoint") for entry in entries if CHOOSES in entry.get("label_free", {})}
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


def judged_tables(sets: dict[str, list[Judged]]) -> list[str]:
    """Return all tables of judged nets."""
    tables, whole = [judged_table(sets)], only_whole(sets)
    return [*tables, nets_table(whole)] if whole else tables


def only_whole(sets: dict[str, list[Judged]]) -> dict[str, list[Judged]]:
    """Return the sets with a net before training whose nets all have the score that chooses; earlier versions had others."""
    return {
        name: nets
        for name, nets in sets.items()
        if any(not net.epoch for net in nets) and all(CHOOSES in net.scores for net in nets)
    }


def judged_table(sets: dict[str, list[Judged]]) -> str:
    """Return a table with a row for each score without labels: its rank correlation in each set, and the Recall@1 of the net
    that it chooses. Nets trained with labels are ranked, but cannot be chosen."""
    choices = {name: [net for net in nets if BOUND not in net.method] for name, nets in sets.items()}
    heads = "".join(f" {name}: all nets | within a method | chosen, R@1 |" for name in sets)
    lines = ["**Scores without labels: rank correlation with R@1**", "", f"| |{heads}", "|---" * (1 + 3 * len(sets)) + "|"]
    first = next(iter(sets.values()))
    for score in [name for name in first[0].scores if all(name in net.scores for nets in sets.values() for net in nets)]:
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


def nets_table(sets: dict[str, list[Judged]]) -> str:
    """Return a table with a row for each method and a column for each set: R@1 / score of each net.

    Its last row counts the nets whose R@1 is more than CLEAR points from the start, and how many of them have a score on the
    same side.
    """
    heads = "".join(f" {name} |" for name in sets)
    lines = [f"**Each judged net: R@1 / {CHOOSES}**", "", f"| |{heads}", "|---" * (1 + len(sets)) + "|"]
    for method in sorted({net.method for nets in sets.values() for net in nets}):
        own = [[net for net in nets if net.method == method] for nets in sets.values()]
        cells = ["; ".join(shown(net) for net in nets) for nets in own]
        lines.append(f"| {method or 'no training'} | {' | '.join(cells)} |")
    counts = [directions(nets) for nets in sets.values()]
    return "\n".join([*lines, f"| direction right | {' | '.join(f'{right} of {count}' for right, count in counts)} |"])


def shown(net: Judged) -> str:
    return f"{net.recall:.1f} / {net.scores[CHOOSES]:.3f}"


def directions(nets: Sequence[Judged]) -> tuple[int, int]:
    """Return how many nets are judged in the right direction, and how many have a direction: R@1 more than CLEAR points
    above or below the start."""
    start = start_of(nets)
    gains = [(net.recall - start.recall, net.scores[CHOOSES] > start.scores[CHOOSES]) for net in nets]
    clear = [(gain > 0) == higher for gain, higher in gains if abs(gain) > CLEAR]
    return sum(clear), len(clear)


def start_of(nets: Sequence[Judged]) -> Judged:
    """Return the net before training."""
    return next(net for net in nets if not net.epoch)
