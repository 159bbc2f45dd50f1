"""Writes the log of a run to the terminal, around progress bars, and to a file."""

import logging
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tqdm import tqdm

from utils.errors import InputError

log = logging.getLogger("udml")
LIBRARIES = {"torch": "torch", "torchvision": "torchvision", "faiss": "faiss-cpu", "numpy": "numpy"}  # name -> package
say, warn, debug = log.info, log.warning, log.debug


class _Terminal(logging.Handler):
    """Writes through tqdm, so that a line does not break a progress bar. Warnings and errors go to stderr.

    tqdm's own handler has only one stream, and fails when that is closed.
    """

    remarks = False  # True: the whole log goes to stderr, because stdout is for results

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if self.remarks or record.levelno >= logging.WARNING else sys.stdout
        if stream is None:  # closed before the start (`>&-`)
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"  # may lack characters of a file name
        try:
            tqdm.write(self.format(record).encode(encoding, "backslashreplace").decode(encoding), file=stream)
            stream.flush()
        except OSError:
            pass  # no reader is left (`| head`, a closed terminal); this must not end a run


class _File(logging.FileHandler):
    """A log file that is given up, with one line, when it cannot be written. The run matters more."""

    def handleError(self, record: logging.LogRecord) -> None:
        log.removeHandler(self)
        reason = f"the log cannot be written there any more ({sys.exc_info()[1]})"
        log.warning("%s: %s; it goes on without the file", self.baseFilename, reason)


def make_folder(folder: str) -> None:
    """Make an output folder. InputError when it cannot be made."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder ({error.strerror})") from None


def listen() -> None:
    """Open the log of a command whose results go to stdout: remarks go to stderr."""
    log.setLevel(logging.DEBUG)
    log.handlers = [_Terminal(logging.INFO)]
    log.handlers[0].remarks = True  # type: ignore[attr-defined]


def start(settings: dict[str, Any], changed: dict[str, Any], log_file: str | None = None) -> None:
    """Open the log, and write the facts that make the run repeatable: command, commit, versions, machine, settings.

    settings: all settings, for the log file. changed: settings that differ from the defaults, for the terminal.
    """
    log.setLevel(logging.DEBUG)
    log.handlers = [_Terminal(logging.INFO)]
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # the first of several processes logs for all
        log.handlers[0].setLevel(logging.ERROR)
        log.handlers[0].setFormatter(logging.Formatter(f"process {rank}: %(message)s"))
    elif log_file:
        make_folder(os.path.dirname(os.path.abspath(log_file)))
        try:
            log.addHandler(_File(log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise InputError(f"{log_file}: cannot be written ({error.strerror})", setting="log_file") from None
    say("command: " + " ".join(sys.argv))
    say(versions())
    log.debug("settings: " + _listed(settings))
    say("settings that are not the defaults: " + (_listed(changed) or "none"))


def versions() -> str:
    """Return one line with the versions of this code and its libraries, and the machine."""
    import torch  # slow, and nothing else here needs it

    libraries = ", ".join(f"{name} {version_of(package)}" for name, package in LIBRARIES.items())
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    return f"commit {_commit()}, python {platform.python_version()}, {libraries}, {machine}"


def _listed(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))


def version_of(package: str) -> str:
    """Return the version of a package without importing it, which would take seconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """Return the git commit of this code, with a + when files differ from it."""
    command, here = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], os.path.dirname(os.path.abspath(__file__))
    try:
        return subprocess.run(command, check=True, text=True, cwd=here, capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
