"""Makes slow results in the background, one after the other, while the page says what it waits for.

The newest order comes first: who moves a slider waits for its last step only.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from utils.lru import Lru

PATIENCE = 0.4  # seconds that a request waits for a result before it raises Working
FORGOTTEN = 3  # seconds without a request, after which an order is not begun; the page asks each second
REMEMBERED = 64  # results that are kept


class Working(Exception):
    """The result is still being made; `what` tells the page which result. done: the share of it, 0 if that is not known."""

    def __init__(self, what: str, done: float = 0.0) -> None:
        super().__init__(what)
        self.what, self.done = what, done


@dataclass
class Order:
    name: Hashable
    make: Callable[[], Any]
    wanted: float  # time of the last request for it, by time.monotonic
    done: float = 0.0  # the share of it that is done, as far as it is told
    future: Future = field(default_factory=Future)


class Workshop:
    """One thread that makes all results. It ends with the program, even in the middle of a result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered_one = threading.Semaphore(0)  # counts the orders that are not begun
        self._waiting: dict[Hashable, Order] = {}  # the newest comes last
        self._making: Order | None = None
        self._finished: Lru[Future] = Lru(REMEMBERED)
        self._thread: threading.Thread | None = None

    async def result(self, name: Hashable, what: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make()`, called once for each `name`. Raises Working(what) until the result is there.

        An exception of `make` is raised here once; the next request tries again.
        """
        future = self._ordered(name, make)
        if not future.done():
            waiting = asyncio.wrap_future(future)
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # asyncio warns of unread ones
            await asyncio.wait([waiting], timeout=PATIENCE)
        if not future.done() or future.cancelled():
            making = self._making
            raise Working(what, making.done if making and making.name == name else 0.0)
        if future.exception() and self._finished.get(name) is future:
            self._finished.drop(name)
        return future.result()

    def tell(self, share: float) -> None:
        """Note the share that is done, 0 to 1, of the result that is being made. Its `make` may call this."""
        if self._making:
            self._making.done = share

    def forget(self, owner: Hashable) -> None:
        """Forget the finished results whose name begins with `owner`."""
        with self._lock:
            for name in self._finished.names():
                if isinstance(name, tuple) and name[0] is owner:
                    self._finished.drop(name)

    def _ordered(self, name: Hashable, make: Callable[[], Any]) -> Future:
        """Return the future of a name. Orders it if there is none, and starts the thread with the first order."""
        with self._lock:
            if (finished := self._finished.get(name)) is not None:
                return finished
            making = self._making if self._making and self._making.name == name else None
            order = making or self._waiting.get(name)
            if order is None:
                order = self._waiting[name] = Order(name, make, time.monotonic())
                self._ordered_one.release()
            order.wanted = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
                self._thread.start()
        return order.future

    def _run(self) -> None:
        while True:
            self._ordered_one.acquire()
            with self._lock:
                _, order = self._waiting.popitem()
                is_wanted = time.monotonic() - order.wanted < FORGOTTEN
                self._making = order if is_wanted else None
            if not is_wanted:  # somebody moved a slider on, or left
                order.future.cancel()
                continue
            try:
                settle = partial(order.future.set_result, order.make())
            except Exception as error:
                settle = partial(order.future.set_exception, error)
            with self._lock:
                self._finished.put(order.name, order.future)
                self._making = None
            settle()
