"""Divides the wall time of a run among named parts."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

BAR = 40  # characters


class TimeByPart:
    """Counts seconds by part. Each moment counts only for the innermost open part, so the parts sum to the whole.

    outside: the part that counts when no other is open. already: seconds that it begins with (`process_age`).

    A GPU works on its own; the program waits for it only when it needs a result. That wait counts for the part in which it
    happens. To count a GPU's work for the part that ordered it, end the part with `Compute.synchronise`.
    """

    def __init__(self, outside: str = "other", already: float = 0.0) -> None:
        self.seconds = {outside: already}
        self.cpu = {outside: 0.0}  # seconds of all cores together, but not of worker processes
        self._open = [outside]
        self._since, self._since_cpu = time.perf_counter(), 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """`with clock("clustering"):` counts the time inside for that part, without the time of parts inside it."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def outside(self, name: str) -> None:
        """Count time outside all parts for `name` from now on."""
        self._count()
        self._open[0] = name

    def over(self, loader: Iterable, body: str) -> Iterator:
        """Yield from `loader`. Waiting for it counts for "data"; the loop's work on its batches counts for `body`."""
        batches = iter(loader)
        while True:
            with self("data"):
                batch = next(batches, self)
            if batch is self:  # nothing left
                return
            with self(body):
                yield batch

    def total(self, without: Iterable[str] = (), cpu: bool = False) -> float:
        """Return the seconds so far, without the parts in `without`. cpu: seconds of busy cores, in place of wall time."""
        self._count()
        return sum(seconds for name, seconds in (self.cpu if cpu else self.seconds).items() if name not in without)

    def summary(self) -> str:
        """Return the seconds so far as text: the sum, then each part with its share and a bar, in order of appearance."""
        total = self.total()
        width = max(map(len, self.seconds))
        lines = [f"time by part, {total:.1f} s in all:"]
        for name, seconds in self.seconds.items():
            bar = "#" * round(BAR * seconds / total)
            lines.append(f"  {name:<{width}} {seconds:9.1f} s {seconds / total:6.1%} {bar}".rstrip())
        return "\n".join(lines)

    def _count(self) -> None:
        now, cpu, name = time.perf_counter(), time.process_time(), self._open[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self.cpu[name] = self.cpu.get(name, 0.0) + cpu - self._since_cpu
        self._since, self._since_cpu = now, cpu


def duration(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def process_age() -> float:
    """Return the seconds since this process started, most of them for imports; 0 where /proc does not tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            started = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, AttributeError):
        return 0.0
