"""The state of a run between two steps, and its restoration from a checkpoint."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from utils import log
from utils.checkpoint import TIMES, compare_settings
from utils.errors import InputError
from utils.timing import TimeByPart


@dataclass
class Position:
    """The progress of a run. Later steps depend only on it and on the method's and the optimiser's state: every random draw
    comes from the seed and the position."""

    epoch: int = 0  # whole epochs
    step: int = 0  # steps of the next epoch
    looked: int = 0  # the last epoch before which the method looked at all images

    @property
    def begun(self) -> bool:
        """True if a stop could lose progress."""
        return any(vars(self).values())


def what_is_left(position: Position, args: argparse.Namespace, has_readout: bool) -> str:
    """Return a log line about the remaining epochs. has_readout: whether the checkpoint has a closed form."""
    if position.epoch < args.epochs:
        step = f", from step {position.step + 1}" if position.step else ""
        return f"epochs {position.epoch + 1} to {args.epochs}{step}"
    without = ", without a closed form; test.py --readout closed_form fits one to this checkpoint"
    return f"epoch {position.epoch} is already reached" + without * (args.readout != "embedding" and not has_readout)


class Cost:
    """Counts the seconds of a run up to a checkpoint, without tests and without the readouts of earlier checkpoints."""

    def __init__(self, clock: TimeByPart) -> None:
        self._clock = clock
        self.before = [0.0, 0.0]  # before the run was resumed; one number for each of TIMES, as in the other lists
        self._earlier_readouts = [0.0, 0.0]  # since the run was resumed

    def resume(self, state: Mapping) -> None:
        self.before = [state.get(name, 0.0) - state.get(f"{name}_of_readout", 0.0) for name in TIMES]

    def begin_readout(self) -> None:
        """Leave out all readouts so far: the next one belongs to the next checkpoint."""
        self._earlier_readouts = self._readouts()

    def capture(self) -> dict[str, float]:
        """Return the times for a checkpoint: the seconds in all, and the part that its readout took."""
        now = [self._clock.total(without=("evaluation",), cpu=cpu) for cpu in (False, True)]
        took = [before + spent - earlier for before, spent, earlier in zip(self.before, now, self._earlier_readouts)]
        last = [spent - earlier for spent, earlier in zip(self._readouts(), self._earlier_readouts)]
        return {**dict(zip(TIMES, took)), **{f"{name}_of_readout": seconds for name, seconds in zip(TIMES, last)}}

    def _readouts(self) -> list[float]:
        return [times.get("closed form", 0.0) for times in (self._clock.seconds, self._clock.cpu)]


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
    """Return the content of a checkpoint: tensors, numbers, strings, lists and dicts of them.

    `state_dict` is the Embedder, which test.py and users need. `method` is the state that resuming needs. The closed form is
    no part of it, because it was fitted to weights that change. Tensors that both share are written once.
    digest: of the list of images. unreported: steps that have no line in metrics.jsonl yet.
    """
    needed = {key: value for key, value in method.state_dict().items() if "closed_form." not in key}
    models = {"state_dict": embedder.state_dict(), "method": needed}
    training = {"optimiser": optimiser.state_dict() if optimiser else {}, "scaler": scaler.state_dict()}
    about = {"unreported": unreported, "images": digest, "settings": vars(args), "versions": versions()}
    return {**models, **asdict(position), **training, **about}


def restore(
    state: Mapping, path: str, method: nn.Module, optimiser: Any, scaler: Any, digest: str, args: argparse.Namespace
) -> tuple[Position, list]:
    """Fill method, optimiser (or None) and scaler from a checkpoint `state`. Returns its Position and unreported steps.

    Raises InputError for a checkpoint of other images, and without `override` for one of other settings.
    """
    if "method" not in state:
        what = "made by an earlier version or by the original project; it can be tested"
        raise InputError(f"{path}: {what}, and a new run can start from it with --weights, but not go on with it")
    if state.get("images") != digest:
        remedy = "if you added images or a test.txt, train anew with another --save_dir (in the script: RUN_SUFFIX=-2)"
        raise InputError(f"{path}: not a checkpoint of a run on these images; it cannot be resumed here; {remedy}")
    compare_settings(state["settings"], vars(args), path, args.override)
    if state.get("versions", versions()) != versions():
        log.say(f"{path}: made with {state['versions']}, goes on with {versions()}: the last digits may differ")
    try:
        method.load_state_dict(state["method"])
        if optimiser:
            rates = [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
            optimiser.load_state_dict(state["optimiser"])
            for group, (lr, weight_decay) in zip(optimiser.param_groups, rates):
                group.update(lr=lr, weight_decay=weight_decay)  # `override` may allow other values
    except (RuntimeError, ValueError, KeyError):
        remedy = "give the --net, the --method and the settings that it was made with"
        raise InputError(f"{path}: of a net or a method with other parameters; {remedy}") from None
    if state["scaler"]:  # empty when that run needed none
        scaler.load_state_dict(state["scaler"])
    return Position(state["epoch"], state["step"], state["looked"]), state["unreported"]


def versions() -> dict[str, str | int]:
    """Return the facts that the last digits depend on: versions of libraries, numbers of threads and processes."""
    libraries = {"torch": version("torch"), "numpy": version("numpy"), "faiss": version("faiss-cpu")}
    return {**libraries, "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", 1))}
