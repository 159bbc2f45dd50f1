"""A run's folder and its embeddings -> report.html, one file that needs no other; the figures also lie beside it as PNG."""

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
    "R@1": "in how many of 100 cases the most similar image shows the same kind",
    "R@": "in how many of 100 cases one of the {} most similar images shows the same kind",
    "P@1": "the same as R@1",
    "RP": "of an image with 20 others of its kind: how many of the 20 most similar ones show it; else of as many",
    "MAP@R": "as RP, but the most similar ones count more; 100: all of the kind come before all others",
    "NMI": "how well groups of look-alikes agree with the true kinds; 100: they are the same",
    "AMI": "the same, less what chance would give",
    "F1": "how well pairs of look-alikes agree with the true kinds",
}


def report(
    folder: str, queries: Embedded | None = None, gallery: Embedded | None = None, results: list[dict] | None = None
) -> None:
    """Write report.html into the folder of a run, and say so; where that is not possible, say why.

    queries: embedded images that are shown, searched in the gallery, or, where there is none, among themselves. results: of
    test.py, kept for later reports; without them the images are those that were trained on.
    """
    file = os.path.join(folder, "report.html")
    try:
        if results is not None:
            write_json(os.path.join(folder, RESULTS), results)
        _report(file, read_folder(folder), queries, gallery, tested=results is not None)
        log.say(f"the report: {file}")
    except OSError as error:
        log.warn(f"{shown(file)}: cannot be written ({error.strerror})")


def report_tested(folder: str, data: str, lists: Iterable[Any], found: Found, results: list[dict]) -> None:
    """Write the report of a run that was tested, with its own results and those of the frozen net.

    data: the folder of the test images. lists: the ImageLists that `extract_lists` took. found: what it gave, of which the
    last readout is shown. results: as the files of test.py have them.
    """
    name = os.path.basename(os.path.abspath(data))
    own = [{**entry, "data": name} for entry in results if os.path.dirname(entry.get("checkpoint", "")) in ("", folder)]
    parts = zip(dict.fromkeys(lists), found.places, found.labels, found.sets[-1])
    shown_lists = [Embedded([part.paths[row] for row in rows.tolist()], *known) for part, rows, *known in parts]
    report(folder, shown_lists[0], shown_lists[1] if len(shown_lists) > 1 else None, own)


def finish(folder: str, embedded: Embedded | None, page: bool, tensorboard: bool) -> None:
    """What a run leaves at its end: its page, and its images for TensorBoard, as far as they are asked for."""
    if tensorboard and embedded is not None:
        project(folder, embedded)
    if page:
        report(folder, embedded)


def _report(file: str, run: RunFolder, queries: Embedded | None, gallery: Embedded | None, tested: bool) -> None:
    drawn: dict[str, bytes] = {}
    if run.curves:
        drawn["curves"] = figures.curves_figure(run.curves)
    asked: Any = ([], [])
    clusters: dict[str, Any] = {}
    count = 0
    if queries is not None and len(queries.rows) > 1:
        asked = choose_queries(queries, gallery)
        images = gallery or queries
        clusters, labels = choose_clusters(images)
        count = int((labels >= 0).sum())
        kinds = labels if images.labels is None else np.unique(images.labels, return_inverse=True)[1]
        drawn["map"] = figures.map_figure(layout(images.rows), kinds)
    context = {
        "run": run,
        "verdict": verdict(run.results),
        "headings": headings([run]),
        "queries": asked[0],
        "mistakes": asked[1],
        "clusters": clusters,
        "tested": tested,
        "by": run.results[-1].name if tested and run.results else "",
        "time": time_by_part(run),
        "count": count,
    }
    _write(file, "report.html", context, drawn)


def compare(file: str, folders: Sequence[str]) -> None:
    """Write a page of several runs: their last results, their curves over each other, and the settings that differ.

    Raises InputError for a folder that is none of a run, and where the page cannot be written.
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
    """The Recall@1 of the last epoch in per cent, by the closed form where there is one (no test has chosen it); of the net
    before training by its own features; and, as "formulas", by its closed form, if that is what the first is by. None where
    there is no Recall@1."""
    last = {row.kind: row for row in last_rows(rows) if "R@1" in row.scores}
    if not last:
        return None
    found = {"after": 100 * (last.get("closed_form") or list(last.values())[-1]).scores["R@1"]}
    kinds = {"before": "pooled", **({"formulas": "closed_form"} if "closed_form" in last else {})}
    for name, kind in kinds.items():
        frozen = [row.scores for row in rows if row.name.startswith(FROZEN) and row.kind == kind]
        if frozen and "R@1" in frozen[0]:
            found[name] = 100 * frozen[0]["R@1"]
    return found


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """Those of the last epoch."""
    last = max((row.epoch for row in rows), default=0)
    return [row for row in rows if row.epoch == last]


def headings(runs: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """The columns of the results, each with what it means."""
    names = list(dict.fromkeys(name for run in runs for row in run.results for name in row.scores))
    return [(name, MEANING.get(name, MEANING["R@"].format(name.removeprefix("R@")))) for name in names]


def time_by_part(run: RunFolder) -> list[tuple[str, float, float]]:
    """(part, seconds, share of the longest), the longest first."""
    parts = {name: float(value) for name, value in run.about.get("seconds", {}).items() if isinstance(value, int | float)}
    longest = max(parts.values(), default=0) or 1
    return [(name, value, value / longest) for name, value in sorted(parts.items(), key=lambda part: -part[1])]


def differing(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs that tell theirs, but for where they write; None where one has none of that
    name."""
    told = [some for some in settings if some]
    names = sorted({name for some in told for name in some} - {"save_dir", "log_file"})
    values = {name: [some.get(name) for some in settings] for name in names}
    return {name: found for name, found in values.items() if len({str(some.get(name)) for some in told}) > 1}


def _write(file: str, template: str, context: dict[str, Any], drawn: dict[str, bytes]) -> None:
    """The page at once or not at all, and its figures beside it."""
    loader = FileSystemLoader(TEMPLATES)
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(minutes=duration, shown=lambda path: shown(os.path.basename(str(path)), 60))
    styles = "".join(file.read_text(encoding="utf-8") for file in (STYLESHEET, STATIC / "report.css"))
    pictures = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in drawn.items()}
    html = jinja.get_template(template).render(**context, figures=pictures, picture=data_url, styles=styles)
    stem = os.path.splitext(file)[0]
    for name in FIGURES:  # one of an earlier page that this one lacks would mislead
        Path(f"{stem}-{name}.png").unlink(missing_ok=True)
    for name, png in drawn.items():
        Path(f"{stem}-{name}.png").write_bytes(png)
    with written_whole(file) as page:
        page.write(html.encode(errors="replace"))
