"""A headless Chromium for tests, a server for the page, and a watch that records faults of the page."""

import os
import re
import shutil
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from gallery.page.server import address_of, bind, server

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
expect.set_options(timeout=15_000)  # generous, because the machine may be busy


def chromium():
    """Return the path of a Chromium. Without one, the test is skipped; if REQUIRE_BROWSER is set, it fails."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        missing = f"no browser: none of {', '.join(NAMES)} is installed; install one, or set CHROMIUM to its path"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(missing)
    return path


@contextmanager
def browser():
    """Yield a running browser, through Playwright's synchronous interface."""
    path = chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=list(FLAGS))


@contextmanager
def served(app):
    """Serve an app in a thread, and yield its address."""
    listener, running = bind("127.0.0.1", 0), server(app)
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    yield address_of(listener)
    running.should_exit = True
    thread.join(20)


class Watch:
    """Collects faults of a page: logged errors, failed loads, dialogs, requests to another host."""

    def __init__(self, page, address):
        self.host, self.faults, self.expected = urlsplit(address).netloc, [], []
        page.on("console", lambda message: message.type in ("error", "warning") and self.note(message.text))
        page.on("pageerror", lambda error: self.note(f"uncaught: {error.stack}"))
        page.on("response", lambda response: response.status >= 400 and self.note(f"{response.status} {response.url}"))
        page.on("requestfailed", lambda request: self.failed(request))
        page.on("request", lambda request: self.asked(request.url))
        page.on("dialog", lambda dialog: (self.note(f"dialog: {dialog.message}"), dialog.dismiss()))

    def note(self, fault):
        if not any(words in fault for words in self.expected):
            self.faults.append(fault)

    def failed(self, request):
        if "ERR_ABORTED" not in (request.failure or ""):  # not a fault: the page moved on before the answer came
            self.note(f"failed: {request.url} {request.failure}")

    def asked(self, url):
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.note(f"another host: {url}")


def settled(page):
    """Wait until the page's view is complete, then return the page."""
    # Two frames, so that a click has taken effect.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator("main h1")).to_have_count(1)
    expect(page.locator(".waiting")).to_have_count(0)
    return page


def until(page, script):
    """Wait until a script gives something true. Playwright's own way needs eval, which the page's policy forbids."""
    for _ in range(300):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {script}")


def tiles(page):
    return page.locator("main .tile:visible")


def name_of(tile):
    return tile.locator(".name").inner_text()


def percents(page):
    """Return the per cent of neighbours that each visible image is more similar than."""
    words = re.compile(r"more similar than (\d+) % of neighbours here, similarity .+ of 1")
    return [int(words.fullmatch(text)[1]) for text in page.locator("main .tile:visible .number").all_text_contents()]


def similarities(page):
    texts = page.locator("main .tile:visible .number").all_inner_texts()
    return [float(re.search(r"similarity (-?[01]\.\d\d) of 1$", text)[1]) for text in texts]
