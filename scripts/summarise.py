"""Makes a Markdown table of test.py's result files over seeds: mean ± standard deviation of the last epoch, in per cent.

    python scripts/summarise.py NAME=RESULT.json[,RESULT.json...] ...

The frozen backbone and its closed form, where the first file holds them, are the first rows.
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
    """Return one line with every metric over `results`, which has one entry of test.py for each seed."""
    over_seeds = zip(*(columns(result).values() for result in results))
    cells = [
        f"{100 * statistics.mean(c):.2f}" + (f" ± {100 * statistics.stdev(c):.2f}" if len(c) > 1 else "") for c in over_seeds
    ]
    return f"| {name} | {len(results)} | " + " | ".join(cells) + " |"


def of(entries, trained, *readouts):
    """Return the entries of a trained net (or, with trained False, of the frozen backbone) with one of these readouts."""
    return [
        e
        for e in entries
        if bool(e["epoch"]) == trained and e.get("readout", "embedding" if trained else "pooled") in readouts
    ]


def table(runs):
    """Return the table. runs: name -> list of files."""
    loaded = {name: [load(file) for file in files] for name, files in runs.items()}
    first = next(iter(loaded.values()))[0]
    headings = columns(first[0])
    lines = ["| | seeds | " + " | ".join(headings) + " |", "|---" * (len(headings) + 2) + "|"]
    for name, readout in (("frozen backbone", "pooled"), ("closed form of it, no training", "closed_form")):
        lines += [row(name, [entry]) for entry in of(first, False, readout)]
    for name, files in loaded.items():
        for end, readouts in (("", ("embedding", "pooled")), (", closed-form readout", ("closed_form",))):
            last = [trained[-1] for entries in files if (trained := of(entries, True, *readouts))]
            if last:
                lines.append(row(name + end, last))
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) < 2 or any("=" not in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    print(table({name: files.split(",") for name, _, files in (argument.partition("=") for argument in sys.argv[1:])}))
