"""The results of a study as data, for scripts/study.py: reads the result files of a ROOT, and keeps what the tables need in
one file, which results of other machines can be merged with.

The file is {set: {"METHOD-seed-N": entries of test.py, "judged": entries of nets that were judged without labels}}.
"""

import json
import os
import re
import sys
from typing import Any

from utils.files import written_whole

STUDY, HELD_OUT, COMPARE = "study", "study_held_out", "compare"  # the folders of results, one for each use of study.sh
KEPT = "results.json"  # the file, beside the tables
JUDGED = "judged"  # the key of a set's judged nets
JUDGED_FILE = "label_free.json"  # the file of a set's judged nets, as test.py writes it
NEEDED = ("epoch", "readout", "recall", "map_at_r", "nmi", "cpu_seconds")  # of an entry of test.py
RUN = re.compile(r"(.+)-seed-\d+")  # the name of a run; the group is its method
NO_TRAINING = "closed_form"  # the method without training

Runs = dict[str, list[dict]]  # the results of a set


def read(file: str) -> Any:
    """Read a JSON file."""
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)


def run_files(folder: str) -> dict[str, str]:
    """Return {METHOD-seed-N: path} of a set's result files."""
    names = sorted(name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json"))
    return {name: os.path.join(folder, f"{name}.json") for name in names if RUN.fullmatch(name)}


def checkpoints(folder: str) -> dict[str, str]:
    """Return {path: METHOD-seed-N} of the checkpoints in a set's result files. Exits where a file names no checkpoints."""
    paths = {}
    for run, file in run_files(folder).items():
        for entry in read(file):
            if entry["epoch"] and "checkpoint" in entry:
                paths[entry["checkpoint"]] = run
            elif entry["epoch"] and not run.startswith(NO_TRAINING):
                remedy = "remove it, and the study tests them again"
                print(f"{file}: does not name its checkpoints; {remedy}", file=sys.stderr)
                sys.exit(2)
    return paths


def collect(results: str) -> dict[str, Runs]:
    """Read all results under a folder, `SET/METHOD-seed-N.json` and `SET/label_free.json`."""
    sets = {}
    for name in sorted(entry.name for entry in os.scandir(results) if entry.is_dir()):
        folder = os.path.join(results, name)
        runs = {run: [needed(entry) for entry in read(file)] for run, file in run_files(folder).items()}
        if runs:
            sets[name] = runs
            if os.path.exists(file := os.path.join(folder, JUDGED_FILE)):
                runs[JUDGED] = judged(read(file), checkpoints(folder))
    return sets


def needed(entry: dict) -> dict:
    return {key: rounded(entry[key]) for key in NEEDED if key in entry}


def judged(entries: list[dict], nets: dict[str, str]) -> list[dict]:
    """Return what the tables need of judged nets: the nets in `nets`, {path: run}, and the net before training (run "")."""
    runs = {None: "", **nets}
    return [
        {"run": runs[path], **{key: rounded(entry[key]) for key in ("epoch", "recall", "label_free")}}
        for entry in entries
        if entry["readout"] == "closed_form" and (path := entry.get("checkpoint")) in runs
    ]


def rounded(value: Any) -> Any:
    """Round floats to 6 digits, also inside a dict: tables show fewer."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def merge(before: dict[str, Runs], now: dict[str, Runs]) -> dict[str, Runs]:
    """Return the results `now`, and those `before` of sets and runs that are not in `now`. Sets and runs are sorted."""
    merged = {}
    for name in sorted({*before, *now}):
        old, new = before.get(name, {}), now.get(name, {})
        judged_now = new.get(JUDGED, [])
        again = {*new, *(entry["run"] for entry in judged_now)}
        nets = [entry for entry in old.get(JUDGED, []) if entry["run"] not in again] + judged_now
        merged[name] = {run: entries for run, entries in sorted({**old, **new}.items()) if run != JUDGED}
        if nets:
            merged[name][JUDGED] = nets
    return merged


def write(file: str, sets: dict[str, Runs]) -> None:
    """Write the file, a line for each entry, so that two versions can be compared."""
    blocks = []
    for name, runs in sets.items():
        lists = []
        for run, entries in runs.items():
            lines = ",\n".join(f"   {json.dumps(entry)}" for entry in entries)
            lists.append(f"  {json.dumps(run)}: [\n{lines}\n  ]")
        blocks.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lists) + "\n }")
    with written_whole(file) as out:
        out.write(("{\n" + ",\n".join(blocks) + "\n}\n").encode())
