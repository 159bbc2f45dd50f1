"""Handles signals: a run finishes its step before it stops, so that it can be saved and resumed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from utils.errors import Interrupted

# SLURM sends SIGUSR1 ahead of the time limit (scripts/slurm_train.sh). The run then ends as if it was terminated.
EXIT_CODES: dict[int, int] = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
BOUNCE = 1  # seconds in which a second signal counts as the first: torchrun repeats a Ctrl-C that its processes get anyway


class Stop:
    """Listens for the signals of EXIT_CODES. A signal that was ignored before (as under nohup) stays ignored.

    At first, and inside `at_once`, a signal raises Interrupted where it arrives, because nothing is lost. Inside `deferred`
    it only sets `signal`, and `check` raises when a step is whole. A second signal ends the
    process on the spot, if it comes more than BOUNCE seconds after the first.

    step_seconds: seconds of a step, for the message; None while they are unknown.
    """

    def __init__(self) -> None:
        self.signal, self._deferred, self._since = 0, False, 0.0
        self.step_seconds: float | None = None
        for number in EXIT_CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal and time.monotonic() - self._since > BOUNCE:
            os._exit(EXIT_CODES[number])  # no file is left half-written: files get their names when they are whole
        if not self.signal:
            self.signal, self._since = int(number), time.monotonic()
            if self._deferred:
                duration = f" ({self.step_seconds:.1f} s or less)" if self.step_seconds is not None else ""
                with suppress(OSError):  # after a SIGHUP the terminal has gone
                    what = f"finishing the step{duration}, then saving; another signal after {BOUNCE} s ends the run at once"
                    os.write(2, f"\n{what}\n".encode())
            else:
                self.check(True)

    def check(self, arrived: int | bool) -> None:
        """Raise Interrupted if a signal has `arrived`, here or at another process of the run."""
        if arrived:
            number = self.signal or signal.SIGTERM
            raise Interrupted(f"by {signal.Signals(number).name}", EXIT_CODES[number])

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep signals from ending the block. Inside, call `check` after each whole step."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For use inside `deferred`: signals may end this block at any point, since the next run repeats it."""
        self._deferred = False
        try:
            self.check(self.signal)
            yield
        finally:
            self._deferred = True


def ignore_in_worker(_: Any = None) -> None:
    """Ignore signals in a data loading process: a Ctrl-C reaches all processes, but only the run itself acts on it."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
