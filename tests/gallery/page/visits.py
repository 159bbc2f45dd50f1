"""Pictures for galleries, and clients that visit the page."""

import io
import os
import socket
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gallery.page.app import create_app
from gallery.page.server import address_of, bind, server

HOSTS = ["127.0.0.1", "localhost", "[::1]"]
PAGE = {"X-Requested-With": "page"}


def noise(seed, size=(96, 80), cells=8):
    """Return a blurry picture of random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def save(path, image, **options):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image.save(path, **options)
    return str(path)


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def in_format(name, **options):
    file = io.BytesIO()
    noise(3).save(file, name, **options)
    return file.getvalue()


def key(view, name):
    """Return the key of the image with that name."""
    return next(k for k, path in zip(view.gallery.keys, view.gallery.paths) if path.endswith("/" + name))


def client(views, caller="127.0.0.1"):
    """Return a client of the page. As in a browser, an exception in the server is an answer with status 500."""
    app = create_app(views, HOSTS)

    async def called(scope, receive, send):
        await app({**scope, "client": (caller, 50_000)}, receive, send)

    return TestClient(called, base_url="http://127.0.0.1", headers=PAGE, raise_server_exceptions=False)


def made(page, address, **query):
    """Return the JSON of a result that is made in the background: ask until it is ready."""
    for _ in range(600):
        answer = page.get(address, params=query)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert set(answer.json()) == {"working", "done"}
        time.sleep(0.02)
    pytest.fail(f"{address} takes more than a minute")


@contextmanager
def served(views):
    """Run a real server of the page in a thread, and yield its address."""
    listener = bind("127.0.0.1", 0)
    running = server(create_app(views, HOSTS))
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        yield address_of(listener).rstrip("/")
    finally:
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def jpeg_of(answer):
    """Return the picture in an answer, which must be a JPEG."""
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG" and image.mode == "RGB"
    return image


def send(page, data, status=200):
    """Upload the bytes of a file. Returns the upload's token, or the sentence with which it is refused."""
    answer = page.post("/api/upload", content=data)
    assert answer.status_code == status, answer.text
    return answer.json()["upload" if status == 200 else "error"]


def raw(address, head, body=b"", read=True):
    """Send these bytes to a server. Returns (status, headers in lower case, body)."""
    host, port = urlsplit(address).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        received = b""
        while piece := line.recv(65536):
            received += piece
            top, _, rest = received.partition(b"\r\n\r\n")
            if f"content-length: {len(rest)}\r\n".encode() in top.lower() + b"\r\n":
                break
    return int(received.split()[1]), top.decode("latin-1").lower(), rest
