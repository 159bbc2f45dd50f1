"""The page over two galleries of a small folder, and a browser that opens it."""

import pytest
from small_gallery import draw, embedding, write

from browser import Watch, browser, served, settled
from evaluations.page.app import create_app


@pytest.fixture(scope="module")
def chrome():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("page") / "My photos")


@pytest.fixture(scope="module")
def address(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("galleries")
    collections = [write(folder / name, name, photos, embedding(side)) for name, side in (("ready-made", 4), ("trained", 1))]
    with served(create_app(collections, ["127.0.0.1"])) as url:
        yield url


@pytest.fixture
def opened(chrome, address):
    """opened("map", width=390) -> a page of the browser that shows this view. What it must not do fails the test."""
    contexts, watches = [], []

    def call(view="groups", width=1280, height=844, at=address, **settings):
        context = chrome.new_context(viewport={"width": width, "height": height}, **settings)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.watch = Watch(page, at)
        watches.append(page.watch)
        page.goto(f"{at}#/{view}")
        return settled(page)

    yield call
    faults = [fault for watch in watches for fault in watch.faults]
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)
