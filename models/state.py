"""Fitting named tensors into a module: all of them or none, and one line that says what does not fit."""

import numpy as np
import torch

from utils.errors import InputError


def tensors(state_dict, source):
    """key -> tensor, from key -> tensor or numpy array, without the "module." of DataParallel.

    source: what to call the origin in an error. Raises InputError if it is anything else.
    """
    if not isinstance(state_dict, dict) or not state_dict:
        raise InputError(f"{source}: holds no weights by name")
    clean = {}
    for key, value in state_dict.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{source}: entry {str(key)[:60]!r} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise InputError(f"{source}: entry {key[:60]!r} is no plain tensor of numbers, but sparse, quantized or such")
        clean[key.removeprefix("module.")] = value
    return clean


def load_tensors(module, state, source, ignored=(), optional=(), hint="is it for another --net?"):
    """Copy tensors into a module by name, all or nothing.

    state: key -> tensor.
    ignored: prefixes of keys that may be there without a use; any other unknown key is an error, because a deeper net's
        weights would otherwise fit a shallower one.
    optional: prefixes of keys that may be missing; so may `num_batches_tracked`, which torch before 0.4.1 did not have.

    Returns the ignored keys. Raises InputError naming missing and unknown keys and shapes that differ.
    """
    own = module.state_dict()
    ready, unused, unknown, shapes = {}, [], [], []
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
    missing = [
        key
        for key in own
        if key not in state and not key.endswith("num_batches_tracked") and not key.startswith(tuple(optional))
    ]
    wrong = [("missing", missing), ("unknown", unknown), ("other shape", shapes)]
    if any(items for _, items in wrong):
        parts = "; ".join(f"{what}: {_some(items)}" for what, items in wrong if items)
        raise InputError(f"{source}: does not fit this net ({parts}); {hint}")
    module.load_state_dict(ready, strict=False)
    return unused


def _squeezed(tensor):
    return [length for length in tensor.shape if length != 1]


def _some(items, shown=3):
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
