"""Fill an Embedder from a checkpoint of this project or of the original one: to restore it, or to start training from it."""

import os
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

from torch import Tensor

from models import export_files, weights as weight_files
from models.embedder import Embedder
from models.load_tensors import as_tensors, load_tensors
from utils import checkpoint, log
from utils.errors import InputError

HEAD = "classifier.linear."
UNUSED = ("classifier.bn.", "classifier_rot.")  # the original's: a layer that it never runs, and its rotation head


def load_state(
    embedder: Embedder, state_dict: Any, source: str | PathLike = "checkpoint", original: bool | None = None
) -> list[str]:
    """Fill an Embedder from a checkpoint of this project or of the original one; all tensors or none.

    state_dict: key -> tensor; keys may carry DataParallel's prefix "module.". Every parameter and running statistic of the
        Embedder must be present.
    source: name of the checkpoint in errors, best its path.
    original: True for a checkpoint of the original project; None: decide by `classifier.bn.*`, which all of them hold. The
        net is then set up as in the original (torch's LRN for Inception), and the log says so.

    Returns the keys that were not used (`classifier.bn.*` of the original, a rotation head).
    Raises InputError that names the missing keys, the unknown keys and the shapes that differ.
    """
    return _fill(embedder, _named(embedder, state_dict, source), source, original)


def _named(embedder: Embedder, state_dict: Any, source: str | PathLike) -> dict[str, Tensor]:
    """Return the tensors under our own keys."""
    return {embedder.original.rename(key): value for key, value in as_tensors(state_dict, source).items()}


def _fill(embedder: Embedder, tensors: Mapping[str, Tensor], source: str | PathLike, original: bool | None) -> list[str]:
    if original is None:
        original = any(key.startswith("classifier.bn.") for key in tensors)
    implied = embedder.original.implied if original else {}
    implied = {key: value for key, value in implied.items() if key not in tensors}
    hint = "is it from another net?"
    if width := _width(tensors, embedder):
        hint = f"its embedding has {width} numbers, not {embedder.dim}"
    before = embedder.closed_form
    try:
        if not width:  # load_tensors reports a wrong width
            embedder.expect_closed_form(tensors, source)
        ignored = (*UNUSED, "closed_form.") if width else UNUSED
        unused = load_tensors(embedder, {**tensors, **implied}, source, ignored, hint)
    except InputError:
        embedder.closed_form = before
        raise
    if implied:
        log.say(f"{source}: {embedder.original.says}")
    return unused


def _width(tensors: Mapping[str, Tensor], embedder: Embedder) -> int | None:
    """Return the dim of a checkpoint's embedding head if it differs from the Embedder's dim, else None."""
    weight = tensors.get(f"{HEAD}weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] == embedder.dim:
        return None
    return weight.shape[0]


def read_checkpoint(path: str | PathLike) -> dict[str, Any]:
    """Read a checkpoint, or the .safetensors of an export. Raises InputError, with the path, if the file is neither."""
    if not str(path).endswith(".safetensors"):
        return checkpoint.load(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    return checkpoint.checked(export_files.read(path, checkpoint.NET_SETTINGS), path)


class Start(NamedTuple):
    """The content of a checkpoint file from which training starts."""

    path: str | PathLike
    state_dict: Any
    about: dict[str, Any]  # the entries beside state_dict: epoch, settings, method, ...
    original: bool | None  # as in load_state


def read_start(path: str | PathLike) -> Start | None:
    """Read the checkpoint in a weights file; None if it holds a backbone alone, without `classifier.linear.weight`.

    Raises InputError if the file is missing, broken or holds more than data.
    """
    content = weight_files.contents(path)
    wrapped = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    state_dict = content["state_dict"] if wrapped else content
    if not isinstance(state_dict, dict) or not {f"{HEAD}weight", f"module.{HEAD}weight"} & set(state_dict):
        return None
    return Start(path, state_dict, content if wrapped else {}, "settings" not in content if wrapped else None)


def start_from(embedder: Embedder, start: Start) -> None:
    """Fill an Embedder from a checkpoint to start training; the log names the parts that are left out.

    An embedding head of another dim is left out too: the Embedder then keeps its own head, which starts at random.
    Raises InputError for a checkpoint of another net.
    """
    settings = start.about.get("settings")
    net = settings.get("net") if isinstance(settings, dict) else None
    if net not in (None, embedder.settings["net"]):
        what = f"a checkpoint of the net {net}, not {embedder.settings['net']}; give that net, or other weights"
        raise InputError(f"{start.path}: {what}")
    tensors = _named(embedder, start.state_dict, start.path)
    tensors = {key: value for key, value in tensors.items() if not key.startswith("closed_form.")}  # training outdates it
    own_head = ""
    if width := _width(tensors, embedder):
        tensors |= {key: value for key, value in embedder.state_dict().items() if key.startswith(HEAD)}
        own_head = f"; the embedding starts at random, because the checkpoint's has {width} numbers, not {embedder.dim}"
    unused = _fill(embedder, tensors, start.path, start.original)
    method = start.about.get("method")  # in our checkpoints: all that the method learns
    left_out = {key.split(".")[0] for key in method} - {"embedder"} if isinstance(method, dict) else set()
    if any(key.startswith("classifier_rot.") for key in unused):
        left_out.add("rotation_head")
    parts = ", ".join(sorted(left_out)).replace("_", " ")
    epoch = f" of epoch {start.about['epoch']}" if "epoch" in start.about else ""
    without = f", without its {parts}" if parts else ""
    log.say(f"{start.path}: the net starts from this checkpoint{epoch}{without}{own_head}")
