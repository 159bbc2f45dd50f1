"""Where a run stands between two steps, and how it is taken up again from a checkpoint."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from utils import log
from utils.checkpoint import compare_settings
from utils.errors import InputError


@dataclass
class Position:
    """How far a run has come. A later step depends on nothing else but the method's and the optimiser's state: every random
    draw comes from the seed and the position."""

    epoch: int = 0  # whole epochs
    step: int = 0  # steps of the next one
    looked: int = 0  # the last epoch before which the method looked at all images


def capture(
    position: Position,
    method: nn.Module,
    embedder: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    scaler: Any,
    unreported: list,
    digest: str,
    args: argparse.Namespace,
) -> dict:
    """What a checkpoint holds: tensors, numbers, strings, lists and dicts of them.

    `state_dict` is the Embedder, which test.py and users need; `method` has all that resuming needs: the closed form is none
    of it, being fitted to weights that change. Tensors that they share are written once. digest: of the list of images.
    unreported: steps that metrics.jsonl has no line of yet.
    """
    needed = {key: value for key, value in method.state_dict().items() if "closed_form." not in key}
    models = {"state_dict": embedder.state_dict(), "method": needed}
    training = {"optimiser": optimiser.state_dict() if optimiser else {}, "scaler": scaler.state_dict()}
    about = {"unreported": unreported, "images": digest, "settings": vars(args), "versions": versions()}
    return {**models, **asdict(position), **training, **about}


def restore(
    state: Mapping, path: str, method: nn.Module, optimiser: Any, scaler: Any, digest: str, args: argparse.Namespace
) -> tuple[Position, list]:
    """Fill method, optimiser (or None) and scaler from a checkpoint `state`; returns its Position and unreported steps.

    Raises InputError when it is of other images, or, without `override`, of other settings.
    """
    if "method" not in state:
        what = "made by an earlier version or by the original project; it can be tested"
        raise InputError(f"{path}: {what}, and a new run can start from it with --weights, but not go on with it")
    if state.get("images") != digest:
        raise InputError(f"{path}: not a checkpoint of a run on these images; it cannot be resumed here")
    compare_settings(state["settings"], vars(args), path, args.override)
    if state.get("versions", versions()) != versions():
        log.say(f"{path}: made with {state['versions']}, goes on with {versions()}: the last digits may differ")
    try:
        method.load_state_dict(state["method"])
        if optimiser:
            rates = [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
            optimiser.load_state_dict(state["optimiser"])
            for group, (lr, weight_decay) in zip(optimiser.param_groups, rates):
                group.update(lr=lr, weight_decay=weight_decay)  # the same, unless `override` allows others
    except (RuntimeError, ValueError, KeyError):
        remedy = "give the --net, the --method and the settings that it was made with"
        raise InputError(f"{path}: of a net or a method with other parameters; {remedy}") from None
    if state["scaler"]:  # empty when that run needed none
        scaler.load_state_dict(state["scaler"])
    return Position(state["epoch"], state["step"], state["looked"]), state["unreported"]


def versions() -> dict[str, str | int]:
    """What the last digits depend on: versions of libraries, and how many threads and processes share the work."""
    libraries = {"torch": version("torch"), "numpy": version("numpy"), "faiss": version("faiss-cpu")}
    return {**libraries, "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", 1))}
