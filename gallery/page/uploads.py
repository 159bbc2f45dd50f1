"""Uploaded pictures to search with: each is decoded once, and the newest are kept, small and only in memory."""

import hashlib
import io
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.images import decode
from data.pictures import THUMB, as_jpeg, to_pil
from gallery.page.pictures import alone, shrunk
from gallery.table import HASH_BYTES
from utils.errors import InputError
from utils.lru import Lru

LIMIT = 20 * 2**20  # bytes of a file
KEPT = 64  # pictures; a browser's tabs use a few each
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM")  # as Pillow names them

Embed = Callable[[list[Image.Image]], np.ndarray]  # RGB pictures -> float32 (n, d), rows of length 1


class Uploaded(NamedTuple):
    thumbnail: bytes  # JPEG
    hashed: bytes  # BLAKE2b-128 of its file
    embeddings: list[np.ndarray]  # for each gallery, float32 (d,)


class Uploads:
    """The newest KEPT pictures, by tokens that cannot be guessed."""

    def __init__(self, embeds: Sequence[tuple[Embed, int]]) -> None:
        """embeds: for each gallery, the function that embeds, and the shorter side in pixels of the pictures it takes."""
        self.embeds = embeds
        self._kept: Lru[Uploaded] = Lru(KEPT)

    def add(self, data: bytes) -> str:
        """Add a picture by the bytes of its file. Returns its token. Raises InputError, a sentence, if it cannot be read."""
        check(data)
        try:
            with alone:
                embeddings = [embed([to_pil(decode(io.BytesIO(data), side))])[0] for embed, side in self.embeds]
                thumbnail = as_jpeg(shrunk(io.BytesIO(data), THUMB))
        except InputError as error:
            # The message begins with a file name, which an upload lacks, and ends with the reason in brackets.
            reason = str(error).partition(" (")[2].removesuffix(")")
            raise InputError(f"This image cannot be read: {reason or 'it is damaged'}.") from None
        token = secrets.token_urlsafe(16)
        self._kept.put(token, Uploaded(thumbnail, hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), embeddings))
        return token

    def get(self, token: str) -> Uploaded | None:
        """Return the picture of a token, if it is still kept. It becomes the newest."""
        return self._kept.get(token)


def check(file: bytes) -> None:
    """Raise InputError unless these bytes are an image in one of FORMATS, with no more pixels than Pillow allows."""
    if not file:
        raise InputError("The file is empty.")
    Image.init()
    limit = Image.MAX_IMAGE_PIXELS or 0
    too_many = f"This image has too many pixels: at most {limit // 10**6} million are read."
    try:
        with Image.open(io.BytesIO(file), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise InputError(too_many) from None
    except Exception:  # a damaged file can fail in any way
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"This cannot be read as an image: it is damaged, or no {formats} file.") from None
    if width * height > limit:
        raise InputError(too_many)
