"""Pictures that are sent to search with: looked at once, kept small and in memory only, the newest of them."""

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
from gallery.store import HASH_BYTES
from utils.errors import InputError
from utils.lru import Lru

LIMIT = 20 * 2**20  # bytes of a file
KEPT = 64  # pictures; a browser's tabs use a few each
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM")  # as Pillow names them

Embed = Callable[[list[Image.Image]], np.ndarray]  # RGB pictures -> float32 (n, d), rows of length 1


class Uploaded(NamedTuple):
    thumbnail: bytes  # JPEG
    hashed: bytes  # BLAKE2b-128 of its file
    embeddings: list[np.ndarray]  # of each gallery, float32 (d,)


class Uploads:
    """The newest KEPT pictures, by tokens that cannot be guessed."""

    def __init__(self, embeds: Sequence[tuple[Embed, int]]) -> None:
        """embeds: of each gallery, what makes its embeddings, and the shorter side in pixels that it works at."""
        self.embeds = embeds
        self._kept: Lru[Uploaded] = Lru(KEPT)

    def add(self, data: bytes) -> str:
        """The token of a new picture, the bytes of its file. Raises InputError, a sentence, for no readable image."""
        check(data)
        try:
            with alone:
                embeddings = [embed([to_pil(decode(io.BytesIO(data), side))])[0] for embed, side in self.embeds]
                thumbnail = as_jpeg(shrunk(io.BytesIO(data), THUMB))
        except InputError as error:
            # It begins with the name of the file, which this one has not, and ends with the reason in brackets.
            reason = str(error).partition(" (")[2].removesuffix(")")
            raise InputError(f"This image cannot be read: {reason or 'it is damaged'}.") from None
        token = secrets.token_urlsafe(16)
        self._kept.put(token, Uploaded(thumbnail, hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), embeddings))
        return token

    def get(self, token: str) -> Uploaded | None:
        """What is kept under a token. It becomes the newest."""
        return self._kept.get(token)


def check(file: bytes) -> None:
    """Raise InputError unless these are the bytes of an image of one of KINDS with no more pixels than Pillow trusts."""
    if not file:
        raise InputError("The file is empty.")
    Image.init()
    limit = Image.MAX_IMAGE_PIXELS or 0
    too_many = f"This image has too many pixels: at most {limit // 10**6} million are read."
    try:
        with Image.open(io.BytesIO(file), formats=[kind for kind in KINDS if kind in Image.OPEN]) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise InputError(too_many) from None
    except Exception:  # a damaged file can fail in any way
        kinds = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise InputError(f"This cannot be read as an image: it is damaged, or no {kinds} file.") from None
    if width * height > limit:
        raise InputError(too_many)
