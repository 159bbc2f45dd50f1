"""Requests that are sent in part: the server gives them up in time, and answers others meanwhile."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from visits import PAGE, noise, png, raw

from gallery.page import connection, request_params as params

ROOT = Path(__file__).parents[3]
HEAD = "POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Requested-With: page\r\nContent-Length: 1000\r\n\r\n"


def line_to(address):
    host, port = urlsplit(address).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def closed_after(line):
    """Return the seconds until the server closes a connection."""
    began = time.monotonic()
    while line.recv(65536):
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("start", (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "))
def test_a_head_that_does_not_come(address, monkeypatch, start):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.4)
    with line_to(address) as line:
        line.sendall(start)
        assert closed_after(line) < 3


def test_a_head_that_comes_in_drops(address, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.6)
    began = time.monotonic()
    with line_to(address) as line, pytest.raises(OSError):
        line.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() - began < 5:
            line.sendall(b"X-Drop: x\r\n")
            time.sleep(0.05)
    assert time.monotonic() - began < 3


def test_the_second_head_of_a_connection(address, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.6)
    with line_to(address) as line:
        for _ in range(3):  # whole requests take as long as they like in all
            line.sendall(b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += line.recv(65536)
            assert b"404" in answer
            time.sleep(0.3)
        line.sendall(b"GET / HT")
        assert closed_after(line) < 3


def test_a_long_answer_is_not_cut_off(address, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(params, "PIECE_SECONDS", 5)
    with line_to(address) as line:
        line.sendall(HEAD.encode())
        time.sleep(0.8)
        line.sendall(b"\0" * 1000)
        assert b"415" in line.recv(65536)


def test_a_body_that_stops(address, monkeypatch):
    monkeypatch.setattr(params, "PIECE_SECONDS", 0.2)
    began = time.monotonic()
    status, _, body = raw(address, HEAD.replace("\r\n", "\n").strip(), b"only this")
    assert status == 408 and json.loads(body)["error"].endswith(".") and time.monotonic() - began < 8


def test_half_sent_uploads_hold_up_no_other(address):
    lines = [line_to(address) for _ in range(5)]
    try:
        for line in lines:
            line.sendall(HEAD.encode() + b"only this")
        time.sleep(0.3)
        began = time.monotonic()
        assert httpx.post(f"{address}/api/upload", content=png(noise(1)), headers=PAGE, timeout=30).status_code == 200
        assert time.monotonic() - began < 8  # a helper may have to start
    finally:
        for line in lines:
            line.close()


PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from gallery.page.server import address_of, bind, serve

async def hello(request):
    return PlainTextResponse("hello")

listener = bind("127.0.0.1", 0)
print(address_of(listener), flush=True)
serve(Starlette(routes=[Route("/", hello)]), listener)
"""


def test_more_connections_than_file_handles(tmp_path):
    with open(tmp_path / "err", "w+") as err:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=err, text=True)
        lines = []
        try:
            address = process.stdout.readline().strip()
            for _ in range(400):
                lines.append(line_to(address))
                lines[-1].sendall(b"GET / HT")
            time.sleep(1)
            with httpx.Client() as visitor:
                for _ in range(3):
                    assert visitor.get(address, timeout=8).text == "hello"
        finally:
            for line in lines:
                line.close()
            process.kill()
            process.communicate()
        err.seek(0)
        said = err.read()
    assert "Traceback" not in said and said.count("\n") == 1 and "connections" in said


def test_without_file_handles_one_line_is_said(monkeypatch, caplog):
    monkeypatch.setattr(connection, "_said", -1e9)
    loop = asyncio.new_event_loop()
    for _ in range(50):
        connection.on_fault(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")})
    assert len(caplog.records) == 1 and "connections" in caplog.text
    connection.on_fault(loop, {"message": "another fault"})
    assert "another fault" in caplog.text
    loop.close()
