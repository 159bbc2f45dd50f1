"""Where a run stands between two steps, and how it is taken up again from a checkpoint."""

import os
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from utils import log
from utils.checkpoint import compare_settings
from utils.errors import InputError


@dataclass
class Position:
    """How far a run has come. With the weights and the optimiser it is all that a later step depends on: every random draw
    is made from the seed and the position."""

    epoch: int = 0  # whole epochs
    step: int = 0  # steps of the next one
    labels: np.ndarray | None = None  # int64 (N,), -1 for an unreadable image
    labelled: int = 0  # the epoch before which they were made


def capture(at, model, optimiser, scaler, window, images, args):
    """What a checkpoint holds: tensors, numbers, strings, lists and dicts of them."""
    return {"state_dict": model.state_dict(), "epoch": at.epoch, "step": at.step, "labels": torch.from_numpy(at.labels),
            "labelled": at.labelled, "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict(), "window": window,
            "images": images.digest, "settings": vars(args), "versions": versions()}


def restore(state, path, optimiser, scaler, images, args):
    """Fill optimiser and scaler from a checkpoint `state`; returns its Position and its window of metrics.

    Raises InputError when it is of other images, or of other settings without --override.
    """
    if state.get("images") != images.digest:
        raise InputError(f"{path}: not a checkpoint of a run on these {len(images)} images; it cannot be resumed here")
    compare_settings(state["settings"], vars(args), path, args.override)
    if state.get("versions", versions()) != versions():
        log.say(f"{path}: made with {state['versions']}, goes on with {versions()}: the last digits may differ")
    rates = [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
    try:
        optimiser.load_state_dict(state["optimiser"])
    except ValueError:
        raise InputError(f"{path}: of a net with other parameters; give the --net that it was made with") from None
    for group, (lr, weight_decay) in zip(optimiser.param_groups, rates):
        group.update(lr=lr, weight_decay=weight_decay)  # equal, unless they are what --override is for
    if state["scaler"]:  # empty when that run needed none
        scaler.load_state_dict(state["scaler"])
    at = Position(state["epoch"], state.get("step", 0), state["labels"].numpy(), state.get("labelled", state["epoch"]))
    return at, state.get("window", ())


def versions():
    """Of the libraries that numbers come from, and how many threads and processes share the work."""
    libraries = {module.__name__: str(module.__version__) for module in (torch, np, faiss)}
    return {**libraries, "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", 1))}
