"""Locks a folder, so that one run at a time uses it."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from utils import log
from utils.errors import InputError


@contextmanager
def locked(folder: str, setting: str | None = "save_dir") -> Iterator[None]:
    """Hold the lock of `folder`, its file `run.lock`. InputError, with host and pid, when another run holds the lock.
    setting: the setting that names the folder, if any.

    The lock is a POSIX record lock: network file systems have it too, and data loading processes do not inherit it. The
    system drops it however the process ends, so the lock of a dead process of this host is taken over. The lock of another
    host is not: this host cannot see whether that process lives, and some network file systems do not share locks across
    hosts. The exception is a SLURM job that was requeued on another host: it is the same job.

    Nothing else in this process may open the file: closing it would drop the lock. The package filelock would take as much
    code, and its last version for Python 3.10 empties the file that names the holder.
    """
    path = os.path.join(folder, "run.lock")
    me = {"host": platform.node(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another folder", setting=setting) from None
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except (BlockingIOError, PermissionError):
            free = False
        except OSError:  # this file system has no locks: the file's content decides
            free = None
        holder = _read(file)
        same_job = me["job"] is not None and holder.get("job") == me["job"]
        if free is None:
            free = not holder or same_job
        if not free or holder and holder.get("host") != me["host"] and not same_job:
            who = f"pid {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}"
            remedy = f"wait for it, give another folder, or, if that process no longer exists, remove {path}"
            raise InputError(f"{folder}: in use by another run, {who}; {remedy}", setting=setting)
        if holder:
            where = "job" if same_job else "host"
            log.say(f"{path}: left by pid {holder.get('pid')} of this {where}, which has ended; taken over")
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(me).encode(), 0)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); make room or give another folder"
            raise InputError(f"{path}: {reason}", setting=setting) from None
        try:
            yield
        finally:
            with suppress(OSError):  # the folder may be gone
                os.ftruncate(file, 0)  # not removed: a run that has just opened it would lock an invisible file
    finally:
        os.close(file)


def is_held(folder: str) -> bool:
    """Tell whether a run holds the lock of `folder`. On another host, where this cannot be seen, it counts as held.

    Do not call it in the process that holds the lock; see `locked`.
    """
    try:
        file = os.open(os.path.join(folder, "run.lock"), os.O_RDONLY)
    except OSError:
        return False
    try:
        holder = _read(file)
    finally:
        os.close(file)
    with suppress(ProcessLookupError, ValueError, TypeError, OverflowError):
        try:
            if holder.get("host") == platform.node():
                os.kill(int(holder["pid"]), 0)  # only asks whether there is such a process
        except PermissionError:
            pass  # there is one, of another user
        return bool(holder)
    return False


def _read(file: int) -> dict:
    """Return the host, pid and job that the holder wrote; {} for an empty file."""
    text = os.pread(file, 4096, 0)
    try:
        holder = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        holder = None
    return holder if isinstance(holder, dict) else {"host": "unknown"}
