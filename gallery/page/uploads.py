"""Uploaded pictures to search with: each is decoded once, and the newest are kept, small and only in memory."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from data.pixels import MEMORY
from gallery.page import decoder
from gallery.table import HASH_BYTES
from utils.errors import InputError
from utils.lru import Lru

LIMIT = 20 * 2**20  # bytes of a file
KEPT = 64  # pictures; a browser's tabs use a few each

Embed = Callable[[list[Image.Image]], np.ndarray]  # RGB pictures -> float32 (n, d), rows of length 1


class Embedding(Protocol):
    """Embeds pictures for a gallery."""

    model: str  # equal models have equal embeddings
    embed: Embed
    side: int  # the shorter side, in pixels, of the pictures that `embed` takes


class Uploaded(NamedTuple):
    thumbnail: bytes  # JPEG
    hashed: bytes  # BLAKE2b-128 of its file
    embeddings: dict[str, np.ndarray]  # model -> float32 (d,)


class Uploads:
    """The newest KEPT pictures, by tokens that cannot be guessed."""

    def __init__(self, memory: int = MEMORY) -> None:
        """memory: bytes that decoding a picture may take, as for indexed files."""
        self.memory = memory
        self._kept: Lru[Uploaded] = Lru(KEPT)

    def add(self, data: bytes, views: Sequence[Embedding]) -> str:
        """Add a picture by the bytes of its file, embedded for each of these galleries. Returns its token.

        Raises InputError, a sentence, if it cannot be read.
        """
        try:
            images, thumbnail = decoder.decode(data, [view.side for view in views], self.memory)
        except InputError as error:
            raise InputError(f"This image cannot be read: {str(error) or 'it is damaged'}.") from None
        embeddings = {view.model: view.embed([image])[0] for view, image in zip(views, images)}
        token = secrets.token_urlsafe(16)
        self._kept.put(token, Uploaded(thumbnail, hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), embeddings))
        return token

    def get(self, token: str) -> Uploaded | None:
        """Return the picture of a token, if it is still kept. It becomes the newest."""
        return self._kept.get(token)
