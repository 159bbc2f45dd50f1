"""Indexed files as small JPEGs for the browser: read safely, remembered for a while, never written anywhere."""

import hashlib
import os
import stat
import threading
from collections.abc import Container
from contextlib import nullcontext
from typing import BinaryIO, NamedTuple

from PIL import Image

from data.images import decode
from data.pictures import THUMB, as_jpeg, to_pil
from utils.errors import InputError
from utils.lru import Lru

LARGE = 1600  # pixels of the longer side of any picture, at most
MEMORY = 64 * 2**20  # bytes of JPEGs that are remembered
BIG = 20 * 10**6  # pixels of a picture beyond which it is read alone: it may take a GB for a moment

alone = threading.RLock()  # held by who reads a BIG picture


class Jpeg(NamedTuple):
    """A picture as it is sent."""

    tag: str  # changes with the file
    data: bytes | None  # None where the browser has it


class Pictures:
    """Thumbnails and large views of indexed files. The newest stay in memory."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._kept: Lru[bytes] = Lru(memory, size=len)

    def jpeg(self, path: str, root: str | None, large: bool = False, had: Container[str] = ()) -> Jpeg:
        """The picture of a file, upright, encoded anew: nothing of what the file says about its camera or place.

        root: as `opened` takes it. had: tags of what the browser has. The shorter side of a thumbnail is THUMB pixels, the
        longer side of either at most LARGE; nothing is enlarged. Raises InputError for a file that is gone, leads elsewhere
        or is unreadable.
        """
        with opened(path, root) as file:
            now = os.fstat(file.fileno())
            facts = f"|{now.st_ino}|{now.st_mtime_ns}|{now.st_size}|{large}".encode()
            tag = hashlib.blake2b(os.fsencode(path) + facts, digest_size=12).hexdigest()
            data = None if tag in had else self._kept.get(tag)
            if data is None and tag not in had:
                try:
                    data = as_jpeg(shrunk(file, LARGE if large else THUMB))
                except InputError:
                    raise InputError("The file of this image can no longer be read as an image.") from None
                self._kept.put(tag, data)
        return Jpeg(tag, data)


def opened(path: str, root: str | None) -> BinaryIO:
    """An indexed file, open for reading. Since it was indexed, something else may have taken its name.

    root: the real path of the folder of the images; the file has to lie in it, behind all links. None: the images are of a
    list; then the file may be no link. Raises InputError otherwise, and for anything but a regular file.
    """
    # Without O_NONBLOCK a pipe would have us wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = open(os.open(path, flags if root else flags | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except (OSError, ValueError):
        raise InputError("The file of this image is gone, or may not be read.") from None
    try:
        # The name may lead elsewhere by now, so what counts is the open file: that a path inside the folder leads to it.
        real, state = os.path.realpath(path), os.fstat(file.fileno())
        if stat.S_ISREG(state.st_mode) and os.path.samestat(os.stat(real), state):
            if not root or os.path.commonpath([root, real]) == root:
                return file
    except (OSError, ValueError):
        pass
    file.close()
    raise InputError("The file of this image now leads out of the folder of the images, or is no file.")


def shrunk(file: BinaryIO, most: int) -> Image.Image:
    """The RGB picture in an image file. most: THUMB for the shorter side, or LARGE for the longer one.

    Raises InputError as `data.images.decode` does.
    """
    try:
        with Image.open(file) as image:  # reads the header only
            short, long = sorted(image.size)
    except Exception:  # a damaged file can fail in any way
        raise InputError("no image (its header is damaged)") from None
    side = min(short, THUMB) if most == THUMB else short
    file.seek(0)
    with alone if short * long > BIG else nullcontext():
        return to_pil(decode(file, max(1, min(side, LARGE * short // long))))
