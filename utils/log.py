"""The log of a run: to the terminal, around progress bars, and to a file."""

import logging
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from tqdm import tqdm

from utils.errors import InputError

log = logging.getLogger("udml")
LIBRARIES = {"torch": "torch", "torchvision": "torchvision", "faiss": "faiss-cpu", "numpy": "numpy"}  # name: its package
say, warn = log.info, log.warning


class _Terminal(logging.Handler):
    """Writes through tqdm, so that a line does not break a progress bar; warnings and errors go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        if stream is None:  # closed before the start (`>&-`)
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"  # a file name need not fit it
        try:
            tqdm.write(self.format(record).encode(encoding, "backslashreplace").decode(encoding), file=stream)
            stream.flush()
        except OSError:
            pass  # nobody reads any more (`| head`, a closed terminal); that must not end a run


class _File(logging.FileHandler):
    """A log file that is given up, with one line, when it cannot be written: the run matters more."""

    def handleError(self, record: logging.LogRecord) -> None:
        log.removeHandler(self)
        log.warning("%s: the log cannot be written there any more (%s); it goes on without the file", self.baseFilename,
                    sys.exc_info()[1])


def make_folder(folder: str) -> None:
    """Make an output folder; InputError when that is not possible."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder ({error.strerror})") from None


def start(settings: dict[str, Any], changed: dict[str, Any], log_file: str | None = None) -> None:
    """Open the log and write what makes the run repeatable: command, commit, versions, machine, settings.

    settings: all of them, for the log file. changed: those that are not the defaults, which is all the terminal shows.
    """
    log.setLevel(logging.DEBUG)
    log.handlers = [_Terminal(logging.INFO)]
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # of several processes the first one speaks for all
        log.handlers[0].setLevel(logging.ERROR)
        log.handlers[0].setFormatter(logging.Formatter(f"process {rank}: %(message)s"))
    elif log_file:
        make_folder(os.path.dirname(os.path.abspath(log_file)))
        try:
            log.addHandler(_File(log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise InputError(f"{log_file}: cannot be written ({error.strerror})", setting="log_file") from None
    say("command: " + " ".join(sys.argv))
    say(f"commit {_commit()}, python {platform.python_version()}, "
        + "".join(f"{name} {_version(package)}, " for name, package in LIBRARIES.items())
        + f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads")
    log.debug("settings: " + _listed(settings))
    say("settings that are not the defaults: " + (_listed(changed) or "none"))


def _listed(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))


def _version(package: str) -> str:
    """Of an installed package, without importing it: some take seconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """The git commit of this code, with a + when files differ from it."""
    try:
        return subprocess.run(["git", "describe", "--always", "--dirty=+", "--abbrev=12"], check=True, text=True,
                              cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
