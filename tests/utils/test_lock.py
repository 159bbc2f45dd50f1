"""The lock of a folder, between real processes, because a POSIX lock does not exclude the process that holds it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils import lock
from utils.errors import InputError
from utils.lock import locked

ROOT = Path(__file__).parents[2]
RUN = """
import os, platform, sys, time, types
log = sys.modules["utils.log"] = types.ModuleType("utils.log")  # the real one takes seconds to import torch
log.say = lambda line: print(line, flush=True)
from utils.errors import exit_on_error
from utils.lock import locked
platform.node = lambda: sys.argv[2]
def main():
    with locked(sys.argv[1]):
        {}
exit_on_error(main)
"""
WAIT = "print('held', flush=True); sys.stdin.read()"  # the process waits until the pipe is closed
FORK = "print(os.fork() or time.sleep(60), flush=True); sys.stdin.read()"


def start(folder, body, host="here", job=None):
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    environment |= {} if job is None else {"SLURM_JOB_ID": job}
    return subprocess.Popen(
        [sys.executable, "-c", RUN.format(body), str(folder), host],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ask(folder, **settings):
    """Start a run that ends at once. Returns (exit code, stdout, stderr)."""
    process = start(folder, "pass", **settings)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def hold(tmp_path):
    """hold(...) starts a run that holds the folder's lock. Runs that are left after the test are ended."""
    processes = []

    def begin(body=WAIT, **settings):
        processes.append(start(tmp_path, body, **settings))
        processes[-1].first_line = processes[-1].stdout.readline()
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_a_second_run_is_refused_until_the_first_ends(tmp_path, hold):
    holder = hold()
    code, out, err = ask(tmp_path)
    assert code == 2 and not out and len(err.splitlines()) == 1
    assert err.startswith(f"error: --save_dir {tmp_path}: in use by another run, pid {holder.pid} on host here; ")
    assert ask(tmp_path)[0] == 2  # the refused run neither took nor released the lock
    holder.stdin.close()
    assert holder.wait() == 0
    assert ask(tmp_path) == (0, "", "")


def test_what_a_killed_run_left_is_taken_over(tmp_path, hold):
    holder = hold()
    holder.kill()
    holder.wait()
    assert ask(tmp_path) == (
        0,
        f"{tmp_path}/run.lock: left by pid {holder.pid} of this host, which has ended; taken over\n",
        "",
    )
    assert ask(tmp_path) == (0, "", "")


def test_a_fork_that_outlives_the_holder_does_not_keep_the_lock(tmp_path, hold):
    """A data loading process may live on for some seconds."""
    holder = hold(FORK)
    child = int(holder.first_line)
    assert ask(tmp_path)[0] == 2
    holder.kill()
    holder.wait()
    try:
        os.kill(child, 0)  # the child is alive
        assert ask(tmp_path)[0] == 0
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_another_host_left_is_only_taken_over_by_the_same_job(tmp_path, hold):
    holder = hold(host="elsewhere", job="42")
    holder.kill()
    holder.wait()
    for job in (None, "43"):
        code, out, err = ask(tmp_path, job=job)
        assert code == 2 and f"pid {holder.pid} on host elsewhere" in err and f"remove {tmp_path}/run.lock" in err
    code, out, err = ask(tmp_path, job="42")
    assert code == 0 and "of this job, which has ended; taken over" in out


def test_the_same_job_does_not_get_in_while_it_runs(tmp_path, hold):
    hold(job="42")
    assert ask(tmp_path, job="42")[0] == 2


def refusal(folder):
    with pytest.raises(InputError) as caught, locked(str(folder)):
        pytest.fail("the lock was given")
    assert caught.value.setting == "save_dir" and len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"\0" * 60, b"\xff\xfe{", b"[" * 4096, b"[1]", b"null", b'"host"', b'{"pid": 1}'])
def test_a_damaged_lock_is_refused(tmp_path, content):
    (tmp_path / "run.lock").write_bytes(content)
    assert refusal(tmp_path).endswith(
        "on host unknown; wait for it, give another folder, or, if that process no longer "
        f"exists, remove {tmp_path}/run.lock"
    )
    (tmp_path / "run.lock").unlink()
    with locked(str(tmp_path)):
        pass


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert "run.lock: cannot be written (Not a directory); give another folder" in refusal(tmp_path / "file")
    assert "/run.lock: cannot be written (" in refusal("/proc/self")

    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock.os, "pwrite", full_disk)
    assert "run.lock: cannot be written (No space left on device); make room or" in refusal(tmp_path)


def test_without_locks_the_file_has_to_do(tmp_path, monkeypatch):
    def not_here(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "lockf", not_here)
    for _ in range(2):  # a clean end releases the lock
        with locked(str(tmp_path)):
            assert f"pid {os.getpid()} on host" in refusal(tmp_path)


def test_a_failing_run_lets_it_go_also_when_the_folder_is_gone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(KeyError), locked(str(folder)):
        raise KeyError
    assert (folder / "run.lock").read_bytes() == b""
    with locked(str(folder)):
        (folder / "run.lock").unlink()
        folder.rmdir()
