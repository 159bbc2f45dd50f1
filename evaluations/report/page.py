"""Writes report.html, a file that needs no other, from a run's folder and embeddings; figures lie beside it as PNG."""

import base64
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.lists import shown
from data.pictures import data_url
from evaluations.report import figures
from evaluations.report.folder import FROZEN, RESULTS, Row, RunFolder, read_folder
from evaluations.report.projector import project
from evaluations.report.shown import Embedded, choose_clusters, choose_queries
from evaluations.retrieval import Found
from utils import log
from utils.clustering.layout import layout
from utils.errors import InputError
from utils.files import write_json, written_whole
from utils.log import make_folder
from utils.timing import duration

TEMPLATES, STATIC = Path(__file__).parent / "templates", Path(__file__).parent / "static"
STYLESHEET = STATIC / "page.css"  # colours, type and tiles, which the page of a gallery shares
FIGURES = ("curves", "map", "compared")
MEANING = {
    "R@1": "in how many of 100 cases the most similar image is of the same class",
    "R@": "in how many of 100 cases one of the {} most similar images is of the same class",
    "P@1": "the same as R@1",
    "RP": "how many per cent of the R most similar images are of the same class, for an image with R others in its class",
    "MAP@R": "as RP, but the most similar images count more; 100: all images of the class come before all others",
    "NMI": "how well groups of look-alikes agree with the true classes; 100: they are the same",
    "AMI": "NMI corrected for chance; 0: no better than chance",
    "F1": "how well pairs of look-alikes agree with the true classes",
}


def report(
    folder: str, queries: Embedded | None = None, gallery: Embedded | None = None, results: list[dict] | None = None
) -> None:
    """Write report.html into the folder of a run and log its path, or the reason why it cannot be written.

    queries: embedded images to show, searched in the gallery, or among themselves without one. results: of test.py, kept for
    later reports; without results the images are training images.
    """
    file = os.path.join(folder, "report.html")
    try:
        if results is not None:
            write_json(os.path.join(folder, RESULTS), results)
        _report(file, read_folder(folder), queries, gallery, tested=results is not None)
        log.say(f"the report: {file}")
    except OSError as error:
        log.warn(f"{shown(file)}: cannot be written ({error.strerror})")


def report_tested(folder: str, data: str, lists: Iterable[Any], tested: Found, results: list[dict]) -> None:
    """Write the report of a run that was tested, with its own results and the results of the frozen net.

    data: the folder of the test images. lists: the arguments of `extract_lists`. tested: its return value; the report shows
    the last readout. results: as in the files of test.py.
    """
    name = os.path.basename(os.path.abspath(data))
    own = [{**entry, "data": name} for entry in results if os.path.dirname(entry.get("checkpoint", "")) in ("", folder)]
    parts = zip(dict.fromkeys(lists), tested.places, tested.labels, tested.sets[-1])
    shown_lists = [Embedded([part.paths[row] for row in rows.tolist()], *arrays) for part, rows, *arrays in parts]
    report(folder, shown_lists[0], shown_lists[1] if len(shown_lists) > 1 else None, own)


def finish(folder: str, embedded: Embedded | None, page: bool, tensorboard: bool) -> None:
    """Write the report of a run at its end, and its images for TensorBoard, as requested."""
    if tensorboard and embedded is not None:
        project(folder, embedded)
    if page:
        report(folder, embedded)


def _report(file: str, run: RunFolder, queries: Embedded | None, gallery: Embedded | None, tested: bool) -> None:
    drawn: dict[str, bytes] = {}
    if run.curves:
        drawn["curves"] = figures.curves_figure(run.curves)
    examples: Any = ([], [])
    clusters: dict[str, Any] = {}
    count = 0
    if queries is not None and len(queries.rows) > 1:
        examples = choose_queries(queries, gallery)
        images = gallery or queries
        clusters, labels = choose_clusters(images)
        count = int((labels >= 0).sum())
        classes = labels if images.labels is None else np.unique(images.labels, return_inverse=True)[1]
        drawn["map"] = figures.map_figure(layout(images.rows), classes)
    context = {
        "run": run,
        "verdict": verdict(run.results),
        "headings": headings([run]),
        "queries": examples[0],
        "mistakes": examples[1],
        "clusters": clusters,
        "tested": tested,
        "by": run.results[-1].name if tested and run.results else "",
        "time": time_by_part(run),
        "count": count,
    }
    _write(file, "report.html", context, drawn)


def compare(file: str, folders: Sequence[str]) -> None:
    """Write a page of several runs: their last results, their curves over each other, and the settings that differ.

    Raises InputError for a folder that is not a run's, and if the page cannot be written.
    """
    runs = [read_folder(folder) for folder in folders]
    numbered = list(enumerate(runs, 1))
    for run in runs:
        if not run.about and not run.curves and not run.results:
            raise InputError(f"{run.path}: not the folder of a run; it has neither run.json, metrics.jsonl nor results.json")
    drawn: dict[str, bytes] = {}
    if any(run.curves for run in runs):
        drawn["compared"] = figures.compared_figure([run.curves for run in runs])
    context = {
        "runs": runs,
        "headings": headings(runs),
        "last": [row._replace(name=f"run {n}, {row.name}") for n, run in numbered for row in last_rows(run.results)],
        "untested": [number for number, run in numbered if not run.results],
        "differing": differing([run.about.get("settings", {}) for run in runs]),
    }
    try:
        make_folder(os.path.dirname(os.path.abspath(file)))
        _write(file, "compare.html", context, drawn)
    except OSError as error:
        raise InputError(f"{shown(file)}: cannot be written ({error.strerror})") from None


def verdict(rows: Sequence[Row]) -> dict[str, float] | None:
    """Return the Recall@1 in per cent; None without one. "after": of the last epoch, by the closed form if there is one (no
    test has chosen it). "before": of the net before training, by its own features. "formulas": of the same net by its closed
    form, if "after" is by the closed form."""
    last = {row.kind: row for row in last_rows(rows) if "R@1" in row.scores}
    if not last:
        return None
    scores = {"after": 100 * (last.get("closed_form") or list(last.values())[-1]).scores["R@1"]}
    readouts = {"before": "pooled", **({"formulas": "closed_form"} if "closed_form" in last else {})}
    for name, readout in readouts.items():
        frozen = [row.scores for row in rows if row.name.startswith(FROZEN) and row.kind == readout]
        if frozen and "R@1" in frozen[0]:
            scores[name] = 100 * frozen[0]["R@1"]
    return scores


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the last epoch."""
    last = max((row.epoch for row in rows), default=0)
    return [row for row in rows if row.epoch == last]


def headings(runs: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """Return the columns of the results, each with its meaning."""
    names = list(dict.fromkeys(name for run in runs for row in run.results for name in row.scores))
    return [(name, MEANING.get(name, MEANING["R@"].format(name.removeprefix("R@")))) for name in names]


def time_by_part(run: RunFolder) -> list[tuple[str, float, float]]:
    """Return (part, seconds, share of the longest part), the longest first."""
    parts = {name: float(value) for name, value in run.about.get("seconds", {}).items() if isinstance(value, int | float)}
    longest = max(parts.values(), default=0) or 1
    return [(name, value, value / longest) for name, value in sorted(parts.items(), key=lambda part: -part[1])]


def differing(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the settings that differ between runs, without the paths they write to. A run without a setting has None there;
    a run without any settings does not count."""
    told = [own for own in settings if own]
    names = sorted({name for own in told for name in own} - {"save_dir", "log_file"})
    values = {name: [own.get(name) for own in settings] for name in names}
    return {name: row for name, row in values.items() if len({str(own.get(name)) for own in told}) > 1}


def _write(file: str, template: str, context: dict[str, Any], drawn: dict[str, bytes]) -> None:
    """Write the page, whole or not at all, and its figures beside it."""
    loader = FileSystemLoader(TEMPLATES)
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(minutes=duration, shown=lambda path: shown(os.path.basename(str(path)), 60))
    styles = "".join(file.read_text(encoding="utf-8") for file in (STYLESHEET, STATIC / "report.css"))
    pictures = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in drawn.items()}
    html = jinja.get_template(template).render(**context, figures=pictures, picture=data_url, styles=styles)
    stem = os.path.splitext(file)[0]
    for name in FIGURES:  # a figure of an earlier page would mislead
        Path(f"{stem}-{name}.png").unlink(missing_ok=True)
    for name, png in drawn.items():
        Path(f"{stem}-{name}.png").write_bytes(png)
    with written_whole(file) as page:
        page.write(html.encode(errors="replace"))
