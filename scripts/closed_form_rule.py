"""Chooses the constants of the weight's rule (`models/choice.py`) on all sets but one, and tests them on that one.

    python scripts/closed_form_rule.py birds=~/data/CUB100 groceries=~/data/GroceryStore cars=~/data/Cars196 demo

Sets are named as in scripts/study.sh. The constants are chosen on classes held out from the training lists, by closed forms
that are fitted to the other classes: the rule that loses the fewest points of Recall@1 against the best weight, on average.
They are tested on the test classes of the set that was left out. Nets of seed 0 that scripts/study.sh trained in the same
root, with HELD_OUT=1 and without, take part. Features and results are kept below ROOT/weight_rule.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from closed_form_features import DIMS, Frozen
from closed_form_fits import Results, Sight, scored
from closed_form_print import table
from study_results import checkpoints
from study_sets import HELD_OUT, STUDY, parse, prepare

from models.choice import LAST_WEIGHT, RULE, WEIGHTS, Rule, best, leading
from utils.clustering.agreement import soft_agreement
from utils.errors import InputError, exit_on_error

TEMPERATURES, TIES, FEWEST = (0.6, 0.8, 1.0, 1.25, 1.6), (0.0, 0.005, 0.01, 0.02, 0.04), (2, 4, 8)
RULES = [Rule(*values) for values in product(TEMPERATURES, TIES, FEWEST)]
TRAINED = ("shared_neighbours",)  # methods of the study whose nets take part


class Case(NamedTuple):
    """A net on a set, at one number of dimensions: Recall@1 and agreements for each of WEIGHTS."""

    set: str
    study: str  # HELD_OUT: classes held out from the training list; STUDY: the test classes
    net: str
    dim: int
    recall: list[float]  # shares
    agreement: dict[tuple[float, int], list[float]]  # of (temperature, fewest)

    def chosen(self, rule: Rule) -> int:
        """Return the place of the weight that the rule chooses."""
        return best(self.agreement[rule.temperature, rule.fewest], rule.tie)

    def lost(self, rule: Rule) -> float:
        """Return the points of Recall@1 that the weight chosen by the rule loses against the best weight."""
        return 100 * (max(self.recall) - self.recall[self.chosen(rule)])


def measured(frozen: Frozen, results: Results) -> dict[str, dict]:
    """Return {weight: {dim: {"R@1": share, "TEMPERATURE/FEWEST": soft agreement}}} of a net."""
    sight = None
    for weight in WEIGHTS:

        def compute():
            nonlocal sight
            sight = sight or Sight(frozen)
            forms = sight.forms((1.0, weight, LAST_WEIGHT), torch.float32)
            return {str(dim): {**agreements(form, sight.views), "R@1": recall(form)} for dim, form in forms.items()}

        def recall(form):
            embedded = form.project(torch.from_numpy(frozen.array("test_description"))).numpy()
            return scored(embedded, frozen.test_labels, ("recall",))["R@1"]

        results.row("weights", f"{weight:g}", compute)
    return results.found["weights"]


def agreements(form, views) -> dict[str, float]:
    """Return the soft agreement of a closed form for each temperature and each number of images a direction."""
    values = {}
    for fewest in FEWEST:
        centre, *crops = leading(form, views, fewest)
        for temperature in TEMPERATURES:
            values[f"{temperature:g}/{fewest}"] = soft_agreement(centre, crops, temperature)
    return values


def cases_of(name: str, study: str, net: str, rows: Mapping[str, dict], before: Mapping[str, dict] | None) -> list[Case]:
    """Return the cases of a net, one for each of DIMS. before: of a trained net, the rows of the net before training."""

    def agreement(dim: str, key: str) -> list[float]:
        own = [row[dim][key] for row in rows.values()]
        return [(a * b[dim][key]) ** 0.5 for a, b in zip(own, before.values())] if before else own

    keys = {(temperature, fewest): f"{temperature:g}/{fewest}" for temperature, fewest in product(TEMPERATURES, FEWEST)}
    return [
        Case(
            *(name, study, net, dim),
            [row[str(dim)]["R@1"] for row in rows.values()],
            {values: agreement(str(dim), key) for values, key in keys.items()},
        )
        for dim in DIMS
    ]


def measure(name: str, folder: str, study: str, args: argparse.Namespace) -> list[Case]:
    """Return the cases of a set, of frozen and trained nets."""
    scratch, lists = Path(args.root) / "weight_rule", prepare(name, folder, study, args.root)
    cases, frozen_rows = [], {}

    def rows_of(label, net, checkpoint=None):
        frozen = Frozen(lists, net, args.width, scratch, checkpoint=checkpoint, name=f"{name}-{study}-{label}-{args.width}")
        return measured(frozen, Results(scratch / f"{frozen.name}.json"))

    for net in args.nets:
        frozen_rows[net] = rows_of(net, net)
        cases += cases_of(name, study, net, frozen_rows[net], None)
    for method in TRAINED:
        if checkpoint := last_checkpoint(os.path.join(args.root, study, name), f"{method}-seed-0"):
            rows = rows_of(method, args.nets[0], checkpoint)
            cases += cases_of(name, study, f"{args.nets[0]}, {method}", rows, frozen_rows[args.nets[0]])
        else:
            print(f"{name}: {study} has no net of {method} with seed 0; left out", file=sys.stderr)
    return cases


def last_checkpoint(folder: str, run: str) -> str | None:
    """Return the last existing checkpoint of a run of the study; None without one."""
    paths = [path for path, name in checkpoints(folder).items() if name == run] if os.path.isdir(folder) else []
    existing = [path for path in paths if os.path.exists(path)]
    return existing[-1] if existing else None


def lost(cases: Iterable[Case], rule: Rule) -> tuple[float, float]:
    """Return the mean and the largest number of points that a rule loses."""
    points = [case.lost(rule) for case in cases]
    return statistics.mean(points), max(points)


def chosen_rule(cases: list[Case]) -> Rule:
    """Return the rule that loses least on average. Of equal rules, the one next to the middle of the grid is taken."""
    middle = Rule(*(values[len(values) // 2] for values in (TEMPERATURES, TIES, FEWEST)))
    return min(RULES, key=lambda rule: (round(lost(cases, rule)[0], 6), sum(a != b for a, b in zip(rule, middle))))


def points(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f} / {values[1]:.2f}"


def print_tables(cases: list[Case]) -> None:
    """Print what rules chosen on all sets but one lose on that set, what one constant changes, and each case."""
    held, test = ([case for case in cases if case.study == study] for study in (HELD_OUT, STUDY))
    rows = []
    for name in dict.fromkeys(case.set for case in cases):
        rule = chosen_rule([case for case in held if case.set != name])
        own = [case for case in test if case.set == name]
        constants = [f"{rule.temperature:g}", f"{100 * rule.tie:g} %", rule.fewest]
        rows.append([name, *constants, points(lost(own, rule)), points(lost(own, RULE))])
    headings = ["left out", "temperature", "tie", "images a direction", "it loses", "the rule in use loses"]
    title = (
        "The rule chosen on held-out classes of the other sets; mean / most points lost on test classes of the set left out"
    )
    table(title, headings, rows)
    rows = []
    for field, values in zip(Rule._fields, (TEMPERATURES, TIES, FEWEST)):
        for value in values:
            rule = RULE._replace(**{field: value})
            use = "in use" if rule == RULE else ""
            rows.append([field, f"{value:g}", use, points(lost(held, rule)), points(lost(test, rule))])
    headings = ["constant", "value", "", "held-out classes", "test classes"]
    table("One constant changed, all sets: mean / most points lost", headings, rows)
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
    parser.add_argument("--nets", nargs="+", default=["EfficientNet-Lite0"], help="frozen nets; the first one was trained")
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
