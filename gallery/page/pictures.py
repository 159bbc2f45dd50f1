"""Makes small JPEGs of indexed files for the browser: reads safely, keeps the newest in memory, writes nothing."""

import hashlib
import os
import stat
import threading
from collections.abc import Container
from contextlib import nullcontext
from typing import BinaryIO, NamedTuple

from PIL import Image

from data.formats import Unreadable
from data.images import decode
from data.pictures import THUMB, as_jpeg, to_pil
from data.pixels import MEMORY, upright_size
from utils.errors import InputError
from utils.lru import Lru

LARGE = 1600  # pixels of a picture's longer side, at most
KEPT_BYTES = 64 * 2**20  # of JPEGs
BIG = 20 * 10**6  # pixels: larger pictures are read one at a time, for each may take a GB for a moment

alone = threading.RLock()  # held while a BIG picture is read


class Jpeg(NamedTuple):
    """A picture as it is sent."""

    tag: str  # changes with the file
    data: bytes | None  # None if the browser has it


class Pictures:
    """Thumbnails and large views of indexed files. The newest stay in memory."""

    def __init__(self, memory: int = KEPT_BYTES, decoding: int = MEMORY) -> None:
        """memory: bytes of JPEGs that are kept. decoding: bytes that decoding one picture may take."""
        self.decoding = decoding
        self._kept: Lru[bytes] = Lru(memory, size=len)

    def jpeg(
        self, path: str, real: str | None, root: str | None = None, large: bool = False, had: Container[str] = ()
    ) -> Jpeg:
        """Return the picture of a file, upright. It is encoded anew, so it says nothing about the camera or the place.

        real, root: see `opened`. had: tags of the pictures that the browser has. A thumbnail's shorter side is THUMB pixels;
        the longer side of any picture is at most LARGE; nothing is enlarged. Raises InputError for a file that is gone,
        leads elsewhere or is unreadable.
        """
        with opened(path, real, root) as file:
            now = os.fstat(file.fileno())
            facts = f"|{now.st_ino}|{now.st_mtime_ns}|{now.st_size}|{large}".encode()
            tag = hashlib.blake2b(os.fsencode(path) + facts, digest_size=12).hexdigest()
            data = None if tag in had else self._kept.get(tag)
            if data is None and tag not in had:
                try:
                    data = as_jpeg(shrunk(file, LARGE if large else THUMB, self.decoding))
                except InputError:
                    raise InputError("The file of this image can no longer be read as an image.") from None
                self._kept.put(tag, data)
        return Jpeg(tag, data)


def opened(path: str, real: str | None, root: str | None = None) -> BinaryIO:
    """Open an indexed file for reading. Since it was indexed, something else may have taken its name.

    real: the real path that was recorded when the file was indexed; `path` must still lead to it. None: none was recorded.
    Then the file must lie in `root` behind all links, the real path of the folder of the images; without a root it must not
    be a link. Raises InputError otherwise, and for anything but a regular file.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = open(os.open(path, flags if real or root else flags | getattr(os, "O_NOFOLLOW", 0)), "rb")
        file.raw.name = path  # type: ignore[attr-defined]  # the extension of a camera's raw file counts
    except (OSError, ValueError):
        raise InputError("The file of this image is gone, or may not be read.") from None
    try:
        # The name may lead elsewhere by now, so check the open file: the path that is allowed must lead to it.
        now, state = os.path.realpath(path), os.fstat(file.fileno())
        is_allowed = now == real if real else not root or os.path.commonpath([root, now]) == root
        if is_allowed and stat.S_ISREG(state.st_mode) and os.path.samestat(os.stat(now), state):
            return file
    except (OSError, ValueError):
        pass
    file.close()
    raise InputError("The name of this image now leads to another file, or to none.")


def shrunk(file: BinaryIO, most: int, memory: int = MEMORY) -> Image.Image:
    """Decode an image file to a shrunken RGB picture. most: THUMB for the shorter side, or LARGE for the longer one.

    Raises InputError as `data.images.decode` does.
    """
    try:
        short, long = sorted(upright_size(file, memory))
    except Unreadable as error:
        raise InputError(f"cannot be read as an image ({error})") from None
    side = min(short, THUMB) if most == THUMB else short
    file.seek(0)
    with alone if short * long > BIG else nullcontext():
        return to_pil(decode(file, max(1, min(side, LARGE * short // long)), memory=memory))
