"""Chooses the constants of the weight's rule (`models/choice.py`) on all sets but one, and tests them on that one.

    python scripts/closed_form_rule.py birds=~/data/CUB100 groceries=~/data/GroceryStore cars=~/data/Cars196 demo

Sets are named as in scripts/study.sh. Closed forms are fitted to half of the classes of a training list, and scored on the
other half. The constants with which the chosen weight loses the fewest points of Recall@1, on average, are taken.
They are tested on the test classes of the set that was left out. Nets that scripts/study.sh trained in the same root take
part, with HELD_OUT=1 and without. Frozen nets also test other scores, and a sum over all weights. Features and results are
kept below ROOT/weight_rule.
"""

import argparse
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from closed_form_features import DIMS, Features
from closed_form_fits import Results
from closed_form_print import table
from closed_form_weights import FEWEST, OTHER, TEMPERATURES, Net
from study_results import HELD_OUT, STUDY, checkpoints
from study_sets import parse, prepare

from models.choice import RULE, WEIGHTS, Rule, best
from utils.errors import InputError, exit_on_error

TIES = (0.0, 0.005, 0.01, 0.02, 0.04)
RULES = [Rule(*values) for values in product(TEMPERATURES, TIES, FEWEST)]
TRAINED = ("shared_neighbours",)  # methods of the study whose nets take part
OWN, BEFORE = "the trained net's agreement alone", "the agreement before training alone"


class Case(NamedTuple):
    """A net on a set, at one number of dimensions: Recall@1 and scores for each of WEIGHTS."""

    set: str
    study: str  # HELD_OUT: classes held out from the training list; STUDY: the test classes
    net: str
    dim: int
    recall: list[float]  # shares
    agreement: dict[tuple[float, int], list[float]]  # of (temperature, fewest)
    other: dict[str, list[float]]  # of frozen nets: other scores; of trained nets: OWN and BEFORE
    together: float | None  # of frozen nets: Recall@1 of the sum of similarities over all weights

    def chosen(self, rule: Rule) -> int:
        """Return the place of the weight that the rule chooses."""
        return best(self.agreement[rule.temperature, rule.fewest], rule.tie)

    def lost(self, rule: Rule) -> float:
        """Return the points of Recall@1 that the weight chosen by the rule loses against the best weight."""
        return self.lost_at(self.chosen(rule))

    def lost_at(self, place: int) -> float:
        return 100 * (max(self.recall) - self.recall[place])


def cases_of(name: str, study: str, label: str, found: Mapping, before: Mapping | None = None) -> list[Case]:
    """Return a Case of a net for each of DIMS. found: results of the net. before: results of the net before training."""

    def column(dim: int, key: str, results: Mapping = found) -> list[float]:
        return [row[str(dim)][key] for row in results["weights"].values()]

    def combined(dim: int, key: str) -> list[float]:
        pairs = zip(column(dim, key), column(dim, key, before or found))
        return [(own * start) ** 0.5 for own, start in pairs]

    keys = {(temperature, fewest): f"{temperature:g}/{fewest}" for temperature, fewest in product(TEMPERATURES, FEWEST)}
    cases = []
    for dim in DIMS:
        agreement = {values: combined(dim, key) for values, key in keys.items()}
        if before:
            in_use = keys[RULE.temperature, RULE.fewest]
            other, together = {OWN: column(dim, in_use), BEFORE: column(dim, in_use, before)}, None
        else:
            other, together = {score: column(dim, score) for score in OTHER}, found["together"]["all weights"][str(dim)]
        cases.append(Case(name, study, label, dim, column(dim, "R@1"), agreement, other, together))
    return cases


def measure(name: str, folder: str, study: str, args: argparse.Namespace) -> list[Case]:
    """Return the cases of a set, of frozen and trained nets."""
    scratch, lists = Path(args.root) / "weight_rule", prepare(name, folder, study, args.root)

    def results_of(label: str, net: str, checkpoint: str | None = None) -> dict:
        if checkpoint:  # of another training: features and results of its own
            label += f"-{os.path.getmtime(checkpoint):.0f}"
        features = Features(lists, net, args.width, scratch, checkpoint, f"{name}-{study}-{label}-{args.width}")
        results, measured = Results(scratch / f"{features.name}.json"), Net(features)
        for weight in WEIGHTS:
            results.row("weights", f"{weight:g}", partial(measured.row, weight))
        if not checkpoint:
            results.row("together", "all weights", measured.together)
        return results.found

    start = {net: results_of(net, net) for net in args.nets}
    cases = [case for net in args.nets for case in cases_of(name, study, net, start[net])]
    for method in TRAINED:
        net = args.nets[0]
        if checkpoint := last_checkpoint(os.path.join(args.root, study, name), method):
            found = results_of(method, net, checkpoint)
            cases += cases_of(name, study, f"{net}, {method}", found, start[net])
        else:
            print(f"{name}: {study} has no net of {method}; left out", file=sys.stderr)
    return cases


def last_checkpoint(folder: str, method: str) -> str | None:
    """Return the last checkpoint of a method's first run in the study whose checkpoints exist; None without one."""
    paths = checkpoints(folder).items() if os.path.isdir(folder) else ()
    existing = [(path, run) for path, run in paths if re.fullmatch(rf"{method}-seed-\d+", run) and os.path.exists(path)]
    return [path for path, run in existing if run == existing[0][1]][-1] if existing else None


def chosen_rule(cases: Sequence[Case]) -> Rule:
    """Return the rule that loses least on average. Of equal rules, the one next to the middle of the grid is taken."""
    middle = Rule(*(values[len(values) // 2] for values in (TEMPERATURES, TIES, FEWEST)))

    def order(rule: Rule) -> tuple[float, int]:
        return round(statistics.mean(case.lost(rule) for case in cases), 6), sum(a != b for a, b in zip(rule, middle))

    return min(RULES, key=order)


def lost(cases: Iterable[Case], lost_by: Callable[[Case], float]) -> str:
    """Return the mean and the largest number of points lost, as text."""
    points = [lost_by(case) for case in cases]
    return f"{statistics.mean(points):.2f} / {max(points):.2f}"


def compared(held: Sequence[Case], test: Sequence[Case], lost_by: Callable[[Case], float], trained: bool) -> list[str]:
    """Return what is lost on held-out and on test classes, by trained or by frozen nets. "" where there are none."""
    parts = ([case for case in part if (case.together is None) == trained] for part in (held, test))
    return [lost(part, lost_by) if part else "" for part in parts]


def print_tables(cases: Sequence[Case]) -> None:
    """Print what rules chosen on all sets but one lose there, what one constant changes, other scores, and each case."""
    held, test = ([case for case in cases if case.study == study] for study in (HELD_OUT, STUDY))
    in_use = lambda case: case.lost(RULE)
    rows = []
    for name in dict.fromkeys(case.set for case in cases):
        rule = chosen_rule([case for case in held if case.set != name])
        own = [case for case in test if case.set == name]
        constants = [f"{rule.temperature:g}", f"{100 * rule.tie:g} %", rule.fewest]
        rows.append([name, *constants, lost(own, lambda case: case.lost(rule)), lost(own, in_use)])
    headings = ["left out", "temperature", "tie", "images a direction", "it loses", "the rule in use loses"]
    title = "The rule chosen on held-out classes of the other sets: mean / most points lost on test classes of the left one"
    table(title, headings, rows)

    rows = []
    for field, values in zip(Rule._fields, (TEMPERATURES, TIES, FEWEST)):
        for value in values:
            rule = RULE._replace(**{field: value})
            points = [lost(part, lambda case: case.lost(rule)) for part in (held, test)]
            rows.append([field, f"{value:g}", "in use" if rule == RULE else "", *points])
    table(
        "One constant changed: mean / most points lost", ["constant", "value", "", "held-out classes", "test classes"], rows
    )

    scores = {score: lambda case, score=score: case.lost_at(int(np.argmax(case.other[score]))) for score in OTHER}
    scores["no choice: similarities summed over all weights"] = lambda case: 100 * (max(case.recall) - case.together)
    scores["soft agreement, the rule in use"] = in_use
    rows = [[score, *compared(held, test, lost_by, trained=False)] for score, lost_by in scores.items()]
    headings = ["score", "held-out classes", "test classes"]
    table("Other scores, frozen nets: mean / most points lost", headings, rows)

    alone = lambda case, score: case.lost_at(best(case.other[score], RULE.tie))
    scores = {OWN: lambda case: alone(case, OWN), BEFORE: lambda case: alone(case, BEFORE), "both, the rule in use": in_use}
    rows = [[score, *compared(held, test, lost_by, trained=True)] for score, lost_by in scores.items()]
    table("Trained nets: mean / most points lost", headings, rows)

    rows = []
    for case in test:
        choice = f"{WEIGHTS[case.chosen(RULE)]:g}"
        rows.append([case.set, case.net, case.dim, *case.recall, choice, f"{case.lost(RULE):.2f}"])
    headings = ["set", "net", "dim", *(f"{weight:g}" for weight in WEIGHTS), "chosen", "points lost"]
    table("R@1 of the test classes for each weight, and the weight chosen by the rule in use", headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("sets", nargs="+", metavar="SET", help="NAME=FOLDER, or demo")
    parser.add_argument("--root", default="results", help="folder of results, as ROOT of scripts/study.sh")
    parser.add_argument(
        "--nets", nargs="+", default=["EfficientNet-Lite0"], help="nets to test; the study trained the first one"
    )
    parser.add_argument("--width", type=int, default=128, help="side of the crops; an image's shorter side is 9/8 of it")
    args = parser.parse_args()
    args.root = os.path.abspath(args.root)
    sets = parse(" ".join(args.sets), os.getcwd(), args.root)
    if len(sets) < 3:
        raise InputError("give at least three sets: the rule is chosen on all but one")
    cases = []
    for name, folder in sets.items():
        for study in (HELD_OUT, STUDY):
            cases += measure(name, folder, study, args)
    print_tables(cases)


if __name__ == "__main__":
    exit_on_error(main)
