"""The figures of a report: learning curves and the map. Transparent, with grey axes: readable on light and dark pages."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluations.report.folder import TESTED, Curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")  # distinct to the colour-blind
GREY = "#767676"  # contrast 4.2 on the light page, 4.1 on the dark one
DPI = 150
MANY = 20  # curves with at least this many points are smoothed
COLOURED = 12  # classes that have a colour on the map
NAMES = {  # curve -> its name for people, and its unit
    "positive": ("similarity of positive pairs", "cosine"),
    "negative": ("similarity of negative pairs", "cosine"),
    "lowest": ("lowest similarity of a pair", "cosine"),
    "rotation_accuracy": ("rotations named rightly", "share"),
}


def curves_figure(curves: Mapping[str, Curve]) -> bytes:
    """Draw a PNG: a panel for each curve, over steps.

    Curves of many points also get a line: the moving average over a tenth of the points.
    """
    figure, axes = _panels(len(curves), (3.4, 2.4))
    for axis, (name, curve) in zip(axes, curves.items()):
        steps, values = np.array(curve).T
        many = len(curve) >= MANY
        axis.plot(steps, values, color=COLOURS[0], alpha=0.35 if many else 1, marker="" if many else ".")
        if many:
            axis.plot(steps, _smoothed(values), color=COLOURS[0])
        axis.set(title=readable(name), xlabel="training steps", ylabel=unit(name))
    return _png(figure)


def compared_figure(runs: Sequence[Mapping[str, Curve]]) -> bytes:
    """Draw a PNG: the curves of several runs over each other, a panel for each curve that two or more runs have.

    If no two runs share a curve, each curve has a panel.
    """
    names = list(dict.fromkeys(name for curves in runs for name in curves))
    shared = [name for name in names if sum(name in curves for curves in runs) > 1] or names
    figure, axes = _panels(len(shared), (3.6, 2.6))
    for axis, name in zip(axes, shared):
        for number, curves in enumerate(runs):
            if name in curves:
                steps, values = np.array(curves[name]).T
                line = ("-", "--", ":")[number // len(COLOURS) % 3]
                axis.plot(steps, _smoothed(values), line, color=COLOURS[number % len(COLOURS)], label=f"{number + 1}")
        axis.set(title=readable(name), xlabel="training steps", ylabel=unit(name))
    lines = {int(line.get_label()): line for axis in axes for line in axis.get_lines()}  # some panels lack some runs
    look = {"loc": "outside right upper", "labelcolor": GREY, "frameon": False, "fontsize": 7}
    legend = figure.legend([lines[number] for number in sorted(lines)], map(str, sorted(lines)), title="run", **look)
    legend.get_title().set_color(GREY)
    return _png(figure)


def map_figure(places: np.ndarray, classes: np.ndarray | None) -> bytes:
    """Draw a PNG: images as points at places, float (n, 2) in 0..1.

    classes: int (n,), the class of each image. The most frequent ones have colours.
    """
    figure, (axis,) = _panels(1, (6, 6))
    frequent: list[int] = []
    if classes is not None:
        present, counts = np.unique(classes[classes >= 0], return_counts=True)
        frequent = present[np.argsort(-counts, kind="stable")][:COLOURED].tolist()
    others = np.ones(len(places), bool) if classes is None else ~np.isin(classes, frequent)
    axis.scatter(*places[others].T, s=6, color=GREY, alpha=0.4, linewidths=0)
    for number, label in enumerate(frequent):
        marker = "o" if number < len(COLOURS) else "^"
        here = places[classes == label]
        axis.scatter(*here.T, s=12, color=COLOURS[number % len(COLOURS)], marker=marker, alpha=0.8, linewidths=0)
    axis.set(xticks=[], yticks=[], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _png(figure)


def readable(name: str) -> str:
    return NAMES[name][0] if name in NAMES else name.replace("_", " ")


def unit(name: str) -> str:
    """Return the unit of a curve; a loss has none."""
    return NAMES[name][1] if name in NAMES else "share" if name == TESTED else "loss"


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the trailing moving average; the window is a tenth of all values."""
    width = max(1, len(values) // 10)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    start = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    return (sums[1:] - sums[start]) / (np.arange(1, len(values) + 1) - start)


def _panels(count: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """Return an off-screen figure and its grey axes, three a row: at least `count`, with spare ones filling the last row."""
    from matplotlib.figure import Figure  # here: it takes a second

    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.tick_params(colors=GREY, labelsize=7)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set(color=GREY, fontsize=9)
        for spine in axis.spines.values():
            spine.set_color(GREY)
        axis.patch.set_alpha(0)
    return figure, axes


def _png(figure: Any) -> bytes:
    for axis in figure.axes:
        axis.set_visible(axis.has_data())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, transparent=True)
    return buffer.getvalue()
