"""Decodes uploads in helper processes, which end when a picture takes too long: no thread can be stopped inside a decoder.

A helper sends back pixels and a thumbnail as plain bytes, nothing that is executed.
"""

import atexit
import io
import json
import queue
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from PIL import Image

from data.images import decode_sizes
from data.pictures import KEPT, thumbnail_of, to_pil
from utils.errors import InputError

ROOT = str(Path(__file__).parents[2])  # of the project, which the helper imports
SECONDS = 10  # that decoding a picture may take
HELPERS = 2  # so that one slow picture does not hold up the others; each takes the memory of one decoding
STARTING = 60  # seconds that a helper may take to start; 2 are usual


class Helper:
    """A process that decodes one picture after the other. It starts with the first one."""

    def __init__(self) -> None:
        self.process: Any = None
        self._line: Any = None

    def decode(self, data: bytes, sides: Sequence[int], memory: int) -> tuple[list[Image.Image], bytes]:
        try:
            if self.process is None or self._line.poll():  # an idle helper says nothing, but the end of one that died
                self._start()
            self._line.send((list(sides), memory))
            self._line.send_bytes(data)
            if not self._line.poll(SECONDS):
                self.end()
                raise InputError(f"it takes longer than {SECONDS} seconds; save it in another format first")
            answer = json.loads(self._line.recv_bytes())
            if "error" in answer:
                raise InputError(answer["error"])
            images = [Image.frombytes("RGB", size, self._line.recv_bytes()) for size in answer["sizes"]]
            return images, self._line.recv_bytes()
        except (OSError, EOFError):
            self.end()
            raise InputError("its decoder ended; it may need more memory than there is") from None

    def _start(self) -> None:
        self.end()
        self._line, theirs = Pipe()
        program = f"import sys; sys.path.insert(0, {ROOT!r}); from gallery.page.decoder import work; work({theirs.fileno()})"
        command, files = [sys.executable, "-c", program], [theirs.fileno()]
        # In a session of its own, Ctrl-C in the terminal does not reach it.
        self.process = subprocess.Popen(command, pass_fds=files, stdin=subprocess.DEVNULL, start_new_session=True)
        theirs.close()
        if not self._line.poll(STARTING):
            raise EOFError
        self._line.recv_bytes()

    def end(self) -> None:
        """End the process, also while another thread waits for it."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


helpers = [Helper() for _ in range(HELPERS)]
_idle: queue.LifoQueue[Helper] = queue.LifoQueue()  # the one used last comes first, so that the other need not start
for _helper in helpers:
    _idle.put(_helper)


def decode(data: bytes, sides: Sequence[int], memory: int) -> tuple[list[Image.Image], bytes]:
    """Decode an image file: RGB pictures, one for each shorter side in `sides`, and a thumbnail, a JPEG.

    memory: bytes that decoding may take. Raises InputError with the reason, after at most SECONDS.
    """
    helper = _idle.get()
    try:
        return helper.decode(data, sides, memory)
    finally:
        _idle.put(helper)


@atexit.register
def close() -> None:
    """End all helpers. One that is busy gives up its picture."""
    for helper in helpers:
        helper.end()


def work(handle: int) -> None:
    """Answer requests, in the helper's process, until the other end of the pipe with this file handle is closed."""
    line = Connection(handle)
    warnings.simplefilter("ignore")
    with suppress(EOFError, OSError):
        line.send_bytes(b"ready")
        while True:
            sides, memory = line.recv()
            data = line.recv_bytes()
            try:
                images, picture = decode_sizes(io.BytesIO(data), sides, KEPT, memory)
                parts, thumbnail = [to_pil(image) for image in images], thumbnail_of(picture.pixels)
            except InputError as error:
                # The message begins with a file name, which an upload lacks, and ends with the reason in brackets.
                line.send_bytes(json.dumps({"error": str(error).partition(" (")[2].removesuffix(")")}).encode())
                continue
            line.send_bytes(json.dumps({"sizes": [image.size for image in parts]}).encode())
            for part in parts:
                line.send_bytes(part.tobytes())
            line.send_bytes(thumbnail)
