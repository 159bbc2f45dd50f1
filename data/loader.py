"""A loader of batches in several processes, whose faults are told in one line."""

import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from utils import log
from utils.errors import RunError

SHARED = "/dev/shm"  # where loading processes put images for the main process
SHARED_EACH = 32 * 2**20  # bytes of it for each process: two batches
MORE_SHARED = "give it more, in Docker with --shm-size=2g"


class Plan:
    """The items that a loader loads next. Set `items` before each pass: persistent workers keep their first data set."""

    items: Iterable = ()

    def __iter__(self) -> Iterator:
        return iter(self.items)


class Loader(DataLoader):
    """A DataLoader that raises a RunError for a killed worker, and only when the next batch is requested.

    Its processes hand over images in shared memory. Where /dev/shm has no room for all of them, fewer are started.
    """

    def __init__(self, *args: Any, num_workers: int = 0, **more: Any) -> None:
        fitting = fitting_workers(num_workers)
        if not fitting:
            more["persistent_workers"] = False
        super().__init__(*args, **{**more, "num_workers": fitting})

    def __iter__(self) -> Any:
        # errors in the main process when a worker is killed while it hands over a batch
        lost = (ConnectionError, EOFError, FileNotFoundError) if self.num_workers else ()
        try:
            batches = super().__iter__()
            if self.num_workers:
                # torch's handler would raise at once, in the middle of a step
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except (RuntimeError, *lost) as error:
            if re.search(r"No space left on device|[Bb]us error|shared memory", str(error)):
                raise RunError(f"{SHARED} was full while images were loaded: {MORE_SHARED}", rescue=True) from None
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                raise  # an error inside a worker, which says "in DataLoader worker process"
            reason = "a data loading process was killed, most often because the memory was full"
            remedy = "use fewer of them, or keep no images in memory; the same command goes on"
            raise RunError(f"{reason}: {remedy}", rescue=True) from None


def fitting_workers(wanted: int) -> int:
    """Return how many data loading processes the shared memory has room for, at most `wanted`; warn if it is fewer."""
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:  # not on Linux
        return wanted
    fitting = min(wanted, free // SHARED_EACH)
    if fitting < wanted:
        log.warn(f"{SHARED} has {free / 1e6:.0f} MB free, so {fitting} processes load images, not {wanted}: {MORE_SHARED}")
    return fitting
