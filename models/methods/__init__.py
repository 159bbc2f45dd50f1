"""The methods by name, a file for each.

To add one: write a file with a subclass of `method.Method`, and add a line to `METHODS`.
"""

import argparse
from importlib import import_module
from typing import Any

from data.lists import ImageList
from models.embedder import Embedder
from models.methods.method import Method
from utils import flags
from utils.errors import InputError

__all__ = ["Method", "add_flags", "create", "default_settings", "names"]

# name for --method, also the file's name in this folder -> its class there
METHODS = {
    "udml_ss": "UDMLSS",
    "shared_neighbours": "SharedNeighbours",
    "stml": "STML",
    "cluster_contrast": "ClusterContrast",
    "supervised": "Supervised",
    "rotation": "RotationAlone",
    "frozen": "Frozen",
    "closed_form": "ClosedFormAlone",
}


def names() -> list[str]:
    return list(METHODS)


def _class(name: str) -> type[Method]:
    if name not in METHODS:
        raise InputError(f"{name}: unknown; known methods: {', '.join(METHODS)}", setting="method")
    return getattr(import_module(f"models.methods.{name}"), METHODS[name])


def add_flags(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the flags of a run with the method called `name`: common flags, training flags, and the method's own flags."""
    flags.add_common(parser)
    flags.add_training(parser)
    _class(name).flags(parser.add_argument_group(f"flags of --method {name}"))


def default_settings(name: str, **changed: Any) -> argparse.Namespace:
    """Return the settings of a run with that method: the defaults, except for the `changed` ones."""
    parser = flags.Parser()
    add_flags(name, parser)
    settings = parser.parse_args(["--save_dir", "results"])
    vars(settings).update(changed)
    return settings


def create(name: str, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> Method:
    """Create the method called `name`, which trains `embedder` on `images`.

    settings: values of the flags that all methods share (seed, batch_size, lr, ...) and of the method's own flags.
    Raises InputError for an unknown name, and for settings that do not fit each other or the images.
    """
    return _class(name)(embedder, images, settings)
