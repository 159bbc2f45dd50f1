"""What the folder of a run tells: its settings, its curves, where its time went, and results that test.py left."""

import json
import os
from collections import defaultdict
from typing import Any, NamedTuple

from evaluations.retrieval import columns

ABOUT, METRICS, RESULTS = "run.json", "metrics.jsonl", "results.json"
FROZEN = "before training"
KINDS = {"pooled": "its own features", "embedding": "learned embedding", "closed_form": "closed form"}
APART = ("epoch", "step", "steps", "test", "images_per_s", "data_wait")  # of a line in metrics.jsonl: no curve of learning

Curve = list[tuple[float, float]]  # (step, value)


class Row(NamedTuple):
    """A line of the table of results."""

    name: str
    epoch: int
    kind: str
    scores: dict[str, float]  # heading -> share
    seconds: float | None  # of training until then


class RunFolder(NamedTuple):
    """A run."""

    path: str
    about: dict[str, Any]  # of ABOUT; empty where there is none
    curves: dict[str, Curve]  # what steps measured
    speed: Curve  # images a second
    results: list[Row]

    @property
    def name(self) -> str:
        return os.path.basename(os.path.abspath(self.path))


def read_folder(path: str) -> RunFolder:
    """Read what there is; a file that is missing or damaged is as if the run had not written it."""
    curves: dict[str, Curve] = defaultdict(list)
    speed: Curve = []
    step = 0
    for line in _lines(os.path.join(path, METRICS)):
        if not isinstance(line.get("steps"), int):
            continue
        step += line["steps"]
        for name, value in line.items():
            if name not in APART and isinstance(value, int | float):
                curves[name].append((step, float(value)))
        if isinstance(line.get("images_per_s"), int | float):
            speed.append((step, float(line["images_per_s"])))
    about = _json(os.path.join(path, ABOUT))
    results = _json(os.path.join(path, RESULTS))
    return RunFolder(
        path,
        about if isinstance(about, dict) else {},
        dict(curves),
        speed,
        rows_of(results if isinstance(results, list) else []),
    )


def rows_of(entries: list[dict]) -> list[Row]:
    """What test.py found, in its order."""
    rows = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("recall"), dict):
            continue
        when = f"after epoch {entry['epoch']}" if entry["epoch"] else FROZEN
        kind = entry.get("readout", "embedding" if entry["epoch"] else "pooled")
        rows.append(Row(f"{when}, {KINDS[kind]}", entry["epoch"], kind, columns(entry), entry.get("seconds")))
    return rows


def _json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def _lines(path: str) -> list[dict]:
    """The JSON objects of a file of lines; others are left out."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts = file.readlines()
    except OSError:
        return []
    found = []
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
