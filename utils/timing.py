"""Where the time of a run goes: its wall time, divided among named parts."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

BAR = 40  # characters


class TimeByPart:
    """Seconds by part. Every moment counts for one part only, the innermost, so that the parts sum to the whole.

    outside: the part of what no other one claims. already: seconds that went into it before (`process_age`).

    On a GPU the host only queues kernels; the wait for them falls where it asks for a result. A part that ends without
    asking has to be waited for (`Compute.synchronise`), or the next one pays for it.
    """

    def __init__(self, outside: str = "other", already: float = 0.0) -> None:
        self.seconds = {outside: already}
        self._open = [outside]
        self._since = time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """`with clock("clustering"):` what runs inside counts as `name`, except where a part inside claims it."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def outside(self, name: str) -> None:
        """From here on, what no part claims counts as `name`."""
        self._count()
        self._open[0] = name

    def over(self, loader: Iterable, body: str) -> Iterator:
        """Yield from `loader`. The waits for it count as "data", what the loop does with its batches as `body`."""
        batches = iter(loader)
        while True:
            with self("data"):
                batch = next(batches, self)
            if batch is self:  # nothing left
                return
            with self(body):
                yield batch

    def summary(self) -> str:
        """The seconds so far as lines of text: in all, then each part with its share and a bar, in order of appearance."""
        self._count()
        total = sum(self.seconds.values())
        width = max(map(len, self.seconds))
        return "\n".join([f"time by part, {total:.1f} s in all:"] + [
            f"  {name:<{width}} {seconds:9.1f} s {seconds / total:6.1%} {'#' * round(BAR * seconds / total)}".rstrip()
            for name, seconds in self.seconds.items()])

    def _count(self) -> None:
        now, name = time.perf_counter(), self._open[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def process_age() -> float:
    """Seconds since this process started, which the imports took; 0 where /proc does not tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            started = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, AttributeError):
        return 0.0
