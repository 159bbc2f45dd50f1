"""A connection to the page, with limits that uvicorn lacks: on the time for a request's head, and on how many are open."""

import asyncio
import logging
import resource
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10  # within which the head of a request must arrive
BACKLOG = 32  # connections that are accepted in one turn of the event loop
TURNS = 4  # until a connection above the limit is closed
MOST = 512  # connections, at most
OTHERS = 80  # file handles for all else
QUIET = 60  # seconds between two lines in the log

_said = -float(QUIET)


def most() -> int:
    """Return how many connections may be open, so that file handles are left."""
    handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if handles == resource.RLIM_INFINITY else max(8, min(MOST, handles - TURNS * BACKLOG - OTHERS))


def say_that_there_are_too_many() -> None:
    """Say so in the log, on one line, and not again for a while."""
    global _said
    if time.monotonic() - _said >= QUIET:
        _said = time.monotonic()
        logging.getLogger("udml").warning("the page has too many connections; it closes idle connections")


def on_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle a fault in the event loop. asyncio would write a traceback for each connection without a file handle."""
    if context["message"].startswith("socket.accept() out of system resource"):
        say_that_there_are_too_many()
    else:
        loop.default_exception_handler(context)


class Connection(H11Protocol):
    """Closes a connection on which no request arrives in time. A new one above the limit takes the place of such a one."""

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def is_busy(self) -> bool:
        """True while the page receives or answers a request."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        open_ones = [each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()]
        if len(open_ones) > most():
            say_that_there_are_too_many()
            min((each for each in open_ones if not each.is_busy), key=lambda each: each._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.is_busy:
            self._watch()
        else:
            self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Close the connection in a while, unless the head of a request is whole by then."""
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
