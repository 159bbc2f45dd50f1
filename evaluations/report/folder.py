"""Reads the folder of a run: its settings, its curves, its time by part, and the results of test.py."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from evaluations.retrieval import columns

ABOUT, METRICS, RESULTS = "run.json", "metrics.jsonl", "results.json"
FROZEN = "before training"
READOUTS = {"pooled": "its own features", "embedding": "learned embedding", "closed_form": "closed form"}
APART = ("epoch", "step", "steps", "test", "images_per_s", "data_wait")  # keys of metrics.jsonl that are no learning curve

TESTED = "R@1 in tests"  # the curve of tests during training

Curve = list[tuple[float, float]]  # (step, value)


class Row(NamedTuple):
    """A line of the table of results."""

    name: str
    epoch: int
    kind: str
    scores: dict[str, float]  # heading -> share
    seconds: float | None  # seconds of training until this epoch


class RunFolder(NamedTuple):
    path: str
    about: dict[str, Any]  # from ABOUT; empty if there is none
    curves: dict[str, Curve]  # measured in training steps
    results: list[Row]
    tested: str  # the data set of the results; empty if they do not name it

    @property
    def name(self) -> str:
        return os.path.basename(os.path.abspath(self.path))


def read_folder(path: str) -> RunFolder:
    """Read the folder of a run. A file that is missing or damaged counts as not written."""
    curves: dict[str, Curve] = defaultdict(list)
    step = 0
    lines = map(_json, _bytes(os.path.join(path, METRICS)).split(b"\n"))
    for line in (line for line in lines if isinstance(line, dict)):
        if (recall := _recall(line.get("test"))) is not None:
            curves[TESTED].append((step, recall))
        if not isinstance(line.get("steps"), int):
            continue
        step += line["steps"]
        for name, value in line.items():
            if name not in APART and isinstance(value, int | float):
                curves[name].append((step, float(value)))
    about, results = (_json(_bytes(os.path.join(path, name))) for name in (ABOUT, RESULTS))
    results = [entry for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []
    tested = results[-1].get("data", "") if results else ""
    return RunFolder(path, _checked(about), dict(curves), rows_of(results), str(tested))


def rows_of(entries: list[dict]) -> list[Row]:
    """Turn the results of test.py into rows, in order; invalid entries are left out."""
    rows = []
    for entry in entries:
        try:
            epoch = int(entry["epoch"])
            trained = bool(epoch) or "checkpoint" in entry
            readout = entry.get("readout", "embedding" if trained else "pooled")
            when = f"after epoch {epoch}" if trained else FROZEN
            scores = {heading: float(value) for heading, value in columns(entry).items()}
            seconds = None if entry.get("seconds") is None else float(entry["seconds"])
            rows.append(Row(f"{when}, {READOUTS[readout]}", epoch, readout, scores, seconds))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return rows


def _recall(scores: Any) -> float | None:
    """Return the Recall@1 of a test during training, from metrics.jsonl."""
    try:
        return float(columns(scores)["R@1"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _checked(about: Any) -> dict[str, Any]:
    """Return the entries of run.json that have the right types."""
    about = about if isinstance(about, dict) else {}
    of_types = {"settings": dict, "seconds": dict, "command": str, "versions": str, "method": str, "source": str}
    return {name: about[name] for name, type_ in of_types.items() if isinstance(about.get(name), type_)}


def _bytes(path: str) -> bytes:
    """Return the bytes of a file; none if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _json(text: bytes) -> Any:
    """Parse JSON. Returns None if it is invalid."""
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
