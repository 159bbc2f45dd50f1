"""One run in a folder at a time."""

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
    """Hold the lock of `folder`, the file `run.lock` in it; InputError, with host and pid, when another run holds it.
    setting: that names the folder, if one does.

    The lock is a POSIX record lock: network file systems have it too, and data loading processes do not inherit it. The
    system drops it when the process ends, however that happens. So what a dead process of this host left is taken over. What
    another host left is not: nobody sees from here whether its process lives, and not every network file system tells of
    locks across hosts. The exception is a SLURM job that was requeued on another host: it is the same job.

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
        except OSError:  # this file system has no locks, so it goes by what the file says
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
                os.ftruncate(file, 0)  # not removed: a run that has just opened it would lock a file that no one sees
    finally:
        os.close(file)


def _read(file: int) -> dict:
    """What the holder wrote; {} for nothing."""
    text = os.pread(file, 4096, 0)
    try:
        holder = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        holder = None
    return holder if isinstance(holder, dict) else {"host": "unknown"}
