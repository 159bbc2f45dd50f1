"""How the server starts and ends, and the workshop, which makes results in the background."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from gallery.page import background, server as server_file
from gallery.page.background import Working, Workshop
from gallery.page.server import address_of, bind
from utils.errors import InputError

ROOT = Path(__file__).parents[3]

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from gallery.page.server import address_of, bind, serve

async def hello(request):
    return PlainTextResponse("hello")

listener = bind("127.0.0.1", 0)
print(address_of(listener), flush=True)
try:
    serve(Starlette(routes=[Route("/", hello)]), listener)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_server_is_quiet_and_ends_with_ctrl_c():
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            with httpx.Client() as visitor:  # its connection stays open until the end
                assert visitor.get(address).text == "hello"
                with socket.create_connection(("127.0.0.1", int(address.split(":")[2].strip("/")))) as line:
                    line.sendall(b"nonsense\r\n\r\n")
                    assert b"400" in line.recv(1000)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130 and not out and not err


def test_the_next_free_port_is_taken():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + server_file.TRIES
            assert address_of(second) == f"http://127.0.0.1:{second.getsockname()[1]}/"
    with bind("127.0.0.1", port) as again:
        assert again.getsockname()[1] == port


def test_answers_do_not_wait_for_acknowledgements():
    """Without TCP_NODELAY an answer of two packets takes 40 ms. asyncio sets it only if the socket's `proto` is
    IPPROTO_TCP."""
    seen = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport):
            seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def visit():
        listener = bind("127.0.0.1", 0)
        async with await asyncio.get_running_loop().create_server(Connection, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            await reader.read()
            writer.close()

    asyncio.run(visit())
    assert seen and seen[0]


def test_when_all_are_taken_it_is_said(monkeypatch):
    monkeypatch.setattr(server_file, "TRIES", 1)
    with bind("127.0.0.1", 0) as first, pytest.raises(InputError) as caught:
        bind("127.0.0.1", first.getsockname()[1])
    assert caught.value.setting == "port"


@pytest.mark.parametrize(
    "host, port, setting",
    (
        ("no.such.host.invalid", 0, "host"),
        ("203.0.113.1", 0, "host"),  # reserved for documentation (RFC 5737)
        ("127.0.0.1", 70000, "port"),
        ("a" * 70, 0, "host"),
    ),
)
def test_what_cannot_be_listened_at(host, port, setting):
    with pytest.raises(InputError) as caught:
        bind(host, port)
    assert caught.value.setting == setting and "\n" not in str(caught.value)


def test_an_address_of_version_six():
    try:
        listener = bind("::1", 0)
    except InputError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}/"


# ---- the workshop ----------------------------------------------------------------------------------------------------


async def until_made(workshop, name, make):
    for _ in range(100):
        try:
            return await workshop.result(name, "working", make)
        except Working:
            continue
    raise AssertionError("never made")


def test_something_is_made_once_and_meanwhile_it_is_said_so(monkeypatch):
    monkeypatch.setattr(background, "PATIENCE", 0.04)
    go, calls = threading.Event(), []

    def make():
        calls.append(threading.current_thread())
        go.wait(20)
        return 7

    async def visit():
        workshop = Workshop()
        for _ in range(3):
            with pytest.raises(Working) as caught:
                await workshop.result("a", "grouping", make)
            assert caught.value.what == "grouping"
        go.set()
        assert await until_made(workshop, "a", make) == 7
        assert await workshop.result("a", "grouping", None) == 7
        assert await until_made(workshop, "b", lambda: 8) == 8

    asyncio.run(visit())
    assert len(calls) == 1 and calls[0].daemon and calls[0] is not threading.main_thread()


def test_the_share_that_is_done_is_told(monkeypatch):
    monkeypatch.setattr(background, "PATIENCE", 0.04)
    go, told = threading.Event(), threading.Event()
    workshop = Workshop()

    def make():
        workshop.tell(0.25)
        told.set()
        go.wait(20)
        return 7

    async def visit():
        with pytest.raises(Working):
            await workshop.result("a", "grouping", make)
        told.wait(20)
        with pytest.raises(Working) as caught:
            await workshop.result("a", "grouping", make)
        assert caught.value.done == 0.25
        with pytest.raises(Working) as caught:  # it waits for the other one
            await workshop.result("b", "grouping", lambda: 8)
        assert caught.value.done == 0
        go.set()
        assert await until_made(workshop, "a", make) == 7
        workshop.tell(0.5)  # nothing is made now

    asyncio.run(visit())


def test_a_failure_is_said_once_and_tried_again():
    tries = []

    def make():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("the first time")
        return "made"

    async def visit():
        workshop = Workshop()
        with pytest.raises(ValueError, match="first time"):
            await until_made(workshop, "a", make)
        return await until_made(workshop, "a", make)

    assert asyncio.run(visit()) == "made"


def test_what_nobody_waits_for_is_not_begun(monkeypatch):
    monkeypatch.setattr(background, "PATIENCE", 0.02)
    go, begun = threading.Event(), []

    async def visit():
        workshop = Workshop()
        orders = {
            "first": lambda: go.wait(20),
            "left": lambda: begun.append("left"),
            "last": lambda: begun.append("last") or 1,
        }
        for name, make in orders.items():
            with pytest.raises(Working):
                await workshop.result(name, name, make)
        workshop._waiting["left"].wanted -= background.FORGOTTEN + 1
        go.set()
        assert await until_made(workshop, "last", orders["last"]) == 1
        assert begun == ["last"]
        await until_made(workshop, "left", orders["left"])  # it is made when it is requested again

    asyncio.run(visit())
    assert begun == ["last", "left"]


def test_the_newest_results_are_remembered(monkeypatch):
    monkeypatch.setattr(background, "REMEMBERED", 3)
    calls = []

    async def visit():
        workshop = Workshop()
        for name in (1, 2, 3, 1, 4, 5, 1, 2):
            assert await until_made(workshop, name, lambda: calls.append(name) or name) == name
        assert len(workshop._finished) == 3 and not workshop._waiting

    asyncio.run(visit())
    assert calls == [1, 2, 3, 4, 5, 2]


def test_the_newest_order_is_made_first(monkeypatch):
    """Someone who moves a slider waits for the last step only."""
    monkeypatch.setattr(background, "PATIENCE", 0.02)
    go, begun = threading.Event(), []

    async def visit():
        workshop = Workshop()
        for step in range(5):
            with pytest.raises(Working):
                await workshop.result(step, "looking", lambda step=step: (begun.append(step), go.wait(20)))
        go.set()
        await until_made(workshop, 4, None)

    asyncio.run(visit())
    assert begun[:2] == [0, 4] and background.FORGOTTEN < 5
