"""Result files of test.py over seeds -> a Markdown table of the last epoch, in per cent: mean ± standard deviation.

    python scripts/summarise.py NAME=RESULT.json[,RESULT.json...] ...

A frozen backbone that the files hold beside it is the first row.
"""

import json
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from evaluations.retrieval import columns


def load(file):
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)


def row(name, results):
    """One line: every metric over `results`, one entry of test.py for each seed."""
    over_seeds = zip(*(columns(result).values() for result in results))
    cells = [
        f"{100 * statistics.mean(c):.2f}" + (f" ± {100 * statistics.stdev(c):.2f}" if len(c) > 1 else "") for c in over_seeds
    ]
    return f"| {name} | {len(results)} | " + " | ".join(cells) + " |"


def read_out(entries, kind):
    """The entries of that readout."""
    return [entry for entry in entries if entry.get("readout", "embedding") in kind]


def table(runs):
    """runs: name -> list of files."""
    loaded = {name: [load(file) for file in files] for name, files in runs.items()}
    first = next(iter(loaded.values()))[0]
    headings = columns(first[0])
    lines = ["| | seeds | " + " | ".join(headings) + " |", "|---" * (len(headings) + 2) + "|"]
    if first[0]["epoch"] == 0:
        lines.append(row("frozen backbone", first[:1]))
        if closed := [entry for entry in first[1:] if entry["epoch"] == 0]:
            lines.append(row("closed form of it, no training", closed))
    for name, files in loaded.items():
        lines.append(row(name, [read_out(entries, ("embedding", "pooled"))[-1] for entries in files]))
        closed = [read_out(entries, ("closed_form",)) for entries in files]
        if all(entries and entries[-1]["epoch"] for entries in closed):
            lines.append(row(f"{name}, closed-form readout", [entries[-1] for entries in closed]))
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) < 2 or any("=" not in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    print(table({name: files.split(",") for name, _, files in (argument.partition("=") for argument in sys.argv[1:])}))
