"""A cache that keeps the values used last."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Lru(Generic[Value]):
    """Keeps the values used last, by name, up to a total size. Threads may share it."""

    def __init__(self, most: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        """most: the largest sum of sizes. size: a function that gives the size of a value (default: 1 for each)."""
        self._most, self._size, self._used = most, size, 0
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: Hashable) -> Value | None:
        """Return the value of a name and make it the newest; None for an unknown name."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def put(self, name: Hashable, value: Value) -> None:
        """Keep a value as the newest. It replaces an earlier value of the same name."""
        with self._lock:
            if name in self._kept:
                self._used -= self._size(self._kept.pop(name))
            self._kept[name] = value
            self._used += self._size(value)
            while self._used > self._most:
                self._used -= self._size(self._kept.popitem(last=False)[1])

    def names(self) -> list[Hashable]:
        """Return the names of all kept values."""
        with self._lock:
            return list(self._kept)

    def drop(self, name: Hashable) -> None:
        with self._lock:
            if name in self._kept:
                self._used -= self._size(self._kept.pop(name))
