"""The epochs that fill the budget of a study, for scripts/study.sh. RESULTS/SET/budget/METHOD keeps the number of epochs,
which a person may edit.

python scripts/study_budget.py missing RESULTS/SET METHOD      # lists the methods that need a dry run first
python scripts/study_budget.py epochs RESULTS/SET METHOD       # prints the epochs, from budget/METHOD if it exists

A dry run of METHOD is the output of `train.py --dry_run`, in budget/METHOD.dry_run.
"""

import math
import os
import re
import sys
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from utils.errors import InputError, exit_on_error

REFERENCE = "udml_ss"  # its steps are the unit of STEPS
SAME = {"supervised": REFERENCE}  # method -> the method whose epochs it takes
FIXED = {"closed_form": 1, "frozen": 1, "shared_neighbours": 20}  # recipes with a number of epochs of their own
CLUSTERS_A_STEP = 16  # of udml_ss: a batch of 80 images, 5 of each cluster


class Budget(NamedTuple):
    """The budget of a set, and its number of clusters."""

    steps: int | None  # of udml_ss; None if the budget is in minutes
    minutes: float | None
    clusters: int | None  # None: the method finds it ("auto")


class DryRun(NamedTuple):
    """The looks and steps of a run of so many epochs, and their seconds, as a dry run measured them."""

    epochs: int
    looks: int  # in these epochs
    look: float  # seconds
    steps: int
    step: float

    @property
    def seconds(self) -> float:
        return self.looks * self.look + self.steps * self.step

    def __str__(self) -> str:
        looks, steps = f"{self.looks} looks of {self.look:.2f} s", f"{self.steps} steps of {self.step:.2f} s"
        return f"{looks} and {steps} in {self.epochs} epochs"


def place(folder: str, name: str) -> str:
    """Return the path of a file in the folder of budgets of a set."""
    return os.path.join(folder, "budget", name)


def begin(folder: str, budget: str, clusters: str) -> None:
    """Note the budget of a set. Raises InputError if work was begun with another budget.

    folder: RESULTS/SET. budget: STEPS=150 or MINUTES=10. clusters: a number, or auto.
    """
    file, line = place(folder, "settings"), f"{budget} K={clusters}"
    if os.path.exists(file):
        with open(file, encoding="utf-8") as opened:
            before = opened.read().strip()
        if before == line:
            return
        if sum(len(files) for _, _, files in os.walk(folder)) > 1:
            raise InputError(f"{folder}: begun with {before}, not with {line}; give another ROOT, or remove this folder")
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "w", encoding="utf-8") as out:
        out.write(f"{line}\n")


def read_budget(folder: str) -> Budget:
    with open(place(folder, "settings"), encoding="utf-8") as opened:
        words = dict(word.split("=") for word in opened.read().split())
    steps, minutes, clusters = words.get("STEPS"), words.get("MINUTES"), words["K"]
    return Budget(
        int(steps) if steps else None, float(minutes) if minutes else None, None if clusters == "auto" else int(clusters)
    )


def read_dry_run(file: str) -> DryRun:
    """Read the output of train.py --dry_run. Raises InputError where it has no times."""
    with open(file, encoding="utf-8", errors="replace") as opened:
        text = opened.read()
    lines = re.findall(r"^  a (\w+) +(\d+) x +([\d.]+) s$", text, re.M)
    parts = {name: (int(times), float(seconds)) for name, times, seconds in lines}
    epochs = re.search(r"^dry run of \d+ images, (\d+) epochs", text, re.M)
    if epochs is None:
        raise InputError(f"{file}: no output of a dry run; remove it")
    return DryRun(int(epochs[1]), *parts.get("look", (0, 0.0)), *parts.get("step", (0, 0.0)))


def needed(folder: str, method: str) -> list[str]:
    """Return the methods whose dry runs decide the epochs of `method`."""
    method, budget = SAME.get(method, method), read_budget(folder)
    if method in FIXED or method == REFERENCE and budget.steps and budget.clusters:
        return []
    return [REFERENCE, method] if budget.steps and method != REFERENCE else [method]


def missing(folder: str, method: str) -> list[str]:
    """Return the methods that still need a dry run before `epochs(folder, method)`."""
    if any(os.path.exists(place(folder, name)) for name in (method, SAME.get(method, method))):
        return []
    return [name for name in needed(folder, method) if not os.path.exists(place(folder, f"{name}.dry_run"))]


def epochs(folder: str, method: str) -> int:
    """Return the epochs that `method` trains. The first time, derive them and write budget/METHOD."""
    file = place(folder, method)
    if not os.path.exists(file):
        number, reason = derive(folder, method)
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"{number}\n{reason}\n")
    with open(file, encoding="utf-8") as opened:
        first = opened.readline().strip()
    if not re.fullmatch(r"0*[1-9]\d*", first):
        raise InputError(f"{file}:1: {first or 'nothing'}: must be the number of epochs; correct or remove the file")
    return int(first)


def derive(folder: str, method: str) -> tuple[int, str]:
    """Return the epochs of `method`, and how they were found."""
    budget = read_budget(folder)
    if method in SAME:
        return epochs(folder, SAME[method]), f"epochs, as {SAME[method]}"
    if method in FIXED:
        return FIXED[method], "epochs: the method's recipe, whatever the budget"
    if method == REFERENCE and budget.steps and budget.clusters:
        each = max(1, budget.clusters // CLUSTERS_A_STEP)
        why = f"{budget.clusters} clusters, {CLUSTERS_A_STEP} in a step"
        return math.ceil(budget.steps / each), f"epochs: {budget.steps} steps, {each} in an epoch ({why})"
    run = read_dry_run(place(folder, f"{method}.dry_run"))
    if not run.seconds:
        return 1, f"epochs: the dry run took no time ({run})"
    if method == REFERENCE and budget.steps and run.steps:
        return math.ceil(budget.steps * run.epochs / run.steps), f"epochs: {budget.steps} steps; dry run: {run}"
    seconds, about = allowed(folder, budget)
    number = max(1, int(seconds * run.epochs / run.seconds))
    return number, f"epochs fit into {seconds:.1f} s{about}\n{method}, dry run: {run}"


def allowed(folder: str, budget: Budget) -> tuple[float, str]:
    """Return the seconds of looks and steps that a method may take, and the reason."""
    if budget.minutes:
        return 60 * budget.minutes, f", {budget.minutes:g} minutes"
    run = read_dry_run(place(folder, f"{REFERENCE}.dry_run"))
    if not budget.steps or not run.steps:
        raise InputError(f"{place(folder, REFERENCE)}.dry_run: without a step; give MINUTES=... and another ROOT")
    reason = f", the time of {budget.steps} steps of {REFERENCE}\n{REFERENCE}, dry run: {run}"
    return budget.steps * run.seconds / run.steps, reason


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "missing":
        print(*missing(*sys.argv[2:]), sep="\n")
    elif len(sys.argv) == 4 and sys.argv[1] == "epochs":
        print(epochs(*sys.argv[2:]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    exit_on_error(main)
