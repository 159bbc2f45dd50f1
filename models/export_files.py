"""Write and read the folder of export.py: the net, and a program that runs it. They are put in place together."""

import json
import os
import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from models.weights import one_line
from utils.errors import InputError
from utils.files import file_digest, write_json

GRAPH, WEIGHTS, ABOUT = "model.onnx", "model.safetensors", "model.json"
PROGRAM = "embed_onnx.py"
OPENING = "data"  # the folder of the modules with which the program opens pictures
# Without __init__.py, Python would take a package of the same name from anywhere else on its path.
MODULES = tuple(f"{OPENING}/{name}.py" for name in ("__init__", "pixels", "crops", "formats", "colours"))
# In the order in which they are put in place. The program comes before the graph: an interruption never leaves a new graph
# with an old program.
FILES = (ABOUT, PROGRAM, *MODULES, GRAPH, WEIGHTS)
FORMAT = "an exported embedder"  # tells our model.json from others
VERSION = 1  # raise it when an entry of model.json changes its meaning
AGAIN = "run export.py again"


def refuse_foreign(folder: str) -> None:
    """Raise InputError if `folder` is a file, or holds files or a folder with our names that no earlier export wrote."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{folder}: is a file; give a folder", setting="out")
    held = [name for name in (ABOUT, GRAPH, WEIGHTS, PROGRAM, OPENING) if os.path.lexists(os.path.join(folder, name))]
    try:
        written = _written_names(folder) if held else set()
    except InputError:
        written = set()
    if foreign := [name for name in held if name not in written]:
        raise InputError(f"{folder}: its {foreign[0]} is not from an earlier export; give another folder", setting="out")


def _written_names(folder: str) -> set[str]:
    """Return the names in `folder` that belong to its export. Raises InputError if it holds none.

    Earlier versions wrote no program. If such an export has files with the program's names, they are somebody else's.
    """
    hashes = read_about(os.path.join(folder, ABOUT))["sha256"]
    written = {ABOUT, GRAPH, WEIGHTS, *({PROGRAM} & hashes.keys())}
    modules = os.path.join(folder, OPENING)
    if any(name.startswith(f"{OPENING}/") for name in hashes) and os.path.isdir(modules) and not os.path.islink(modules):
        written.add(OPENING)
    return written


def copy_program(folder: str) -> None:
    """Copy the program, and the modules that it needs, from the project."""
    project = Path(__file__).parents[1]
    os.mkdir(os.path.join(folder, OPENING))
    for name in (PROGRAM, *MODULES):
        shutil.copyfile(project / name, os.path.join(folder, name))


def write_about(folder: str, about: dict[str, Any]) -> None:
    """Write model.json beside the other files, with their hashes."""
    hashes = {name: file_digest(os.path.join(folder, name)) for name in FILES if name != ABOUT}
    write_json(os.path.join(folder, ABOUT), {"format": FORMAT, "version": VERSION, **about, "sha256": hashes})


def put_in_place(whole: str, folder: str) -> None:
    """Move the files of an export from `whole` to `folder`, all at once if the folder does not exist yet.

    Otherwise model.json moves first. After an interruption its hashes show that the other files are not there yet. The next
    export accepts such a folder as an earlier export.
    """
    for name in FILES:
        with open(os.path.join(whole, name), "rb") as file:
            os.fsync(file.fileno())
    if not os.path.exists(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        os.rename(whole, folder)
        return
    for name in FILES:
        if name in MODULES:
            os.makedirs(os.path.join(folder, OPENING), exist_ok=True)
        os.replace(os.path.join(whole, name), os.path.join(folder, name))


def read_about(path: str | PathLike) -> dict[str, Any]:
    """Read a model.json. Raises InputError if it is missing, damaged, or not from an export."""
    try:
        with open(path, encoding="utf-8") as file:
            about = json.load(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it belongs beside {WEIGHTS}: copy both, or {AGAIN}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({one_line(error, 100)}); copy it anew, or {AGAIN}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{path}: not written by export.py; give the folder of an export")
    if about.get("version") != VERSION:
        versions = f"of version {about.get('version')!r}, not {VERSION}"
        raise InputError(f"{path}: {versions}; {AGAIN} with this version of the project")
    if not isinstance(about.get("sha256"), dict):
        raise InputError(f"{path}: damaged (no hashes); copy it anew, or {AGAIN}")
    return about


def read(path: str | PathLike, settings: Sequence[str]) -> dict[str, Any]:
    """Read the .safetensors of an export and its model.json as a checkpoint: state_dict, epoch, settings, seconds.

    settings: names of the settings that the net is built from; their values are not checked here.
    Raises InputError if a file is missing or damaged, or if the two files come from different exports.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    beside = os.path.join(os.path.dirname(path), ABOUT)
    about = read_about(beside)
    if missing := [name for name in ("epoch", *settings) if name not in about]:
        raise InputError(f"{beside}: damaged (no {', '.join(missing)}); copy it anew, or {AGAIN}")
    if file_digest(path) != about["sha256"].get(WEIGHTS):
        raise InputError(f"{path}: damaged, or not of the same export as the {ABOUT} beside it; copy both anew, or {AGAIN}")
    try:
        state_dict = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({one_line(error, 100)}); {AGAIN}") from None
    progress: dict[str, Any] = {name: about[name] for name in ("epoch", "seconds") if name in about}
    return {**progress, "settings": {name: about[name] for name in settings}, "state_dict": state_dict}
