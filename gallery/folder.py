"""The files of a gallery on the disk: whether they are whole and up to date, and how new ones take their places."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from data.lists import shown
from gallery.store import Bad, File, Gallery, read_about, read_table
from utils.errors import InputError, RunError
from utils.files import write_json

PLACES = ("embeddings.npy", "prints.npy", "images.sqlite", "model.pth.tar", "about.json")  # about.json comes last


def write_about(folder: str, about: dict[str, Any]) -> None:
    """Write about.json, whole or not at all."""
    write_json(os.path.join(folder, "about.json"), about)


def refuse_among_photos(out: str, root: str | None) -> None:
    """Raise InputError where the embeddings would lie in the folder of the images, in which nothing is written."""
    if root and os.path.join(os.path.realpath(out), "").startswith(os.path.join(os.path.realpath(root), "")):
        raise InputError(f"{shown(out)}: lies in the folder of the images, in which nothing is written; give another", "out")


def refuse_foreign(folder: str) -> None:
    """Raise InputError where a folder that would be removed holds files of others."""
    ours = tuple(name.partition(".")[0] for name in (*PLACES, "hashes.npy", "done.npy", "plan.json"))
    for name in ("making", "making.new", "making.old"):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not all(held.startswith(ours) for held in os.listdir(path)):
            raise InputError(f"{shown(path)}: holds files of something else; give another folder", setting="out")


def put_in_place(folder: str) -> None:
    """Move what is wholly made to its place; also after a stop in the midst of it. Does nothing where nothing is whole."""
    making, old = os.path.join(folder, "making"), os.path.join(folder, "making.old")
    if os.path.exists(old) and not os.path.exists(making):
        os.rename(old, making)  # it was stopped between two renames
    remove(old)
    if not os.path.exists(os.path.join(making, "about.json")):
        return
    if os.path.exists(os.path.join(making, "model.pth.tar")):
        remove(os.path.join(folder, "index.json"))  # it is of another model
    for name in PLACES:
        if os.path.exists(os.path.join(making, name)):
            if os.path.isdir(os.path.join(folder, name)):
                remove(os.path.join(folder, name))
            os.replace(os.path.join(making, name), os.path.join(folder, name))
    remove(making)


def is_current(folder: str, model: str, dtype: str, files: Sequence[File], bad: Sequence[Bad] = ()) -> bool:
    """Whether the gallery in `folder` is whole, of this model, and of just these files, readable and not."""
    try:
        gallery = Gallery(folder)
    except InputError:
        return False
    same_files = gallery.files == list(files) and {b.file for b in gallery.unreadable} == {b.file for b in bad}
    return same_files and (gallery.about["model"], gallery.about["dtype"]) == (model, dtype)


def amend(folder: str, about: dict[str, Any]) -> None:
    """Of a gallery that is current, write down what else is known about it, and put its model in place if that was lost."""
    held = read_about(folder)
    if held != {**held, **about}:
        write_about(folder, {**held, **about})
    making = os.path.join(folder, "making")
    with suppress(FileNotFoundError):
        os.replace(os.path.join(making, "model.pth.tar"), os.path.join(folder, "model.pth.tar"))
    remove(making)  # what was to be added is gone again


def known_bad(folder: str, files: Sequence[File]) -> list[Bad]:
    """Those of the files that the gallery in `folder` says cannot be read, and that have not changed since."""
    now = set(files)
    with suppress(Exception):  # a damaged table can fail in any way
        return [entry for entry in read_table(os.path.join(folder, "images.sqlite"))[3] if entry.file in now]
    return []


def json_in(folder: str, name: str) -> dict[str, Any]:
    """A file of JSON as a dict; OSError or ValueError where it is none."""
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        held = json.load(file)
    if not isinstance(held, dict):
        raise ValueError(f"{name} is no table")
    return held


def remove(path: str) -> None:
    """Remove a file or folder, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            os.remove(path)


@contextmanager
def clear_words(out: str) -> Iterator[None]:
    """A block in which a disk that is full, or cannot be written, becomes a RunError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{shown(out)}: cannot be written ({reason}); make room, the same command goes on") from None
