"""The addresses of the page, and their answers."""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from data.pixels import MEMORY
from evaluations.report.page import STYLESHEET
from gallery import derived
from gallery.page import request_params as params
from gallery.page.background import Working, Workshop
from gallery.page.gallery_view import GalleryView, text
from gallery.page.guard import Guard, Json, refuse
from gallery.page.pictures import Pictures
from gallery.page.request_params import Refusal
from gallery.page.uploads import LIMIT, Uploads
from gallery.search import Query
from utils.errors import InputError, RunError

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
READERS = 4  # image files that are read at once
RECEIVERS = 4  # uploads that are received at once
SHOWN = 100  # images of a group of duplicates, at most


def create_app(views: Sequence[GalleryView], hosts: list[str], memory: int = MEMORY) -> Starlette:
    """The page for these galleries of the same images. hosts: as `Guard` takes them. memory: bytes to decode a picture."""
    page = Page(views, memory)
    routes = [
        Route("/", page.start),
        Route("/static/{name}", page.static),
        Route("/image/{key}", page.image),
        Route("/upload/{token}", page.uploaded),
        Route("/api/upload", page.upload, methods=["POST"]),
        Route("/api/{g}/search", page.search),
        Route("/api/{g}/clusters", page.clusters),
        Route("/api/{g}/clusters/{id}", page.cluster),
        Route("/api/{g}/duplicates", page.duplicates),
        Route("/api/{g}/not_duplicate", page.not_duplicate, methods=["POST"]),
        Route("/api/{g}/map", page.map),
        Route("/api/{g}/bad", page.bad),
    ]
    errors: dict[Any, Callable] = {Refusal: _refused, HTTPException: _failed, Working: _working}
    errors |= {InputError: _wrong, RunError: _wrong}
    app = Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)], exception_handlers=errors)
    app.router.redirect_slashes = False
    return app


class Page:
    """Answers requests. Work of more than a moment runs in threads, slow work in the workshop."""

    def __init__(self, views: Sequence[GalleryView], memory: int = MEMORY) -> None:
        self.views = views
        self.pictures, self.workshop = Pictures(decoding=memory), Workshop()
        self.uploads = Uploads([(view.embed, view.side) for view in views], memory)
        # The semaphores limit how many requests decode at once, and so the memory they take.
        self.readers, self.receivers, self.looker = map(asyncio.Semaphore, (READERS, RECEIVERS, 1))
        loader = FileSystemLoader(HERE / "templates")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)

    async def start(self, request: Request) -> Response:
        facts = lambda c: {"name": c.name, "count": c.count, "alike": c.alike, **c.counts()}
        galleries = [facts(view) for view in self.views]
        # Only this machine learns where the folder lies.
        local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
        folder = text(self.views[0].folder)
        root = folder if local else os.path.basename(folder)
        return HTMLResponse(
            self.templates.get_template("page.html").render(galleries=galleries, root=root, queries=params.QUERIES)
        )

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
        rows = ((view, view.gallery.row_of(key)) for view in self.views)
        view, row = next(((view, row) for view, row in rows if row is not None), (None, None))
        if view is None or row is None:
            raise Refusal(404, "There is no such image.")
        path, had = view.gallery.paths[row], _tags(request)
        if size == "thumb":  # kept in the gallery, also while the disk of the photos is away
            for kept in self.views:
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
        upload = self._uploaded(request.path_params["token"])
        return Response(upload.thumbnail, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def upload(self, request: Request) -> Response:
        async with self.receivers:
            data = await params.body(request, LIMIT)
            try:
                async with self.looker:
                    token = await run_in_threadpool(self.uploads.add, data)
            except InputError as error:
                raise Refusal(415, str(error)) from None
        return Json({"upload": token})

    async def search(self, request: Request) -> Response:
        g, query = self._gallery(request), request.query_params
        start, count = params.stretch(query, 60)
        rows = [g.row(key) for key in query.getlist("image")]
        tokens = query.getlist("upload")
        if not 1 <= len(rows) + len(tokens) <= params.QUERIES:
            raise Refusal(400, f"Give 1 to {params.QUERIES} images to search with.")
        number = self.views.index(g)
        sent = [Query(upload.embeddings[number], upload.hashed) for upload in map(self._uploaded, tokens)]
        answer = await run_in_threadpool(g.neighbours, rows, sent, start, count)
        return Json({"queries": [*map(g.item, rows), *({"upload": token} for token in tokens)], **answer})

    async def clusters(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 60)
        groups = await self._clusters(g)
        cards = [g.card(number, groups[number]) for number in range(len(groups))[start : start + count]]
        return Json({"total": len(groups), "clusters": cards})

    async def cluster(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 60)
        groups = await self._clusters(g)
        rows = groups[params.number_in(request.path_params["id"], len(groups), "There is no such group any more.")]
        items = [g.item(row) for row in rows[start : start + count]]
        return Json({"total": len(rows), "name": g.item(rows[0])["name"], "items": items})

    async def duplicates(self, request: Request) -> Response:
        g, query = self._gallery(request), request.query_params
        kind = query.get("kind", "identical")
        what = {"identical": "the same files", "near": "copies", "alike": "look-alikes"}.get(kind)
        if what is None:
            raise Refusal(400, "`kind` has to be identical, near or alike.")
        start, count = params.stretch(query, 20)
        threshold = params.share(query, "threshold", g.alike) if kind == "alike" else 0
        turned = bool(params.whole(query, "turned", 0, 0, 1)) and kind == "near"
        make = lambda: derived.found_duplicates(g.gallery, g.index, kind, threshold, turned)
        name = g, "duplicates", kind, threshold, turned
        result = await self.workshop.result(name, f"looking for {what} among {g.count:,} images", make)
        result = await run_in_threadpool(lambda: derived.split(result, g.gallery.apart()))
        chosen = zip(result.rows[start : start + count], result.similarities[start : start + count])
        groups = [g.group(rows, similarity, SHOWN) for rows, similarity in chosen]
        return Json({"total": len(result.rows), "images": sum(map(len, result.rows)), "groups": groups})

    async def not_duplicate(self, request: Request) -> Response:
        g = self._gallery(request)
        rows = [g.row(key) for key in await params.keys(request, 1000)]
        await run_in_threadpool(g.set_apart, rows)
        return Json({"ok": True})

    async def map(self, request: Request) -> Response:
        g = self._gallery(request)
        name, what = (g, "map"), f"drawing the map of {g.count:,} images"
        places = await self.workshop.result(name, what, lambda: derived.layout(g.gallery))
        return Json(await run_in_threadpool(g.map, places))

    async def bad(self, request: Request) -> Response:
        g = self._gallery(request)
        return Json({"items": await run_in_threadpool(g.bad), "left_out": await run_in_threadpool(g.left_out)})

    def _gallery(self, request: Request) -> GalleryView:
        return self.views[params.number_in(request.path_params["g"], len(self.views), "There is no such gallery.")]

    def _uploaded(self, token: str) -> Any:
        upload = self.uploads.get(token)
        if upload is None:
            raise Refusal(404, "This picture is not kept any more. Send it again.")
        return upload

    async def _clusters(self, g: GalleryView) -> list:
        name, what = (g, "clusters"), f"grouping {g.count:,} images"
        return await self.workshop.result(name, what, lambda: derived.groups(g.gallery))


def _tags(request: Request) -> list[str]:
    """Return the tags that the browser has of this address."""
    return re.findall(r'"([0-9a-f]+)"', request.headers.get("if-none-match", ""))


def _tagged(tag: str, data: bytes | None, mime: str, cache: str) -> Response:
    """Return an answer that the browser may keep and check by its tag. data: None if the browser has it."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": cache}
    return Response(status_code=304, headers=headers) if data is None else Response(data, media_type=mime, headers=headers)


async def _refused(request: Request, refusal: Any) -> Response:
    return refuse(refusal.status_code, refusal.detail)


async def _wrong(request: Request, error: Any) -> Response:
    return refuse(500, str(error))


async def _working(request: Request, working: Any) -> Response:
    return Json({"working": working.what}, 202)


async def _failed(request: Request, error: Any) -> Response:
    sentence = "There is nothing at this address." if error.status_code == 404 else f"{error.detail}."
    answer = refuse(error.status_code, sentence)
    answer.headers.update(error.headers or {})
    return answer
