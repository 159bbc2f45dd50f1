"""The server of the page: a socket first, so that its address is known, then uvicorn on it."""

import asyncio
import errno
import socket
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from gallery.page import decoder
from gallery.page.connection import BACKLOG, Connection, on_fault
from utils.errors import InputError

WAITING = 1024  # connections that wait to be accepted; the system refuses more
TRIES = 20  # ports to try, from `port` on


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host`, a name or an address, on `port` or the next free port. Port 0: any.

    Browsers that connect from now on wait for `serve`. Raises InputError for a host that is not this machine's, and if no
    port is free.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise InputError(f"{host}: no address of that name; give 127.0.0.1 or another of this machine", "host") from None
    for number in range(port, port + TRIES if port else 1):
        # Without IPPROTO_TCP, asyncio would not set TCP_NODELAY.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given up is free
            listener.bind((address[0], number, *address[2:]))
            listener.listen(WAITING)  # reserves the port
            return listener
        except OverflowError:
            listener.close()
            break
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                what = "host" if error.errno == errno.EADDRNOTAVAIL else "port"
                raise InputError(f"{host}:{number}: cannot listen there ({error.strerror}); choose another", what) from None
    raise InputError(f"{port}: this port and those after it are taken; give another, or 0 for any", "port")


def address_of(listener: socket.socket) -> str:
    """Return the URL of a socket from `bind`."""
    return _url(*listener.getsockname()[:2])


def addresses_of(listener: socket.socket) -> list[str]:
    """Return the URLs by which browsers reach a socket from `bind`; several if it listens at all addresses."""
    host, port = listener.getsockname()[:2]
    if host not in ("0.0.0.0", "::"):
        return [_url(host, port)]
    hosts = ["127.0.0.1" if host == "0.0.0.0" else "::1"]
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))[: 1 if "." in host else 2]:
        with suppress(OSError):
            hosts += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, family)]
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as towards:
            towards.connect((outside, 9))  # sends nothing: the system only chooses the address to send from
            hosts.append(towards.getsockname()[0])
    away = [each for each in hosts[1:] if not each.startswith(("127.", "::1", "fe80:")) and "%" not in each]
    return list(dict.fromkeys(_url(each, port) for each in [hosts[0], *away]))


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(on_fault)
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(WAITING)  # asyncio has set this to the number that it accepts in one turn


def server(app: ASGIApp) -> uvicorn.Server:
    """Return a server that prints nothing and logs only faults. `server.should_exit = True` ends it."""
    config = uvicorn.Config(
        app,
        http=Connection,
        backlog=BACKLOG,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return Server(config)


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve the page until a signal arrives, and raise that here: KeyboardInterrupt for Ctrl-C."""
    try:
        server(app).run([listener])
    finally:
        decoder.close()
