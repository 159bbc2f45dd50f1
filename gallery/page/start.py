"""Starts the page: opens the galleries, says at which addresses the page is, and serves it until a signal arrives."""

import os
import secrets
import threading
import webbrowser
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from data.lists import shown
from gallery import model
from gallery.page import server
from gallery.page.app import create_app
from gallery.page.gallery_view import GalleryView
from gallery.page.opening import Opening
from gallery.page.shelf import Shelf
from gallery.search import open_gallery
from utils import device as devices, log

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]  # names of this machine that the page answers to


def start(
    folders: Sequence[str],
    place: tuple[str, int],
    names: Sequence[str],
    *,
    device: str,
    memory: int,
    with_password: bool,
    in_browser: bool,
    wait: bool = False,
) -> None:
    """Serve the galleries in these folders.

    place: host and port. names: by which browsers may call this machine. device: embeds uploads. memory: bytes to decode a
    picture. with_password: lets in only browsers that opened the printed address. in_browser: opens it in one.
    wait: begins before embed.py has made the galleries.
    """
    chosen = devices.choose(device).device

    def view_of(folder: str) -> GalleryView:
        gallery, index = open_gallery(folder)
        of_gallery = model.of_gallery(gallery, chosen)
        if not gallery.of:
            log.say(f"{gallery.name}: {len(gallery):,} images of {shown(gallery.about['source'])}")
        return GalleryView(gallery, index, of_gallery.embed, of_gallery.embedder.transforms.origin_width)

    shelf = None if wait else Shelf([view_of(folder) for folder in folders], view_of)
    listener = server.bind(*place)
    addresses, password = server.addresses_of(listener), secrets.token_urlsafe(16) if with_password else ""
    urls = [f"{url}?token={password}" if password else url for url in addresses]
    log.say(f"the page is at {' or '.join(urls)} (Ctrl-C ends it)")
    if not password and not all(url.startswith(("http://127.", "http://[::1]")) for url in addresses):
        log.warn("everyone in the network can see the photos; --password lets in only who has the printed address")
    if in_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.uname().sysname == "Darwin"):
        webbrowser.open(urls[0])
    hosts = [*LOOPBACK, place[0], os.uname().nodename, *names, *(urlsplit(url).hostname or "" for url in addresses)]

    def page() -> ASGIApp:
        opened = shelf or Shelf([view_of(folder) for folder in folders], view_of)
        threading.Thread(target=opened.look, name="look", daemon=True).start()  # so that the first visitor does not wait
        return create_app(opened, hosts, memory, password)

    server.serve(Opening(folders, page, hosts, password) if wait else page(), listener)
