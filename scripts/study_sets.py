"""The sets of a study, for scripts/study.sh. Finds the folder and the number of clusters of each set, and checks all sets
before anything is trained.

python scripts/study_sets.py --sets "mine=~/my_set demo" --here FOLDER --root ROOT --study study [--clusters K]
    [--steps STEPS] [--minutes MINUTES]

Prints a line for each set: name, folder with the lists, number of clusters, folder with the images; with tabs between them.
"""

import argparse
import os
import re
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from study_budget import begin
from study_results import COMPARE, HELD_OUT, STUDY

from data.dataset import read_test, read_train, why_no_test
from data.demo import make_demo
from data.held_out import hold_out
from utils import log
from utils.errors import InputError, exit_on_error
from utils.files import written_whole

DEMO = "demo"  # the word in SETS for the built-in set
STEPS, STEPS_OF_DEMO = 150, 64  # of udml_ss: the budget
LISTS = "give it both lists, with labels (docs/results.md), or compare methods without lists by COMPARE=..."


def parse(words: str, here: str, root: str) -> dict[str, str]:
    """Return {name: folder} of the words in SETS. Raises InputError for a wrong name and for a folder that does not exist.

    here: the folder that relative paths start at. root: its data/demo is the folder of the word `demo`.
    """
    sets: dict[str, str] = {}
    for word in words.split():
        name, equals, path = word.partition("=")
        if not equals or "/" in name:  # a path alone
            name, path = os.path.basename(word.rstrip("/")), word
        folder = os.path.normpath(os.path.join(here, os.path.expanduser(path) if re.match("~(/|$)", path) else path))
        if word == DEMO:
            folder = os.path.join(root, "data", DEMO)
        elif name == DEMO:
            raise InputError(f"SETS: {word}: `{DEMO}` is the built-in set; give another name, as NAME={path}")
        elif not re.fullmatch(r"\w[\w.+-]*", name):
            raise InputError(f"SETS: {word}: give a name of letters, digits and . _ + -, as NAME={path}")
        elif not path or not os.path.isdir(folder):
            raise InputError(f"SETS: {word}: no such folder (a path with spaces needs a link without spaces)")
        if name in sets:
            raise InputError(f"SETS: two sets are called {name}; give one another name, as NAME={path}")
        sets[name] = folder
    if not sets:
        raise InputError("SETS: names no set")
    return sets


def prepare(name: str, folder: str, study: str, root: str) -> str:
    """Return the folder whose lists the study uses, and write its lists where needed. Raises InputError for wrong lists."""
    if folder == os.path.join(root, "data", DEMO):
        make_demo(folder)
    if study == COMPARE:
        return without_test_list(folder, os.path.join(root, "data", f"{name}-compare"))
    if not os.path.exists(os.path.join(folder, "train.txt")):
        raise InputError(f"{name}: {folder}: no train.txt; {LISTS}")
    if study == HELD_OUT:
        hold_out(folder, os.path.join(root, "data", f"{name}-held_out"))
        folder = os.path.join(root, "data", f"{name}-held_out")
    if reason := why_no_test(folder):
        raise InputError(f"{name}: {folder}: {reason}; {LISTS}")
    read_test(folder)
    return folder


def without_test_list(folder: str, target: str) -> str:
    """Write `target`/train.txt, a list of the images in `folder` that training may use. Return `target`.

    Labels are kept where there are some. Raises InputError if `target` has a list of other images.
    """
    images = read_train(folder)
    ends = [""] * len(images) if images.labels is None else [f" {label}" for label in images.labels.tolist()]
    lines = "".join(f"{path}{end}\n" for path, end in zip(images.paths, ends)).encode("utf-8", "surrogateescape")
    file = os.path.join(target, "train.txt")
    if os.path.exists(file):
        with open(file, "rb") as opened:
            if opened.read() != lines:
                raise InputError(f"{folder}: its images have changed since {file} was written; give another ROOT")
        return target
    log.make_folder(target)
    with written_whole(file) as out:
        out.write(lines)
    return target


def count_clusters(name: str, folder: str, study: str, clusters: str) -> str:
    """Return the number of clusters: K if it is given, else the number of classes; "auto" without using labels."""
    if clusters or study == COMPARE:
        return clusters or "auto"
    labels = read_train(folder).labels
    if labels is None:
        raise InputError(f"{name}: {folder}/train.txt has lines without a label; put K=NUMBER in front of the command")
    return str(len(np.unique(labels)))


def budget(name: str, study: str, steps: str, minutes: str) -> str:
    """Return the budget of a set's methods as `study_budget.begin` takes it."""
    if minutes:
        return f"MINUTES={minutes}"
    default = STEPS_OF_DEMO if name == DEMO else STEPS
    return f"STEPS={steps or (default // 2 if study == HELD_OUT else default)}"  # half of the classes, so half of the steps


def check(args: argparse.Namespace) -> None:
    """Raise InputError for numbers in the environment that are none."""
    for name, text, pattern in (
        ("K", args.clusters, r"0*([2-9]|[1-9]\d+)"),
        ("STEPS", args.steps, r"0*[1-9]\d*"),
        ("MINUTES", args.minutes, r"(?=.*[1-9])\d+(\.\d+)?"),
    ):
        if text and not re.fullmatch(pattern, text):
            least = "a whole number, at least 2" if name == "K" else "a number above 0"
            raise InputError(f"{name}={text}: must be {least}")
    if args.steps and args.minutes:
        raise InputError("STEPS and MINUTES are both given; the budget is one of them")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check the sets of a study, and print where they are.")
    parser.add_argument("--sets", required=True, help="words NAME=PATH, PATH or demo")
    parser.add_argument("--here", required=True, help="the folder that relative paths start at")
    parser.add_argument("--root", required=True, help="the folder of results")
    parser.add_argument("--study", choices=(STUDY, HELD_OUT, COMPARE), required=True)
    parser.add_argument("--clusters", default="", help="the number of clusters (default: the number of classes)")
    parser.add_argument("--steps", default="", help="the budget in steps of udml_ss")
    parser.add_argument("--minutes", default="", help="the budget in minutes")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    log.listen()  # stdout is for the sets
    check(args)
    lines = []
    for name, folder in parse(args.sets, args.here, args.root).items():
        used = prepare(name, folder, args.study, args.root)
        clusters = count_clusters(name, used, args.study, args.clusters)
        begin(os.path.join(args.root, args.study, name), budget(name, args.study, args.steps, args.minutes), clusters)
        lines.append(f"{name}\t{used}\t{clusters}\t{folder}")
    print("\n".join(lines))


if __name__ == "__main__":
    exit_on_error(main)
