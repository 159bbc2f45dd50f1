"""What takes long is made in the background, one thing after the other, while the page says what it waits for."""

import asyncio
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

PATIENCE = 0.4  # seconds that a request waits for a result before it says that it is being made
FORGOTTEN = 10  # seconds after which an order that no page asks for any more is not begun
REMEMBERED = 64  # results


class Working(Exception):
    """The result is being made; `what` says which, for the page."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Order(NamedTuple):
    """Something to make."""

    name: Hashable
    make: Callable[[], Any]
    future: Future


class Workshop:
    """One thread for all of it. It ends with the program, wherever it stands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: OrderedDict[Hashable, Future] = OrderedDict()  # in the order in which they were last asked for
        self._asked: dict[Hashable, float] = {}  # when
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def result(self, name: Hashable, what: str, make: Callable[[], Any]) -> Any:
        """What `make()` gives; it is called once for each `name`. Raises Working(what) until it is there.

        An exception of `make` is raised here once; after it, the next request tries again.
        """
        future = self._ordered(name, make)
        for _ in range(round(PATIENCE / 0.02)):
            if future.done():
                break
            await asyncio.sleep(0.02)
        if not future.done() or future.cancelled():
            raise Working(what)
        if future.exception():
            self._forget(name, future)
        return future.result()

    def _ordered(self, name: Hashable, make: Callable[[], Any]) -> Future:
        """The future of a name; makes one where there is none, and starts the thread at the first."""
        with self._lock:
            self._asked[name] = time.monotonic()
            future = self._futures.get(name)
            if future is None:
                future = self._futures[name] = Future()
                self._orders.put(Order(name, make, future))
            self._futures.move_to_end(name)
            made = [old for old, future in self._futures.items() if future.done()]
            for old in made[: max(0, len(self._futures) - REMEMBERED)]:
                del self._futures[old], self._asked[old]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
                self._thread.start()
        return future

    def _forget(self, name: Hashable, future: Future) -> None:
        with self._lock:
            if self._futures.get(name) is future:
                del self._futures[name], self._asked[name]

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            with self._lock:
                wanted = time.monotonic() - self._asked[order.name] < FORGOTTEN
            if not wanted:  # somebody moved a slider on, or left
                self._forget(order.name, order.future)
                order.future.cancel()
                continue
            try:
                order.future.set_result(order.make())
            except Exception as error:
                order.future.set_exception(error)
