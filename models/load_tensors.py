"""Load named tensors into a module, all of them or none; one line lists everything that does not fit."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.errors import InputError

# Ends of keys that may be missing. torch before 0.4.1 had no batch counts. Only our nets say which LRN they have. Early
# closed forms say neither which pixels they were fitted to, nor whether they are focused.
OPTIONAL = ("num_batches_tracked", "crossmap", "closed_form.pixels", "closed_form.focused")


def as_tensors(state_dict: Any, source: str | PathLike) -> dict[str, Tensor]:
    """Turn key -> tensor or numpy array into key -> tensor, without DataParallel's prefix "module.".

    source: name of the file in errors. Raises InputError for any other content.
    """
    if not isinstance(state_dict, dict) or not state_dict:
        raise InputError(f"{source}: holds no weights by name; give a file of key -> tensor")
    clean = {}
    for key, value in state_dict.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{source}: entry {str(key)[:60]!r} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise InputError(f"{source}: entry {key[:60]!r} is no plain tensor of numbers, but sparse, quantized or such")
        clean[key.removeprefix("module.")] = value
    return clean


def load_tensors(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str | PathLike,
    ignored: Sequence[str] = (),
    hint: str = "is it for another net?",
) -> list[str]:
    """Copy tensors into a module by name, all or nothing.

    ignored: prefixes of keys that may be present without a use. Any other unknown key is an error, because a deeper net's
        weights would otherwise fit a shallower one. The module's keys that end in OPTIONAL may be missing.
    source, hint: begin and end of an error.

    Returns the ignored keys. Raises InputError naming missing and unknown keys and shapes that differ.
    """
    own = module.state_dict()
    ready: dict[str, Tensor] = {}
    unused: list[str] = []
    unknown: list[str] = []
    shapes: list[str] = []
    for key, value in state.items():
        if key not in own:
            (unused if key.startswith(tuple(ignored)) else unknown).append(key)
        elif value.shape == own[key].shape:
            ready[key] = value
        elif _squeezed(value) == _squeezed(own[key]):
            # Caffe keeps a BatchNorm's numbers as (1, C). Only axes of length one may differ: an equal count alone
            # would also let a transposed matrix in.
            ready[key] = value.reshape(own[key].shape)
        else:
            shapes.append(f"{key} is {tuple(value.shape)}, not {tuple(own[key].shape)}")
    missing = [key for key in own if key not in state and not key.endswith(OPTIONAL)]
    wrong = [("missing", missing), ("unknown", unknown), ("other shape", shapes)]
    if any(items for _, items in wrong):
        parts = "; ".join(f"{what}: {_some(items)}" for what, items in wrong if items)
        raise InputError(f"{source}: does not fit this net ({parts}); {hint}")
    module.load_state_dict(ready, strict=False)
    return unused


def in_order(tensors: Mapping[str, Tensor], module: nn.Module, name: str, source: str | PathLike) -> dict[str, Tensor]:
    """Rename the tensors of a file that lists the module's layers in the same order under other names.

    The file's n-th key becomes the module's n-th key. Both must end in the same word (weight, running_mean, ...), or
    InputError is raised, with the net's `name` and the file's `source`. `load_tensors` checks the shapes.
    """
    ours = list(module.state_dict())
    same = len(tensors) == len(ours) and all(a.split(".")[-1] == b.split(".")[-1] for a, b in zip(tensors, ours))
    if not same:
        raise InputError(f"{source}: its {len(tensors)} keys are not those of {name}; get the file again")
    return dict(zip(ours, tensors.values()))


def _squeezed(tensor: Tensor) -> list[int]:
    return [length for length in tensor.shape if length != 1]


def _some(items: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
