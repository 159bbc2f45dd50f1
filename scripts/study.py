"""Turns the results of scripts/study.sh into a Markdown table for each set, and a plot of Recall@1 against time.

python scripts/study.py RESULTS FOLDER
python scripts/study.py due RESULTS/SET      # lists trained nets that are not judged yet, or have changed since
python scripts/study.py add NEW.json RESULTS/SET      # adds the judged nets of NEW, in place of their earlier entries
"""

import os
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from study_judged import BOUND, JUDGED, NO_TRAINING, add_judged, due, judged_table, load_judged, read

SHOWN = ("R@1", "R@8", "MAP@R", "NMI")
ENDS = {"embedding": "", "closed_form": ", closed form"}  # readout -> end of a row's name

ABOUT = """Made by `scripts/study.sh`: R@1, R@8, MAP@R and NMI in per cent at the last step, on classes that training never
shows; mean ± standard deviation over seeds 0, 1, ... A name lists the settings that differ from the method's own. Gap
closed: how far R@1 gets from the frozen net (0) to the net trained with labels (100). Minutes: of one CPU core."""

Scores = dict[str, dict[str, float]]  # readout -> heading -> per cent


class Point(NamedTuple):
    """A checkpoint of a run, tested."""

    epoch: int  # 0: the frozen net
    minutes: float | None  # time that the core was busy: about the wall time of a machine without other work
    scores: Scores


class Row(NamedTuple):
    """A row of a table: the results of several seeds."""

    name: str
    scores: list[dict[str, float]]
    minutes: float | None


def load(file: str) -> list[Point]:
    """Read the points of a result file of test.py, in order of epochs."""
    from evaluations.retrieval import columns  # imports torch, which `due` and `add` do not need

    scores: dict[int, Scores] = defaultdict(dict)
    seconds = {}
    for entry in read(file):
        scores[entry["epoch"]][entry["readout"]] = {name: 100 * value for name, value in columns(entry).items()}
        seconds[entry["epoch"]] = entry.get("cpu_seconds")  # "seconds" is wall time, which includes other work
    minutes = {epoch: None if taken is None else taken / 60 for epoch, taken in seconds.items()}
    return [Point(epoch, minutes[epoch], scores[epoch]) for epoch in sorted(scores)]


def gather(folder: str) -> dict[str, dict[str, list[list[Point]]]]:
    """Read files `SET/METHOD-seed-N.json` into {set: {method: points of each seed}}."""
    sets: dict[str, dict[str, list[list[Point]]]] = {}
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        runs = defaultdict(list)
        for file in sorted(os.listdir(os.path.join(folder, name))):
            if match := re.fullmatch(r"(.+)-seed-\d+\.json", file):
                runs[match[1]].append(load(os.path.join(folder, name, file)))
        if runs:
            sets[name] = dict(runs)
    return sets


def rows_of(runs: dict[str, list[list[Point]]]) -> Iterator[Row]:
    """Yield a row for the last point of each method and readout. Rows without training come first."""
    for seeds in runs.get(NO_TRAINING, ()):
        frozen, fitted = seeds[0].scores, seeds[-1]
        yield Row("frozen", [frozen["pooled"]], None)
        yield Row("closed form, no training", [frozen["closed_form"]], fitted.minutes)
    for method, several in runs.items():
        for readout, end in ENDS.items():
            scores = [points[-1].scores[readout] for points in several if readout in points[-1].scores]
            if scores and method != NO_TRAINING:
                yield Row(method + end, scores, mean_minutes([points[-1] for points in several]))


def mean_recall(scores: Sequence[dict[str, float]]) -> float:
    return statistics.mean(one["R@1"] for one in scores)


def mean_minutes(points: Sequence[Point]) -> float | None:
    """Return the mean minutes of the points that have them; None if no point has."""
    minutes = [point.minutes for point in points if point.minutes is not None]
    return statistics.mean(minutes) if minutes else None


def cell(values: Sequence[float]) -> str:
    """Return the mean as text, and for several values the standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def gap_closed(row: Row, rows: Sequence[Row]) -> str:
    """Return how far Recall@1 gets from the frozen net to the best net with labels, in per cent; "" where one is missing."""
    frozen = [mean_recall(other.scores) for other in rows if other.name == "frozen"]
    bound = [mean_recall(other.scores) for other in rows if other.name.startswith(BOUND)]
    if not frozen or not bound or max(bound) <= frozen[0]:
        return ""
    return f"{100 * (mean_recall(row.scores) - frozen[0]) / (max(bound) - frozen[0]):.0f}"


def table(name: str, runs: dict[str, list[list[Point]]]) -> str:
    rows = list(rows_of(runs))
    lines = [f"**{name}**", "", "| | seeds | " + " | ".join(SHOWN) + " | gap closed, % | minutes |", "|---" * 8 + "|"]
    for row in rows:
        cells = [cell([one[heading] for one in row.scores]) for heading in SHOWN]
        minutes = "" if row.minutes is None else f"{row.minutes:.1f}"
        lines.append(f"| {row.name} | {len(row.scores)} | {' | '.join(cells)} | {gap_closed(row, rows)} | {minutes} |")
    return "\n".join(lines)


def curve(several: list[list[Point]]) -> list[tuple[float, float]]:
    """Return (minutes, Recall@1 of the better readout) for each trained point, means over the seeds that have it. Points
    without minutes in any seed are left out."""
    line = []
    for epoch in sorted({point.epoch for points in several for point in points if point.epoch}):
        here = [point for points in several for point in points if point.epoch == epoch]
        minutes = mean_minutes(here)
        if minutes is not None:
            readouts = set.intersection(*(set(point.scores) for point in here))
            best = max(mean_recall([point.scores[readout] for point in here]) for readout in readouts)
            line.append((minutes, best))
    return line


def drawn(method: str) -> bool:
    """Return True if the plot has a line for it: a plain method, or one with --train_from, which makes a step faster."""
    return method != NO_TRAINING and ("," not in method or "TRAIN_FROM=" in method)


def plot(sets: dict[str, dict[str, list[list[Point]]]], file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from evaluations.report.figures import COLOURS

    figure, axes = pyplot.subplots(1, len(sets), figsize=(5 * len(sets), 4.5), squeeze=False)
    methods = sorted({method for runs in sets.values() for method in runs if drawn(method)})
    for axis, (name, runs) in zip(axes[0], sets.items()):
        levels = {row.name: mean_recall(row.scores) for row in rows_of({NO_TRAINING: runs.get(NO_TRAINING, [])})}
        for title, level in levels.items():
            axis.axhline(level, linestyle=":", color="grey")
            axis.annotate(title, (0, level), fontsize=7, va="bottom")
        start = [(0.0, max(levels.values()))] if levels else []  # also by the better readout
        for number, method in enumerate(methods):
            if points := curve(runs.get(method, [])):
                line = {"color": COLOURS[number % len(COLOURS)], "linestyle": "-" if number < len(COLOURS) else "--"}
                axis.plot(*zip(*start + points), marker="o", markersize=4, label=method, **line)
        axis.set(title=name, xlabel="minutes on one CPU core", ylabel="Recall@1 of unseen classes, %, better readout")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main(results: str, folder: str) -> None:
    sets = gather(results) if os.path.isdir(results) else {}
    if not sets:
        print(f"{results}: no results here; scripts/study.sh makes them", file=sys.stderr)
        sys.exit(2)
    os.makedirs(folder, exist_ok=True)
    parts = [table(name, runs) for name, runs in sets.items()]
    folders = {name: os.path.join(results, name) for name in sets}
    there = {name: folder for name, folder in folders.items() if os.path.exists(os.path.join(folder, JUDGED))}
    if judged := {name: load_judged(folder) for name, folder in there.items()}:
        parts.append(judged_table(judged))
    page = "\n\n".join(parts)
    with open(os.path.join(folder, "results.md"), "w", encoding="utf-8") as out:
        out.write(f"{ABOUT}\n\n{page}\n")
    plot(sets, os.path.join(folder, "plot.png"))
    print(page)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "add":
        add_judged(*sys.argv[2:])
    elif len(sys.argv) == 3 and sys.argv[1] == "due":
        print(*due(sys.argv[2]), sep="\n")
    elif len(sys.argv) == 3:
        main(*sys.argv[1:])
    else:
        sys.exit(__doc__)
