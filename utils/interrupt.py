"""Signals: a run that is asked to stop finishes its step first, so that it can be saved and resumed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from utils.errors import Interrupted

# SLURM is told to send SIGUSR1 ahead of the time limit. The run then ends as if it was terminated.
EXIT_CODES: dict[int, int] = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
BOUNCE = 1  # seconds within which a second signal is the same one: torchrun passes on a Ctrl-C that its processes get anyway


class Stop:
    """Listens for the signals of EXIT_CODES, except those that were ignored before (as under nohup).

    At first, and inside `at_once`, a signal raises Interrupted where it arrives: nothing is lost by that. Inside `deferred`
    it only sets `signal`; `check` raises when a step is whole. A second signal ends the process on the spot.

    step_seconds: how long a step takes, for the message; None while that is not known.
    """

    def __init__(self) -> None:
        self.signal, self._deferred, self._since = 0, False, 0.0
        self.step_seconds: float | None = None
        for number in EXIT_CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal and time.monotonic() - self._since > BOUNCE:
            os._exit(EXIT_CODES[number])  # leaves no half-written file: they get their names when they are whole
        if not self.signal:
            self.signal, self._since = int(number), time.monotonic()
            if self._deferred:
                known = f" ({self.step_seconds:.1f} s or less)" if self.step_seconds is not None else ""
                with suppress(OSError):  # SIGHUP says that the terminal has gone
                    os.write(2, f"\nfinishing the step{known}, then saving; a second signal ends at once\n".encode())
            else:
                self.check(True)

    def check(self, arrived: int | bool) -> None:
        """Raise Interrupted if a signal has `arrived`, here or at another process of the run."""
        if arrived:
            number = self.signal or signal.SIGTERM
            raise Interrupted(f"by {signal.Signals(number).name}", EXIT_CODES[number])

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that signals do not end: inside, call `check` whenever a step is whole."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block within `deferred` that a signal may end anywhere, because the next run does it again."""
        self._deferred = False
        try:
            self.check(self.signal)
            yield
        finally:
            self._deferred = True


def ignore_in_worker(_: Any = None) -> None:
    """For data loading processes: a Ctrl-C reaches all processes of a terminal, but only the run itself acts on it."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
