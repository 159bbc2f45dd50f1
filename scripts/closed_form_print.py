"""Prints the results of scripts/closed_form_table.py as Markdown tables, and plots soft agreement against Recall@1."""

import sys
from itertools import cycle

import ae_svc
from closed_form_features import DIMS
from closed_form_fits import SCORES

from models.choice import best

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")  # Okabe and Ito 2008
MARKERS = "osD^vP"


def table(title, headings, rows):
    """Print a Markdown table. Floats are shares, shown in per cent."""
    if not rows:
        return
    print(f"\n### {title}\n\n| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(f"{100 * cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def print_tables(results, scratch):
    """Print all tables and plot agreement. results: contents of the JSON files."""
    metrics = ("R@1", "R@8", "MAP@R", "NMI")
    sets = [(f["set"], f["net"], f["width"], f) for f in results]

    def marks(row):
        return [row.get(metric, "") for metric in metrics]

    for net, width in dict.fromkeys((net, width) for _, net, width, _ in sets):
        rows = [
            [name, row["method"], row["dim"], *marks(row), f"{row['seconds']:.0f}", note(row)]
            for name, n, w, f in sets
            if (n, w) == (net, width)
            for row in f.get("methods", {}).values()
        ]
        headings = ["set", "method", "dim", *metrics, "CPU s", "settings"]
        table(f"{net}, {width} px, test classes, in %", headings, rows)
    rows = [
        [name, net, width, dim, ae_svc.Settings(**row["best"]), max(row["R@1 on held-out training classes"].values())]
        for name, net, width, f in sets
        for dim, row in f.get("search", {}).items()
    ]
    headings = ["set", "net", "px", "dim", "best settings", "R@1 on held-out training classes"]
    table("AE-SVC: the settings that the search chose, for both dims", headings, rows)
    rows = []
    for name, net, width, f in sets:
        whole = f.get("methods", {}).get(f"closed form, weight by agreement, {DIMS[0]}")
        if whole and f.get("shares"):
            rows.append([name, net, width, "100 %", f["train_images"], *marks(whole), note(whole)])
            rows += [
                [name, net, width, f"{100 * float(share):g} %", row["images"], *marks(row), note(row)]
                for share, row in f["shares"].items()
            ]
    headings = ["set", "net", "px", "share", "images", *metrics, "weights"]
    table(f"Fitted to a share of the training images, {DIMS[0]} dims", headings, rows)
    rows = []
    for name, net, width, f in sets:
        for key, row in f.get("cross", {}).items():
            other = next(g for n, *how, g in sets if (n, *how) == (key.split(",")[0], net, width))["methods"]
            own = other[f"closed form, weight by agreement, {row['dim']}"]["R@1"]
            rows.append([name, key.split(",")[0], row["dim"], *marks(row), own, other["frozen, pooled, all"]["R@1"]])
    headings = ["fitted to", "tested on", "dim", *metrics, "R@1 fitted to its own", "R@1 frozen"]
    table("Fitted to one set, tested on another", headings, rows)
    print_agreement(sets, scratch)


def note(row):
    """Return the weights of the parts, or the settings of a learned embedding."""
    return ", ".join(f"{weight:g}" for weight in row["weights"]) if "weights" in row else row.get("settings", "")


def print_agreement(sets, scratch):
    """Print the R@1 of the weight that each score chooses, and of all weights."""
    chosen, every, points = [], [], []
    for name, net, width, f in sets:
        rows = list(f.get("weights", {}).values())
        for dim in DIMS if rows else ():
            here = [{"set": name, "net": net, "width": width, "dim": dim, **row[str(dim)]} for row in rows]
            points += here
            recalls = [point["R@1"] for point in here]
            soft, first = ([point[score] for point in here] for score in SCORES)
            picked = [recalls[best(soft)], recalls[first.index(max(first))]]
            chosen.append([name, net, width, dim, *picked, max(recalls), min(recalls)])
            every.append([name, net, width, dim, *recalls])
            weights = [f"{row['weights'][1]:g}" for row in rows]
    if not points:
        return
    headings = ["set", "net", "px", "dim"]
    table("R@1 of the weight that each score chooses", [*headings, *SCORES, "best weight", "worst weight"], chosen)
    table("R@1 for each weight of the middle stage's second order", [*headings, *weights], every)
    for dim in DIMS:
        lost = {
            score: max(row[4 + len(SCORES)] - row[4 + place] for row in chosen if row[3] == dim)
            for place, score in enumerate(SCORES)
        }
        print(f"\nlost at most, {dim} dims: " + ", ".join(f"{100 * value:.2f} by {score}" for score, value in lost.items()))
    plot([point for point in points if point["dim"] == DIMS[0]], scratch / "agreement.png")


def plot(points, path):
    """Plot R@1 against agreement, with a marker for each set and a colour for each net and width."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: run pip install matplotlib", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    sets = list(dict.fromkeys(p["set"] for p in points))
    nets = list(dict.fromkeys((p["net"], p["width"]) for p in points))
    for marker, name in zip(cycle(MARKERS), sets):
        for colour, (net, width) in zip(cycle(COLOURS), nets):
            here = [p for p in points if (p["set"], p["net"], p["width"]) == (name, net, width)]
            if here:
                x, y = ([100 * p[key] for p in here] for key in ("soft agreement", "R@1"))
                axes.scatter(x, y, s=22, marker=marker, color=colour, alpha=0.7, label=f"{name}, {net}, {width} px")
    axes.set_xlabel("soft agreement of two random crops, training images without labels (%)")
    axes.set_ylabel("R@1 on the test classes (%)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=150)
    print(f"plot: {path}", file=sys.stderr)
