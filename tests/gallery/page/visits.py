"""Pictures to make galleries of, and visitors of the page over them."""

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
    """A blurry picture of random colours."""
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
    """The key of the image of that name."""
    return next(k for k, path in zip(view.gallery.keys, view.gallery.paths) if path.endswith("/" + name))


def client(views, caller="127.0.0.1"):
    """A client of the page. Faults of the server are answers, as they are for a browser."""
    app = create_app(views, HOSTS)

    async def called(scope, receive, send):
        await app({**scope, "client": (caller, 50_000)}, receive, send)

    return TestClient(called, base_url="http://127.0.0.1", headers=PAGE, raise_server_exceptions=False)


def made(page, address, **query):
    """The JSON of what is made in the background: asks until it is there."""
    for _ in range(600):
        answer = page.get(address, params=query)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert set(answer.json()) == {"working"}
        time.sleep(0.02)
    pytest.fail(f"{address} takes more than a minute")


@contextmanager
def served(views):
    """The address of a real server of the page, in a thread."""
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
    """The picture in an answer."""
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG" and image.mode == "RGB"
    return image


def send(page, data, status=200):
    """Uploads the bytes of a file; its token, or the sentence with which it is refused."""
    answer = page.post("/api/upload", content=data)
    assert answer.status_code == status, answer.text
    return answer.json()["upload" if status == 200 else "error"]


def raw(address, head, body=b"", read=True):
    """What a server answers to these bytes: (status, headers in lower case, body)."""
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
