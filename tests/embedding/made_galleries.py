"""What tests of embed.py share: whether a gallery is right, stops at chosen moments, runs in other processes."""

import os
import signal
import socket

import numpy as np
import pytest

from data.images import decode
from galleries import hash_of, photos
from gallery.thumbprints import thumbprint
from gallery.writer import Writer
from utils.errors import InputError, exit_on_error


def holds(gallery, net, paths):
    """Return True if a gallery holds exactly what each of these images gives alone, in this order."""
    paths = list(map(str, paths))
    rows = np.concatenate([net.embed(path, pooled=True) for path in paths])
    tolerance = 1e-5 if gallery.embeddings.dtype == np.float32 else 1e-3
    stats = [os.stat(path) for path in paths]
    return (
        list(gallery.paths) == paths
        and [file[1:] for file in gallery.files] == [(status.st_size, status.st_mtime_ns) for status in stats]
        and np.allclose(gallery.embeddings, rows, atol=tolerance)
        and np.array_equal(gallery.prints, np.stack([thumbprint(decode(path, 36)) for path in paths]))
        and np.array_equal(gallery.hashes, np.stack([hash_of(path) for path in paths]))
    )


def same_rows(one, other, tolerance=0):
    """Return True if two galleries hold the same. tolerance: of embeddings, if the batches held other images."""
    close = np.allclose(one.embeddings, other.embeddings, rtol=0, atol=tolerance)
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("prints", "hashes"))
    return one.files == other.files and one.bad == other.bad and close and same


def refusal(call, kind=InputError):
    """Return the one line with which `call()` fails."""
    with pytest.raises(kind) as caught:
        call()
    message = getattr(caught.value, "shown", str(caught.value))
    assert message.isprintable()
    return message


def many(folder):
    """Write eleven more photos."""
    photos(folder, 11, first=5)


def two_are_bad(folder):
    for name in ("006.jpg", "deep/011.jpg"):
        (folder / name).write_text("no image")


def at_put(monkeypatch, number, happens):
    """Call `happens()` just before call number `number` of Writer.put."""
    put, calls = Writer.put, []

    def counting(self, *args):
        calls.append(1)
        if len(calls) == number:
            happens()
        put(self, *args)

    monkeypatch.setattr(Writer, "put", counting)


def in_a_child(call):
    """Run `call()` in a child process, and return the signal or code with which it ends."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    try:
        signal.alarm(120)  # in case it hangs
        exit_on_error(call)
    except SystemExit as error:
        os._exit(error.code)
    except BaseException as error:
        os.write(2, f"\n{error!r}\n".encode())
        os._exit(99)
    os._exit(0)


def by_two(monkeypatch, call):
    """Run `call()` in two processes, as torchrun would start them. Returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
                os.environ[name] = str(value)
            os._exit(os.waitstatus_to_exitcode(in_a_child(call)) % 256)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
