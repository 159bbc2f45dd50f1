"""Writes checkpoints whole or not at all, and reads them without running any code in them."""

import glob
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any

import torch

from utils import beside, log, safe_load
from utils.errors import InputError, Interrupted, RunError
from utils.files import written_whole
from utils.health import diverged

LATEST = "latest.pth.tar"
NET_SETTINGS = ("net", "dim", "width", "origin_width")  # the settings that a checkpoint's net is built from

TIMES = ("seconds", "cpu_seconds")  # wall time, and time of busy cores, which other work on the machine does not change
# Settings that may differ when a run is resumed: they say where, how far and how loudly it runs, not what it learns.
FREE = set("data data_root save_dir log_file resume override weights epochs save_step save_minutes keep_last".split())
FREE |= set("eval_step print_freq nThreads cache device amp channels_last micro_batch on_bad_image features_dir".split())
FREE |= {"gallery_eq_query", "pool_feature", "readout", "report", "tensorboard", "dry_run"}


def path_of(save_dir: str, epoch: int) -> str:
    return os.path.join(save_dir, f"ckp_ep{epoch}.pth.tar")


def all_in(save_dir: str) -> list[str]:
    """The checkpoints `ckp_ep<N>.pth.tar` of a folder, by epoch."""
    return [path for _, path in sorted(_numbered(save_dir).items())]


def _numbered(save_dir: str) -> dict[int, str]:
    """{epoch: path}"""
    paths = glob.glob(os.path.join(glob.escape(save_dir), "ckp_ep*.pth.tar"))
    return {int(match[1]): path for path in paths if (match := re.search(r"ckp_ep(\d+)\.pth\.tar$", path))}


EARLIER = {"way": 0.5}  # settings that runs of earlier versions lack, and what these runs do


def compare_settings(saved: Mapping, now: Mapping, path: str, override: bool = False) -> None:
    """Log how the settings `saved` in checkpoint `path` differ from `now`. A setting that only one side has does not count.

    Raises InputError when a setting differs that is not in FREE: it is then another run. With `override` it only logs that.
    """
    saved = {**EARLIER, **saved}
    both = [name for name in now if name in saved and name not in ("resume", "override", "log_file")]
    differ = {name: f"--{name} was {saved[name]}, is {now[name]}" for name in both if saved[name] != now[name]}
    other = [text for name, text in differ.items() if name not in FREE]
    if other and not override:
        remedy = "give another --save_dir (RUN_SUFFIX in run_train_test.sh), or --override to go on with the new ones"
        raise InputError(f"{path}: cannot resume with other settings: {'; '.join(other)}; {remedy}")
    if differ:
        log.say(f"{path}: goes on with other settings: {'; '.join(differ.values())}")


def find(resume: str, save_dir: str) -> tuple[Any, Any]:
    """Return (path, content) of the checkpoint to resume; (None, None) for a fresh run.

    resume: a path; `yes` for the newest checkpoint in `save_dir`, if any; `no` for a fresh run, InputError if there is one.
    A damaged checkpoint is logged, and the one before it is taken. InputError when no other is left.
    """
    numbered = _numbered(save_dir)
    latest = os.path.join(save_dir, LATEST)
    if resume not in ("yes", "no"):
        state = load_to_resume(resume)
        inside = os.path.dirname(os.path.abspath(resume)) == os.path.abspath(save_dir)
        if inside and max(numbered, default=0) > state["epoch"]:
            what = f"{save_dir} holds later checkpoints; --resume yes would go on from those until this run has come as far"
            log.warn(f"{resume}: {what}: remove them, or give another --save_dir")
        return resume, state
    if resume == "no":
        if numbered or os.path.exists(latest):
            remedy = "remove them, give another --save_dir, or --resume yes to go on with that run"
            what = "holds checkpoints of an earlier run, which a new one would mix with its own"
            raise InputError(f"{save_dir}: {what}; {remedy}")
        return None, None
    damaged = []

    def newest_intact(candidates: Iterable[str]) -> tuple[Any, Any]:
        for path in candidates:
            try:
                return path, load_to_resume(path)
            except InputError as error:
                log.warn(f"{error}; the one before it is taken")
                damaged.append(path)
        return None, None

    rolling, state = newest_intact([latest] * os.path.exists(latest))
    later = [path for epoch, path in sorted(numbered.items(), reverse=True) if not state or epoch > state["epoch"]]
    numbered_one = newest_intact(later)
    if damaged and not rolling and not numbered_one[0]:
        remedy = "remove it, or keep it elsewhere, to start anew"
        raise InputError(f"{damaged[0]}: cannot be resumed, and there is no other checkpoint; {remedy}")
    return numbered_one if numbered_one[0] else (rolling, state)


def save(path: str, state: Mapping, again: bool = False) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) to `path`, as a whole or not at all.

    Tensors in state["look"] first go into a file beside it (`utils/beside.py`), and `path` then holds their hash.
    again: that file is written even if it is there, as an earlier run may have left it damaged.
    After the call the file is on the disk. If it raises a RunError instead, an older file of that name is still there, and
    no part of the new one.
    """
    try:
        if isinstance(state.get("look"), Mapping):  # a state that was loaded has the hash
            state = {**state, "look": beside.write(os.path.dirname(path), state["look"], again)}
        with written_whole(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # after an OSError torch cannot close its file either; its RuntimeError hides the cause
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or (str(cause).splitlines() or [type(cause).__name__])[0]
        remedy = "Make room or correct the permissions, the same command goes on from the last one"
        raise RunError(f"{path}: cannot be written ({reason}); earlier checkpoints are as they were. {remedy}") from None


def load(path: str | PathLike) -> Any:
    """Read a checkpoint to the CPU. InputError names a missing, damaged or unsafe file, or a file that is no checkpoint."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    try:
        return checked(safe_load.read(path), path)
    except safe_load.Unreadable as reason:
        raise InputError(f"{path}: not a readable checkpoint ({reason})") from None


def load_to_resume(path: str | PathLike) -> Any:
    """Read a checkpoint as `load` does, with the tensors from the file beside it in their place, state["method"].

    Raises InputError as `load` does, also for a missing or damaged file beside it.
    """
    state = load(path)
    if state.get("look"):
        look = beside.path_of(os.path.dirname(path), state["look"])
        try:
            state["method"].update(beside.read(look))
        except safe_load.Unreadable as reason:
            what = f"cannot be resumed without {os.path.basename(look)} in its folder, which is not readable"
            raise InputError(f"{path}: {what} ({reason})") from None
    return state


def checked(state: Any, path: str | PathLike) -> Any:
    """Return `state`, read from `path`, if it is a checkpoint of this project; else raise InputError with the path."""
    if not isinstance(state, dict) or "state_dict" not in state or not isinstance(state.get("epoch"), int):
        what = "not a checkpoint of this project, `state_dict` or `epoch` is missing"
        raise InputError(f"{path}: {what}; the weights of a backbone alone are no checkpoint")
    settings = state.get("settings", {})
    if not isinstance(settings, dict) or not all(_fits(name, settings[name]) for name in NET_SETTINGS if name in settings):
        raise InputError(f"{path}: not a checkpoint of this project, its settings are not those of a net")
    if not all(isinstance(state.get(f"{name}{part}", 0.0), float) for name in TIMES for part in ("", "_of_readout")):
        raise InputError(f"{path}: not a checkpoint of this project, its `seconds` are no number")
    look = state.get("look", "")
    if not (isinstance(look, str) and (not look or beside.is_digest(look) and isinstance(state.get("method"), dict))):
        raise InputError(f"{path}: not a checkpoint of this project, its `look` is no hash, or it has no `method`")
    return state


def _fits(name: str, value: Any) -> bool:
    """Return True if a setting of a net may have this value."""
    return isinstance(value, str) if name == "net" else isinstance(value, int) and value > 0


def remove_unnamed(save_dir: str) -> None:
    """Remove the files beside checkpoints that no checkpoint of the folder names; none if a checkpoint cannot be read."""
    looks = beside.all_in(save_dir)
    with suppress(InputError, OSError):
        paths = set(glob.glob(os.path.join(glob.escape(save_dir), "*.pth.tar"))) - looks
        named = {beside.path_of(save_dir, str(load(path).get("look"))) for path in paths}
        for path in looks - named:
            os.remove(path)


class Saver:
    """Writes the checkpoints of one run into its folder: one at the end of an epoch, and latest.pth.tar in between.

    capture: returns the state of the run after its last whole step, or None when there is nothing to keep yet.
    minutes: between two writes of latest.pth.tar, 0 for none. keep_last: number of epoch checkpoints to keep, 0 for all.
    writes: True in the first process of a run only.
    """

    def __init__(
        self, save_dir: str, capture: Callable | None, minutes: float = 0, keep_last: int = 0, writes: bool = True
    ) -> None:
        self.save_dir, self.capture, self.minutes = save_dir, capture, minutes
        self.keep_last, self.writes = keep_last, writes
        self._due = time.monotonic() + 60 * minutes
        self._wrote = False
        if writes:
            for left in glob.glob(os.path.join(glob.escape(save_dir), "*.pth.tar.tmp*")):
                with suppress(OSError):
                    os.remove(left)  # left by a run killed while writing; the lock keeps other runs out

    def epoch(self, epoch: int) -> None:
        """Write the checkpoint of an epoch. Remove the oldest ones beyond `keep_last`."""
        self._write(path_of(self.save_dir, epoch))
        if self.keep_last and self.writes:
            numbered = _numbered(self.save_dir)  # an earlier run may have gone further; its later ones stay
            for number in sorted(number for number in numbered if number <= epoch)[: -self.keep_last]:
                with suppress(OSError):
                    os.remove(numbered[number])

    def after_step(self) -> None:
        """Write latest.pth.tar if it is due."""
        if self.minutes and time.monotonic() >= self._due:
            self._write(os.path.join(self.save_dir, LATEST))

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """If an error or a signal ends the block early, save the run as it was after its last whole step.

        `RunError.rescue` says whether that can be done. After a bug in the project nothing is saved.
        """
        try:
            yield
        except (Interrupted, InputError, RunError) as error:
            path = os.path.join(self.save_dir, LATEST)
            if getattr(error, "rescue", True) and self._write(path):
                log.say(f"saved in {path}; the same command goes on from there")
            raise

    def _write(self, path: str) -> bool:
        """Write a checkpoint, if there is anything to write. Return True if it was written."""
        state = self.capture() if self.writes and self.capture else None
        self._due = time.monotonic() + 60 * self.minutes
        if state is None:
            return False
        where = f"epoch {state['epoch'] + 1} step {state['step']}"
        learned = [value for value in state.get("method", state["state_dict"]).values() if isinstance(value, torch.Tensor)]
        if not all(value.isfinite().all() for value in learned if value.is_floating_point()):
            raise RunError(diverged(f"{where}: weights are not finite"))
        if not os.path.isdir(self.save_dir):
            log.warn(f"{self.save_dir}: was removed during the run; made again, for the checkpoint")
            log.make_folder(self.save_dir)
        save(path, state, again=not self._wrote)
        self._wrote = True
        if len(beside.all_in(self.save_dir)) > 1:
            remove_unnamed(self.save_dir)
        return True
