"""Write and read the folder of export.py: three files, which are put in place together."""

import json
import os
from collections.abc import Sequence
from os import PathLike
from typing import Any

from models.weights import one_line
from utils.errors import InputError
from utils.files import file_digest, write_json

GRAPH, WEIGHTS, ABOUT = "model.onnx", "model.safetensors", "model.json"
FORMAT = "an exported embedder"  # tells our model.json from others
VERSION = 1  # raise it when an entry of model.json changes its meaning
AGAIN = "run export.py again"


def refuse_foreign(folder: str) -> None:
    """Raise InputError if `folder` is a file, or holds files with our names that no earlier export wrote."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{folder}: is a file; give a folder", setting="out")
    held = [name for name in (ABOUT, GRAPH, WEIGHTS) if os.path.lexists(os.path.join(folder, name))]
    try:
        if held:
            read_about(os.path.join(folder, ABOUT))
    except InputError:
        raise InputError(f"{folder}: its {held[0]} is not from an earlier export; give another folder", "out") from None


def write_about(folder: str, about: dict[str, Any]) -> None:
    """Write model.json beside the other two files, with their hashes."""
    hashes = {name: file_digest(os.path.join(folder, name)) for name in (GRAPH, WEIGHTS)}
    write_json(os.path.join(folder, ABOUT), {"format": FORMAT, "version": VERSION, **about, "sha256": hashes})


def put_in_place(whole: str, folder: str) -> None:
    """Move the files of an export from `whole` to `folder`, all at once if the folder does not exist yet.

    Otherwise model.json moves first. After an interruption its hashes show that the other files are not there yet. The next
    export accepts such a folder as an earlier export.
    """
    for name in (ABOUT, GRAPH, WEIGHTS):
        with open(os.path.join(whole, name), "rb") as file:
            os.fsync(file.fileno())
    if not os.path.exists(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        os.rename(whole, folder)
        return
    for name in (ABOUT, GRAPH, WEIGHTS):
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
