"""Result files of test.py over seeds -> mean and standard deviation of the last epoch, in per cent.

    python scripts/summarise.py NAME=RESULT.json[,RESULT.json...] ...
"""

import json
import statistics
import sys


def row(name, files):
    """One line of a Markdown table: Recall@K and NMI of each file's last entry, mean and spread over the files."""
    results = []
    for file in files:
        with open(file, encoding="utf-8") as opened:
            results.append(json.load(opened)[-1])
    columns = zip(*([*r["recall"].values(), r["nmi"]] for r in results))
    cells = [f"{100 * statistics.mean(c):.2f}" + (f" ± {100 * statistics.stdev(c):.2f}" if len(c) > 1 else "")
             for c in columns]
    return f"| {name} | {results[0]['epoch']} | {len(results)} | " + " | ".join(cells) + " |", list(results[0]["recall"])


if __name__ == "__main__":
    if len(sys.argv) < 2 or any("=" not in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    rows = [row(name, files.split(",")) for name, _, files in (argument.partition("=") for argument in sys.argv[1:])]
    print("| run | epoch | seeds | " + " | ".join(f"R@{k}" for k in rows[0][1]) + " | NMI |")
    print("|---" * (len(rows[0][1]) + 4) + "|")
    print("\n".join(line for line, _ in rows))
