"""The addresses of the page, and their answers."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from data.pixels import MEMORY
from gallery import derived
from gallery.page import request_params as params
from gallery.page.background import Working, Workshop
from gallery.page.files import Files
from gallery.page.gallery_view import GalleryView, text
from gallery.page.guard import Guard, Json, refuse
from gallery.page.known import known
from gallery.page.request_params import Refusal
from gallery.page.shelf import Shelf
from gallery.page.tidying import Tidying
from gallery.page.work import work_on
from gallery.search import Query
from utils.errors import InputError, RunError

HERE = Path(__file__).parent
FIRST, LATER = 0.5, 20  # seconds that a look at the disk may hold up the page, and its question for news


def create_app(
    views: Sequence[GalleryView] | Shelf, hosts: list[str], memory: int = MEMORY, password: str = ""
) -> Starlette:
    """The page for these galleries of the same images. memory: bytes to decode a picture.

    hosts, password: as `Guard` takes them.
    """
    shelf = views if isinstance(views, Shelf) else Shelf(views)
    files = Files(shelf, memory)
    page = Page(shelf, files)
    tidying = Tidying(shelf, page.workshop)
    routes = [
        Route("/", page.start),
        Route("/static/{name}", files.static),
        Route("/image/{key}", files.image),
        Route("/upload/{token}", files.uploaded),
        Route("/api/upload", files.upload, methods=["POST"]),
        Route("/api/galleries", page.galleries),
        Route("/api/{g}/images", page.images),
        Route("/api/{g}/search", page.search),
        Route("/api/{g}/clusters", page.clusters),
        Route("/api/{g}/clusters/{id}", page.cluster),
        Route("/api/{g}/duplicates", tidying.duplicates),
        Route("/api/{g}/spares", tidying.spares),
        Route("/api/{g}/present", tidying.present, methods=["POST"]),
        Route("/api/{g}/weigh", tidying.weigh, methods=["POST"]),
        Route("/api/{g}/items", tidying.items, methods=["POST"]),
        Route("/api/{g}/list", tidying.as_list, methods=["POST"]),
        Route("/api/{g}/script", tidying.script, methods=["POST"]),
        Route("/api/{g}/not_duplicate", page.not_duplicate, methods=["POST"]),
        Route("/api/{g}/marks", page.marks),
        Route("/api/{g}/unmark", page.unmark, methods=["POST"]),
        Route("/api/{g}/map", page.map),
        Route("/api/{g}/bad", page.bad),
    ]
    errors: dict[Any, Callable] = {Refusal: _refused, HTTPException: _failed, Working: _working}
    errors |= {InputError: _wrong, RunError: _wrong}
    app = Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts, password=password)], exception_handlers=errors)
    app.router.redirect_slashes = False
    return app


class Page:
    """Answers requests. Work of more than a moment runs in threads, slow work in the workshop."""

    def __init__(self, shelf: Shelf, files: Files) -> None:
        self.shelf, self.files, self.workshop = shelf, files, Workshop()
        self.work: dict[GalleryView, dict[str, Any] | None] = {}
        loader = FileSystemLoader(HERE / "templates")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        # The browser loads all modules at once: else it would find each only when it has read the one that imports it.
        others = ("opening.js", "page.js")
        self.modules = sorted(file.name for file in (HERE / "static").glob("*.js") if file.name not in others)

    async def start(self, request: Request) -> Response:
        now = await self._now(FIRST)
        folder = text(self.shelf.views[0].folder)
        root = folder if params.is_local(request) else os.path.basename(folder)
        said = await run_in_threadpool(known, self.shelf.views)
        facts = {"root": root, "queries": params.QUERIES, "modules": self.modules, "known": said}
        return HTMLResponse(self.templates.get_template("page.html").render(**now, **facts))

    async def galleries(self, request: Request) -> Response:
        return Json(await self._now(LATER))

    async def _now(self, patience: float) -> dict[str, Any]:
        """Bring the galleries up to date, if it takes no longer than `patience` in seconds, and return their facts."""
        looking = asyncio.ensure_future(run_in_threadpool(self._look))
        looking.add_done_callback(lambda done: done.cancelled() or done.exception())  # asyncio warns of unread ones
        await asyncio.wait([looking], timeout=patience)
        if looking.done():
            looking.result()
        facts = [{**view.facts(), "work": self.work.get(view)} for view in self.shelf.views]
        return {"state": self.shelf.state, "galleries": facts}

    def _look(self) -> None:
        for replaced in self.shelf.look():
            self.workshop.forget(replaced)
        self.work = {view: work_on(view) for view in self.shelf.views}

    async def images(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 60)
        rows = np.flatnonzero(~g.gone)
        return Json({"total": len(rows), "items": [g.item(row) for row in rows[start : start + count]]})

    async def search(self, request: Request) -> Response:
        g, query = self._gallery(request), request.query_params
        start, count = params.stretch(query, 60)
        rows = [g.row(key) for key in query.getlist("image")]
        tokens = query.getlist("upload")
        if not 1 <= len(rows) + len(tokens) <= params.QUERIES:
            raise Refusal(400, f"Give 1 to {params.QUERIES} images to search with.")
        sent = [Query(self.files.embedding_of(token, g), self.files.upload_of(token).hashed) for token in tokens]
        answer = await run_in_threadpool(g.neighbours, rows, sent, start, count)
        return Json({"queries": [*map(g.item, rows), *({"upload": token} for token in tokens)], **answer})

    async def clusters(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 60)
        groups = [(number, *group) for number, group in enumerate(await self._clusters(g)) if len(group[1])]
        cards = [g.card(*group) for group in groups[start : start + count]]
        return Json({"total": len(groups), "clusters": cards})

    async def cluster(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 60)
        groups = await self._clusters(g)
        none = "There is no such group any more."
        name, rows = groups[params.number_in(request.path_params["id"], len(groups), none)]
        if not len(rows):
            raise Refusal(404, none)
        items = [g.item(row) for row in rows[start : start + count]]
        return Json({"total": len(rows), "name": name, "items": items})

    async def not_duplicate(self, request: Request) -> Response:
        g = self._gallery(request)
        rows = [g.row(key) for key in await params.keys(request, 1000)]
        if len(set(rows)) < 2:
            raise Refusal(400, "Give two different images, or more.")
        return Json({"mark": await run_in_threadpool(self.shelf.mark, g, rows)})

    async def marks(self, request: Request) -> Response:
        g, (start, count) = self._gallery(request), params.stretch(request.query_params, 20)
        newest_first = (await run_in_threadpool(self.shelf.marks, g))[::-1]
        rows = [list(dict.fromkeys(row for group in mark.groups for row in group)) for mark in newest_first]
        shown = [
            {
                "mark": mark.id,
                "size": len(group),
                "items": [g.item(row) for row in group[: params.SHOWN]],
                "same": g.sameness(group)["same"],
                "twice": any(g.sameness(part)["twice"] for part in mark.groups),
            }
            for mark, group in zip(newest_first[start : start + count], rows[start : start + count])
        ]
        return Json({"total": len(rows), "marks": shown})

    async def unmark(self, request: Request) -> Response:
        g, mark = self._gallery(request), await params.mark(request)
        if not await run_in_threadpool(self.shelf.unmark, g, mark):
            raise Refusal(404, "This was taken back already.")
        return Json({"ok": True})

    async def map(self, request: Request) -> Response:
        g = self._gallery(request)
        _refuse_unfinished(g)
        name, what = (g, "map"), f"drawing the map of {g.count:,} images"
        places = await self.workshop.result(name, what, lambda: derived.layout(g.gallery))
        groups = await self._clusters(g)
        return await run_in_threadpool(lambda: Json(g.map(places, groups)))

    async def bad(self, request: Request) -> Response:
        g = self._gallery(request)
        return Json({"items": await run_in_threadpool(g.bad), "left_out": await run_in_threadpool(g.left_out)})

    def _gallery(self, request: Request) -> GalleryView:
        return params.one_of(self.shelf.views, request)

    async def _clusters(self, g: GalleryView) -> list[tuple[str, np.ndarray]]:
        """Return each group's name, and its rows without images that are gone; a group may be empty."""
        _refuse_unfinished(g)
        name, what = (g, "clusters"), f"grouping {g.count:,} images"
        groups = await self.workshop.result(name, what, lambda: derived.named_groups(g.gallery))
        return [(text(name), g.present(rows)) for name, rows in groups]


def _refuse_unfinished(g: GalleryView) -> None:
    """Raise Working for results that need all images of the gallery."""
    if g.gallery.of:
        raise Working(f"waiting until all {g.gallery.of:,} images are embedded; groups and the map need all of them")


async def _refused(request: Request, refusal: Any) -> Response:
    return refuse(refusal.status_code, refusal.detail)


async def _wrong(request: Request, error: Any) -> Response:
    return refuse(500, str(error))


async def _working(request: Request, working: Any) -> Response:
    return Json({"working": working.what, "done": round(working.done, 2)}, 202)


async def _failed(request: Request, error: Any) -> Response:
    sentence = "There is nothing at this address." if error.status_code == 404 else f"{error.detail}."
    answer = refuse(error.status_code, sentence)
    answer.headers.update(error.headers or {})
    return answer
