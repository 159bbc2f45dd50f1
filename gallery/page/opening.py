"""What the page shows before embed.py has put the first images of a gallery in place."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
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
from starlette.types import ASGIApp, Receive, Scope, Send

from gallery.folder import GalleryFolder
from gallery.page.files import Files
from gallery.page.guard import Guard, Json, refuse
from gallery.page.shelf import Shelf
from gallery.page.work import before_the_first
from utils import log
from utils.errors import InputError, RunError

HERE = Path(__file__).parent
PAUSE = 0.3  # seconds between two looks for the galleries


class Opening:
    """An app that says what embed.py does, until `open_page` gives an app instead of an error. Then it is that app."""

    def __init__(
        self, folders: Sequence[str], open_page: Callable[[], ASGIApp], hosts: list[str], password: str = ""
    ) -> None:
        """folders: of the galleries. hosts, password: as `Guard` takes them."""
        self.places, self._open_page = [GalleryFolder(folder) for folder in folders], open_page
        routes = [
            Route("/", self._start),
            Route("/static/{name}", Files(Shelf([])).static),
            Route("/api/galleries", self._galleries),
        ]
        errors: dict[Any, Callable] = {HTTPException: _failed}
        guard = Middleware(Guard, hosts=hosts, password=password)
        self.app: ASGIApp = Starlette(routes=routes, middleware=[guard], exception_handlers=errors)
        self._html = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
        threading.Thread(target=self._wait, name="opening", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    async def _start(self, request: Request) -> Response:
        sentence = await run_in_threadpool(before_the_first, self.places[0])
        return HTMLResponse(self._html.get_template("opening.html").render(sentence=sentence))

    async def _galleries(self, request: Request) -> Response:
        return Json({"galleries": [], "working": await run_in_threadpool(before_the_first, self.places[0])})

    def _wait(self) -> None:
        said = ""
        with suppress(ImportError):
            import_module("timm")  # takes seconds, and nearly every net needs it
        while True:
            try:
                self.app = self._open_page()
                return
            except (InputError, RunError, OSError) as error:  # embed.py has not come so far, or is moving files
                if str(error) != said and all(os.path.exists(place.about) for place in self.places):
                    said = str(error)
                    log.warn(said)
            time.sleep(PAUSE)


async def _failed(request: Request, error: Any) -> Response:
    return refuse(error.status_code, "There is nothing here yet; embed.py is still at its first images.")
