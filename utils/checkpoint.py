"""Checkpoints: written whole or not at all, read without running what they hold."""

import glob
import os
import pickle
import re

import torch

from utils.errors import InputError


def path_of(save_dir, epoch):
    return os.path.join(save_dir, f"ckp_ep{epoch}.pth.tar")


def all_in(save_dir):
    """The checkpoints `ckp_ep<N>.pth.tar` of a folder, by epoch."""
    found = {}
    for path in glob.glob(os.path.join(glob.escape(save_dir), "ckp_ep*.pth.tar")):
        match = re.search(r"ckp_ep(\d+)\.pth\.tar$", path)
        if match:
            found[int(match[1])] = path
    return [found[epoch] for epoch in sorted(found)]


# Settings that may differ when a run is resumed: they say where, how far and how loudly it runs, not what it learns.
FREE = {"data", "data_root", "save_dir", "log_file", "resume", "weights", "epochs", "save_step", "eval_step", "print_freq",
        "nThreads", "cache", "cache_dir", "device", "amp", "channels_last", "on_bad_image", "features_dir",
        "gallery_eq_query", "pool_feature"}


def refuse_other_settings(saved, now, path):
    """Raise InputError when the settings `saved` in checkpoint `path` are of another run than `now`."""
    differ = [f"--{name} was {saved[name]}, is {value}" for name, value in now.items()
              if name not in FREE and name in saved and saved[name] != value]
    if differ:
        raise InputError(f"{path}: cannot resume with other settings: {'; '.join(differ)}; give another --save_dir "
                         "(RUN_SUFFIX in run_train_test.sh)")


def random_state():
    """The state of torch's generators. All other draws are made anew from the seed and the epoch."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(state):
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(state["cuda"])


def find(resume, save_dir):
    """(path, content) of the checkpoint that --resume asks for, (None, None) for a fresh run.

    resume: a path, `yes` for the newest in `save_dir`, if there is one, None or `no` for none.
    """
    if resume == "yes":
        resume = next(reversed(all_in(save_dir)), None)
    return (resume, load(resume)) if resume not in (None, "no") else (None, None)


def save(path, state):
    """Write `state` (tensors, numbers, strings, lists and dicts of them) to `path`, atomically."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def load(path):
    """Read a checkpoint to the CPU; InputError names a missing, damaged or unsafe file, or one that is no checkpoint."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    try:
        # weights_only: a pickle may hold code, and nothing of it shall run
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict) or "state_dict" not in state or "epoch" not in state:
        raise InputError(f"{path}: not a checkpoint of this project, `state_dict` or `epoch` is missing; a backbone's "
                         "weights go to --weights")
    return state
