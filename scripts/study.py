"""Results of scripts/study.sh -> a table for each set, Markdown, and a plot of Recall@1 against wall time.

python scripts/study.py RESULTS FOLDER
"""

import json
import os
import re
import statistics
import sys
from collections import defaultdict
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from evaluations.retrieval import columns

SHOWN = {"R@1": "R@1", "R@8": "R@8", "MAP@R": "MAP@R", "NMI": "NMI"}
READOUTS = {"embedding": "", "closed_form": ", closed form"}
BOUND = "supervised"


class Run(NamedTuple):
    """What one run gave: readout -> heading -> per cent; and seconds, training and testing together."""

    scores: dict[str, dict[str, float]]
    seconds: float | None


def load(file):
    """A result file of test.py -> the frozen net's scores, and the Run."""
    with open(file, encoding="utf-8") as opened:
        entries = json.load(opened)
    scores = {}
    for entry in entries:
        kind = entry.get("readout", "embedding" if entry["epoch"] else "pooled")
        scores[kind if entry["epoch"] else f"frozen {kind}"] = {k: 100 * v for k, v in columns(entry).items()}
    took = file.removesuffix(".json") + ".seconds"
    seconds = None
    if os.path.exists(took):
        with open(took, encoding="ascii") as opened:
            seconds = sum(map(float, opened))
    return Run(scores, seconds)


def gather(folder):
    """set -> method -> [Run]"""
    found = defaultdict(lambda: defaultdict(list))
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        for file in sorted(os.listdir(os.path.join(folder, name))):
            if match := re.fullmatch(r"(\w+)-seed-\d+\.json", file):
                found[name][match[1]].append(load(os.path.join(folder, name, file)))
    return found


def mean(values):
    """Mean and, of several, standard deviation, in two decimals."""
    text = f"{statistics.mean(values):.2f}"
    return text + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def rows_of(runs):
    """method -> [Run] => (name, seeds, readout's scores of each seed, seconds), the frozen net first."""
    frozen = next(iter(runs.values()))[0].scores
    for kind, name in (("frozen pooled", "frozen"), ("frozen closed_form", "closed form, no training")):
        if kind in frozen:
            alone = [run.seconds for run in runs.get("closed_form", ()) if run.seconds is not None]
            yield name, [frozen[kind]], alone[0] if alone and kind == "frozen closed_form" else None
    for method, several in runs.items():
        for readout, end in READOUTS.items():
            scores = [run.scores[readout] for run in several if readout in run.scores]
            if scores and method != "closed_form":
                times = [run.seconds for run in several if run.seconds is not None]
                yield method + end, scores, statistics.mean(times) if times else None


def gap(value, rows):
    """How much of the way from the frozen net's Recall@1 to the supervised bound's best one, in per cent."""
    best = {name: statistics.mean(s["R@1"] for s in scores) for name, scores, _ in rows}
    bound = max((v for name, v in best.items() if name.startswith(BOUND)), default=None)
    if bound is None or bound <= best["frozen"]:
        return ""
    return f"{100 * (value - best['frozen']) / (bound - best['frozen']):.0f}"


def table(name, runs):
    rows = list(rows_of(runs))
    lines = [f"**{name}**", "", "| | seeds | " + " | ".join(SHOWN) + " | gap closed, % | minutes |", "|---" * 8 + "|"]
    for title, scores, seconds in rows:
        cells = [mean([s[heading] for s in scores]) for heading in SHOWN]
        closed = gap(statistics.mean(s["R@1"] for s in scores), rows)
        minutes = "" if seconds is None else f"{seconds / 60:.1f}"
        lines.append(f"| {title} | {len(scores)} | " + " | ".join(cells) + f" | {closed} | {minutes} |")
    return "\n".join(lines)


def plot(found, file):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(5 * len(found), 4), squeeze=False)
    for axis, (name, runs) in zip(axes[0], found.items()):
        rows = list(rows_of(runs))
        start = statistics.mean(s["R@1"] for s in rows[0][1])
        for title, scores, seconds in rows:
            level = statistics.mean(s["R@1"] for s in scores)
            if seconds is None or title.startswith("closed form"):
                axis.axhline(level, linestyle=":", color="grey")
                axis.annotate(title, (0, level), fontsize=7, va="bottom")
            elif not title.endswith("closed form"):
                best = max(
                    statistics.mean(s["R@1"] for s in other)
                    for known, other, _ in rows
                    if known in (title, title + READOUTS["closed_form"])
                )
                axis.plot([0, seconds / 60], [start, best], marker="o", label=title)
        axis.set(title=name, xlabel="minutes on one core", ylabel="Recall@1, %, better readout")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    results, folder = sys.argv[1:]
    found = gather(results)
    os.makedirs(folder, exist_ok=True)
    page = "\n\n".join(table(name, runs) for name, runs in found.items())
    with open(os.path.join(folder, "results.md"), "w", encoding="utf-8") as out:
        out.write("Made by `scripts/study.sh`.\n\n" + page + "\n")
    plot(found, os.path.join(folder, "plot.png"))
    print(page)
