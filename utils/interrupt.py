"""Signals: a run that is asked to stop finishes its step first, so that it can be saved and resumed."""

import os
import signal
import time
from contextlib import contextmanager, suppress

from utils.errors import Interrupted

# SIGUSR1 is what SLURM is told to send ahead of the time limit: the run then ends as one that was terminated.
EXIT_CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
BOUNCE = 1  # seconds within which a second SIGINT is the same Ctrl-C: torchrun passes on what its processes got too


class Stop:
    """Listens for the signals of EXIT_CODES, except those that were ignored before (as under nohup).

    At first, and inside `at_once`, a signal raises Interrupted where it arrives: nothing would be lost. Inside `deferred` it
    only sets `signal`, for `check` to raise when a step is whole. A second Ctrl-C ends the process on the spot.
    """

    def __init__(self):
        self.signal, self._deferred, self._since = 0, False, 0.0
        for number in EXIT_CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number, frame):
        if self.signal and number == signal.SIGINT and time.monotonic() - self._since > BOUNCE:
            os._exit(EXIT_CODES[number])  # files are renamed when whole, so that this leaves no half of one
        if not self.signal:
            self.signal, self._since = int(number), time.monotonic()
            if self._deferred:
                with suppress(OSError):  # SIGHUP says that the terminal has gone
                    os.write(2, b"\nfinishing the step, then saving; a second Ctrl-C ends at once\n")
            else:
                self.check(True)

    def check(self, arrived):
        """Raise Interrupted if a signal has `arrived`, here or at another process of the run."""
        if arrived:
            number = self.signal or signal.SIGTERM
            raise Interrupted(f"by {signal.Signals(number).name}", EXIT_CODES[number])

    @contextmanager
    def deferred(self):
        """A block that signals do not leave; what needs a whole step asks `check` when it has one."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def at_once(self):
        """A block within `deferred` that may be left anywhere, because the next run does it anew."""
        self._deferred = False
        try:
            self.check(self.signal)
            yield
        finally:
            self._deferred = True


def ignore_in_worker(_=None):
    """For data loading processes: a Ctrl-C reaches all processes of a terminal, but only the run's own one acts on it."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
