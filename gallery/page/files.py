"""The page's answers that are files: static files, pictures of indexed images, uploads."""

import asyncio
import hashlib
import re
from pathlib import Path

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from data.pixels import MEMORY
from evaluations.report.page import STYLESHEET
from gallery.page import request_params as params
from gallery.page.decoder import HELPERS
from gallery.page.gallery_view import GalleryView
from gallery.page.guard import Json
from gallery.page.pictures import Pictures
from gallery.page.request_params import Refusal
from gallery.page.shelf import Shelf
from gallery.page.uploads import LIMIT, Uploaded, Uploads
from utils.errors import InputError

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
READERS = 4  # image files that are read at once
RECEIVERS = 12  # uploads that are received at once: more than a browser's six, for some may come slowly or never
LOST = "This picture is not kept any more. Send it again."


class Files:
    """Answers requests for files, and takes uploads."""

    def __init__(self, shelf: Shelf, memory: int = MEMORY) -> None:
        self.shelf, self.pictures, self.uploads = shelf, Pictures(decoding=memory), Uploads(memory)
        # The semaphores limit how many requests decode at once, and so the memory they take.
        self.readers, self.receivers, self.looker = map(asyncio.Semaphore, (READERS, RECEIVERS, HELPERS))

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        file = STYLESHEET if name == STYLESHEET.name else HERE / "static" / name
        if not re.fullmatch(r"[a-z0-9_-]+\.[a-z]+", name) or file.suffix not in TYPES or not file.is_file():
            raise Refusal(404, "There is no such file.")
        data = await run_in_threadpool(file.read_bytes)
        tag = hashlib.blake2b(data, digest_size=12).hexdigest()
        return _tagged(tag, None if tag in _tags(request) else data, TYPES[file.suffix], "no-cache")

    async def image(self, request: Request) -> Response:
        key, size = request.path_params["key"], request.query_params.get("size", "thumb")
        if size not in ("thumb", "large"):
            raise Refusal(400, "`size` has to be thumb or large.")
        rows = ((view, view.gallery.row_of(key)) for view in self.shelf.views)
        view, row = next(((view, row) for view, row in rows if row is not None), (None, None))
        if view is None or row is None:
            raise Refusal(404, "There is no such image.")
        path, had = view.gallery.paths[row], _tags(request)
        if size == "thumb":  # kept in the gallery, also while the disk of the photos is away
            for kept in self.shelf.views:
                if (kept_row := kept.gallery.row_of(key)) is not None:
                    thumbnail = await run_in_threadpool(kept.gallery.thumbnail, kept_row)
                    if thumbnail is not None:
                        tag = kept.gallery.hashes[kept_row].tobytes().hex()
                        return _tagged(tag, None if tag in had else thumbnail, "image/jpeg", "private, max-age=600")
        try:
            async with self.readers:
                where = path, view.real(row), view.root
                tag, data = await run_in_threadpool(self.pictures.jpeg, *where, size == "large", had)
        except InputError as error:
            raise Refusal(404, str(error)) from None
        return _tagged(tag, data, "image/jpeg", "private, max-age=600")

    async def uploaded(self, request: Request) -> Response:
        upload = self.uploads.get(request.path_params["token"])
        if upload is None:
            raise Refusal(404, LOST)
        return Response(upload.thumbnail, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def upload(self, request: Request) -> Response:
        async with self.receivers:
            data = await params.body(request, LIMIT)
            try:
                async with self.looker:
                    token = await run_in_threadpool(self.uploads.add, data, self.shelf.views)
            except InputError as error:
                raise Refusal(415, str(error)) from None
        return Json({"upload": token})

    def upload_of(self, token: str) -> Uploaded:
        """Return an upload. Raises Refusal if it is not kept any more."""
        upload = self.uploads.get(token)
        if upload is None:
            raise Refusal(410, LOST)
        return upload

    def embedding_of(self, token: str, view: GalleryView) -> np.ndarray:
        """Return an upload's embedding in a gallery, float32 (d,). Raises Refusal if the gallery has got another model."""
        embedding = self.upload_of(token).embeddings.get(view.model)
        if embedding is None:
            raise Refusal(410, LOST)
        return embedding


def _tags(request: Request) -> list[str]:
    """Return the tags that the browser has of this address."""
    return re.findall(r'"([0-9a-f]+)"', request.headers.get("if-none-match", ""))


def _tagged(tag: str, data: bytes | None, mime: str, cache: str) -> Response:
    """Return an answer that the browser may keep and check by its tag. data: None if the browser has it."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": cache}
    return Response(status_code=304, headers=headers) if data is None else Response(data, media_type=mime, headers=headers)
