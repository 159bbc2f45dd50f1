"""Makes slow results in the background, one after the other, while the page says what it waits for."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from utils.lru import Lru

PATIENCE = 0.4  # seconds that a request waits for a result before it raises Working
FORGOTTEN = 10  # seconds without a request, after which an order is not begun
REMEMBERED = 64  # results that are kept


class Working(Exception):
    """The result is still being made; `what` tells the page which result."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass
class Order:
    name: Hashable
    make: Callable[[], Any]
    wanted: float  # time of the last request for it, by time.monotonic
    future: Future = field(default_factory=Future)


class Workshop:
    """One thread that makes all results. It ends with the program, even in the middle of a result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, Order] = {}  # includes the order that is being made
        self._finished: Lru[Future] = Lru(REMEMBERED)
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
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
            raise Working(what)
        if future.exception() and self._finished.get(name) is future:
            self._finished.drop(name)
        return future.result()

    def _ordered(self, name: Hashable, make: Callable[[], Any]) -> Future:
        """Return the future of a name. Orders it if there is none, and starts the thread with the first order."""
        with self._lock:
            if (finished := self._finished.get(name)) is not None:
                return finished
            order = self._waiting.get(name)
            if order is None:
                order = self._waiting[name] = Order(name, make, time.monotonic())
                self._orders.put(order)
            order.wanted = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
                self._thread.start()
        return order.future

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            with self._lock:
                is_wanted = time.monotonic() - order.wanted < FORGOTTEN
                if not is_wanted:  # somebody moved a slider on, or left
                    del self._waiting[order.name]
            if not is_wanted:
                order.future.cancel()
                continue
            try:
                settle = partial(order.future.set_result, order.make())
            except Exception as error:
                settle = partial(order.future.set_exception, error)
            with self._lock:
                self._finished.put(order.name, order.future)
                del self._waiting[order.name]
            settle()
