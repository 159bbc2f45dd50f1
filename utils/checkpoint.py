"""Checkpoints: written whole or not at all, read without running what they hold."""

import errno
import glob
import os
import re
import time
from contextlib import contextmanager, suppress

import torch

from utils import log, safe_load
from utils.errors import InputError, Interrupted, RunError
from utils.health import diverged

LATEST = "latest.pth.tar"
KINDS = {"net": str, "dim": int, "width": int, "origin_width": int}  # of the settings that tell how to build its net


def path_of(save_dir, epoch):
    return os.path.join(save_dir, f"ckp_ep{epoch}.pth.tar")


def all_in(save_dir):
    """The checkpoints `ckp_ep<N>.pth.tar` of a folder, by epoch."""
    return [path for _, path in sorted(_numbered(save_dir).items())]


def _numbered(save_dir):
    """{epoch: path}"""
    found = {}
    for path in glob.glob(os.path.join(glob.escape(save_dir), "ckp_ep*.pth.tar")):
        match = re.search(r"ckp_ep(\d+)\.pth\.tar$", path)
        if match:
            found[int(match[1])] = path
    return found


# Settings that may differ when a run is resumed: they say where, how far and how loudly it runs, not what it learns.
FREE = {"data", "data_root", "save_dir", "log_file", "resume", "override", "weights", "epochs", "save_step", "save_minutes",
        "keep_last", "eval_step", "print_freq", "nThreads", "cache", "device", "amp", "channels_last",
        "micro_batch", "on_bad_image", "features_dir", "gallery_eq_query", "pool_feature"}


def compare_settings(saved, now, path, override=False):
    """Say how the settings `saved` in checkpoint `path` differ from those of `now`.

    Raises InputError when they are of another run, that is, when others than FREE ones differ; with `override` it only says
    so. Settings that one of the two does not have do not count.
    """
    differ = {name: f"--{name} was {saved[name]}, is {value}" for name, value in now.items()
              if name not in ("resume", "override", "log_file") and name in saved and saved[name] != value}
    other = [text for name, text in differ.items() if name not in FREE]
    if other and not override:
        raise InputError(f"{path}: cannot resume with other settings: {'; '.join(other)}; give another --save_dir "
                         "(RUN_SUFFIX in run_train_test.sh), or --override to go on with the new ones")
    if differ:
        log.say(f"{path}: goes on with other settings: {'; '.join(differ.values())}")


def find(resume, save_dir):
    """(path, content) of the checkpoint that --resume asks for, (None, None) for a fresh run.

    resume: a path; `yes` for the newest of `save_dir`, if it has any; `no` for a fresh run, InputError if it has one.
    A damaged newest one is named, and the one before it taken; InputError when no other is left.
    """
    numbered = _numbered(save_dir)
    latest = os.path.join(save_dir, LATEST)
    if resume not in ("yes", "no"):
        state = load(resume)
        inside = os.path.dirname(os.path.abspath(resume)) == os.path.abspath(save_dir)
        if inside and max(numbered, default=0) > state["epoch"]:
            log.warn(f"{resume}: {save_dir} holds later checkpoints; --resume yes would go on from those until this run has "
                     "come as far: remove them, or give another --save_dir")
        return resume, state
    if resume == "no":
        if numbered or os.path.exists(latest):
            raise InputError(f"{save_dir}: holds checkpoints of an earlier run, which a new one would mix with its own; "
                             "remove them, give another --save_dir, or --resume yes to go on with that run")
        return None, None
    damaged = []

    def newest_intact(candidates):
        for path in candidates:
            try:
                return path, load(path)
            except InputError as error:
                log.warn(f"{error}; the one before it is taken")
                damaged.append(path)
        return None, None

    rolling, state = newest_intact([latest] * os.path.exists(latest))
    later = [path for epoch, path in sorted(numbered.items(), reverse=True) if not state or epoch > state["epoch"]]
    found = newest_intact(later)
    if damaged and not rolling and not found[0]:
        raise InputError(f"{damaged[0]}: damaged, and there is no other checkpoint; remove it to start anew")
    return found if found[0] else (rolling, state)


def save(path, state):
    """Write `state` (tensors, numbers, strings, lists and dicts of them) to `path`, atomically.

    Once this returns, it is on the disk under its name. RunError when that fails: what had that name before is then as it
    was, and nothing of the new one is left.
    """
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(os.path.dirname(path))
    except (OSError, RuntimeError) as error:
        if isinstance(error.__context__, OSError):
            error = error.__context__  # torch could not end its file after it, and says that instead
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise RunError(f"{path}: cannot be written ({reason}); earlier checkpoints are as they were. Make room or correct "
                       "the permissions, the same command goes on from the last one") from None
    finally:
        try:
            os.remove(temporary)
        except OSError:
            pass  # renamed, or never made


def load(path):
    """Read a checkpoint to the CPU; InputError names a missing, damaged or unsafe file, or one that is no checkpoint."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    try:
        state = safe_load.read(path)
    except safe_load.Unreadable as reason:
        raise InputError(f"{path}: not a readable checkpoint ({reason})") from None
    if not isinstance(state, dict) or "state_dict" not in state or not isinstance(state.get("epoch"), int):
        raise InputError(f"{path}: not a checkpoint of this project, `state_dict` or `epoch` is missing; a backbone's "
                         "weights go to --weights")
    settings = state.get("settings", {})
    if not isinstance(settings, dict) or any(not isinstance(settings[name], kind) or kind is int and settings[name] < 1
                                             for name, kind in KINDS.items() if name in settings):
        raise InputError(f"{path}: not a checkpoint of this project, its settings are not those of a net")
    return state


class Saver:
    """Writes the checkpoints of one run into its folder: one for an epoch, and a rolling one in between.

    content: function that returns the state of the run after its last whole step, or None when there is nothing worth
        keeping yet. minutes: between rolling checkpoints, 0 for none. keep_last: how many epochs' to keep, 0 for all.
    """

    def __init__(self, save_dir, content, minutes=0, keep_last=0, writes=True):
        self.save_dir, self.content, self.minutes, self.keep_last, self.writes = (save_dir, content, minutes, keep_last,
                                                                                  writes)
        self._due = time.monotonic() + 60 * minutes
        if writes:
            for left in glob.glob(os.path.join(glob.escape(save_dir), "*.pth.tar.tmp*")):
                with suppress(OSError):
                    os.remove(left)  # by a run that was killed while it wrote; the lock says that no other one is writing

    def epoch(self, epoch):
        """Write the checkpoint of an epoch, and remove the oldest of more than `keep_last`."""
        self._write(path_of(self.save_dir, epoch))
        if self.keep_last and self.writes:
            numbered = _numbered(self.save_dir)  # later ones are of a run that went further, before this one went back
            for number in sorted(number for number in numbered if number <= epoch)[:-self.keep_last]:
                with suppress(OSError):
                    os.remove(numbered[number])

    def after_step(self):
        """Write the rolling checkpoint when it is due."""
        if self.minutes and time.monotonic() >= self._due:
            self._write(os.path.join(self.save_dir, LATEST))

    @contextmanager
    def rescue(self):
        """A block that ends early only after what it has reached is saved, where that makes sense."""
        try:
            yield
        except (Interrupted, InputError, RunError) as error:
            if getattr(error, "rescue", True):
                path = os.path.join(self.save_dir, LATEST)
                if self._write(path):
                    log.say(f"saved in {path}; the same command goes on from there")
            raise

    def _write(self, path):
        state = self.content() if self.writes else None
        self._due = time.monotonic() + 60 * self.minutes
        if state is None:
            return False
        where = f"epoch {state['epoch'] + 1} step {state['step']}"
        if not all(value.isfinite().all() for value in state["state_dict"].values() if value.is_floating_point()):
            raise RunError(diverged(f"{where}: weights are not finite"))
        if not os.path.isdir(self.save_dir):
            log.warn(f"{self.save_dir}: was removed during the run; made again, for the checkpoint")
            log.make_folder(self.save_dir)
        save(path, state)
        return True


def _sync_folder(folder):
    """A rename is on the disk when its folder is."""
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]  # an EOFError may have no text
