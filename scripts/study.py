"""Turns the results of scripts/study.sh into a Markdown table for each set, and a plot of Recall@1 against time.

python scripts/study.py RESULTS FOLDER      # also updates FOLDER/results.json, and shows its results of other machines
python scripts/study.py due RESULTS/SET      # lists trained nets that are not judged yet, or have changed since
python scripts/study.py add NEW.json RESULTS/SET      # adds the judged nets of NEW, in place of their earlier entries
"""

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from study_judged import BOUND, add_judged, due, judged_nets, judged_tables
from study_results import JUDGED, KEPT, NO_TRAINING, RUN, collect, merge, read, write

SHOWN = ("R@1", "R@8", "R@10", "MAP@R", "NMI")
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


def points_of(entries: list[dict]) -> list[Point]:
    """Return the points of a run's entries, in order of epochs."""
    from evaluations.retrieval import columns  # imports torch, which `due` and `add` do not need

    scores: dict[int, Scores] = defaultdict(dict)
    seconds = {}
    for entry in entries:
        scores[entry["epoch"]][entry["readout"]] = {name: 100 * value for name, value in columns(entry).items()}
        seconds[entry["epoch"]] = entry.get("cpu_seconds")  # "seconds" is wall time, which includes other work
    minutes = {epoch: None if taken is None else taken / 60 for epoch, taken in seconds.items()}
    return [Point(epoch, minutes[epoch], scores[epoch]) for epoch in sorted(scores)]


def gather(runs: dict[str, list[dict]]) -> dict[str, list[list[Point]]]:
    """Turn a set's {METHOD-seed-N: entries} into {method: points of each seed}."""
    methods = defaultdict(list)
    for name in sorted(runs):
        if match := RUN.fullmatch(name):
            methods[match[1]].append(points_of(runs[name]))
    return dict(methods)


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
    """Return a set's table. It has the columns of SHOWN that all rows have: large sets are tested with other K."""
    rows = list(rows_of(runs))
    shown = [heading for heading in SHOWN if all(heading in one for row in rows for one in row.scores)]
    heads = f"| | seeds | {' | '.join(shown)} | gap closed, % | minutes |"
    lines = [f"**{name}**", "", heads, "|---" * (len(shown) + 4) + "|"]
    for row in rows:
        cells = [cell([one[heading] for one in row.scores]) for heading in shown]
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
            right = {"xy": (1, level), "xycoords": ("axes fraction", "data"), "ha": "right"}  # curves begin at the left
            axis.annotate(title, **right, fontsize=7, va="bottom")
        start = [(0.0, max(levels.values()))] if levels else []  # also by the better readout
        for number, method in enumerate(methods):
            if points := curve(runs.get(method, [])):
                line = {"color": COLOURS[number % len(COLOURS)], "linestyle": "-" if number < len(COLOURS) else "--"}
                axis.plot(*zip(*start + points), marker="o", markersize=4, label=method, **line)
        axis.set(title=name, xlabel="minutes on one CPU core", ylabel="Recall@1 of unseen classes, %, better readout")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main(results: str, folder: str) -> None:
    kept = os.path.join(folder, KEPT)
    all_sets = merge(read(kept) if os.path.exists(kept) else {}, collect(results) if os.path.isdir(results) else {})
    if not all_sets:
        print(f"{results}: no results here; scripts/study.sh makes them", file=sys.stderr)
        sys.exit(2)
    os.makedirs(folder, exist_ok=True)
    write(kept, all_sets)
    sets = {name: gather(runs) for name, runs in all_sets.items()}
    parts = [table(name, runs) for name, runs in sets.items()]
    if judged := {name: judged_nets(runs[JUDGED]) for name, runs in all_sets.items() if runs.get(JUDGED)}:
        parts += judged_tables(judged)
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
