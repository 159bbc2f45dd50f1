"""The log of a run: to the terminal, around progress bars, and to a file."""

import logging
import os
import platform
import subprocess
import sys

import faiss
import numpy
import torch
import torchvision
from tqdm import tqdm

from utils.errors import InputError

log = logging.getLogger("udml")
say, warn = log.info, log.warning


class _Terminal(logging.Handler):
    """Writes through tqdm, so that a line does not break a progress bar; warnings and errors go to stderr."""

    def emit(self, record):
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

    def handleError(self, record):
        log.removeHandler(self)
        log.warning("%s: the log cannot be written there any more (%s); it goes on without the file", self.baseFilename,
                    sys.exc_info()[1])


def make_folder(folder):
    """Make an output folder; InputError when that is not possible."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder ({error.strerror})") from None


def start(args, log_file=None):
    """Open the log and write what makes the run repeatable: command, commit, versions, machine, settings."""
    log.setLevel(logging.INFO)
    log.handlers = [_Terminal()]
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # of several processes the first one speaks for all
        log.handlers[0].setLevel(logging.ERROR)
        log.handlers[0].setFormatter(logging.Formatter(f"process {rank}: %(message)s"))
    elif log_file:
        make_folder(os.path.dirname(os.path.abspath(log_file)))
        try:
            log.addHandler(_File(log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise InputError(f"--log_file {log_file}: cannot be written ({error.strerror})") from None
    say("command: " + " ".join(sys.argv))
    say(f"commit {_commit()}, python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, faiss {faiss.__version__}, numpy {numpy.__version__}, {platform.system()} "
        f"{platform.machine()}, {torch.get_num_threads()} threads")
    say("settings: " + " ".join(f"{key}={value}" for key, value in sorted(vars(args).items())))


def _commit():
    """The git commit of this code, with a + when files differ from it."""
    try:
        return subprocess.run(["git", "describe", "--always", "--dirty=+", "--abbrev=12"], check=True, text=True,
                              cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
