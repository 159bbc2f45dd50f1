"""A small folder of pictures, galleries of it, the page that shows them, and a browser that opens the page."""

import os
import shutil

import pytest
from copies_on_page import COUNT
from demo_server import ODD_NAMES
from fake_gallery import by_colour, by_place, view
from PIL import Image
from small_gallery import draw, draw_copies, embedding, write
from visits import client, noise, save, served

from browser import Watch, browser, served as browser_served, settled
from gallery.page.app import create_app


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Make a folder of pictures. Returns (folder, paths).

    10 pictures have plain names and 8 have odd ones. There are two copies of picture 0, a smaller picture 1, a large
    picture, a CMYK picture, an animation, a turned picture, and a file that is no picture.
    """
    root = tmp_path_factory.mktemp("page") / "photos"
    paths = [save(root / f"{number:02d}.png", noise(number)) for number in range(10)]
    paths += [save(os.path.join(root, "odd", os.fsdecode(name)), noise(20 + i)) for i, name in enumerate(ODD_NAMES)]
    for name in ("copy.png", "odd/copy of it.png"):
        paths.append(str(shutil.copy(paths[0], root / name)))
    paths.append(save(root / "smaller.jpg", noise(1, (48, 40)), quality=90))
    paths.append(save(root / "large.jpg", noise(40, (2000, 1500), 8)))
    paths.append(save(root / "cmyk.jpg", noise(41).convert("CMYK")))
    paths.append(save(root / "moving.gif", noise(42), save_all=True, append_images=[noise(43), noise(44)], duration=40))
    turned = Image.Exif()
    turned[0x0112] = 6  # 6: viewers turn it by 90 degrees to the right
    paths.append(save(root / "turned.jpg", noise(45, (60, 40)), exif=turned))
    paths.append(str(root / "no <b>picture.jpg"))
    with open(paths[-1], "w") as file:
        file.write("text")
    return str(root), paths


@pytest.fixture
def folder(drawn, tmp_path):
    """A copy of the folder `drawn`, which a test may change: (folder, paths)."""
    root, paths = drawn
    copy = str(tmp_path / "photos")
    shutil.copytree(root, copy)
    return copy, [path.replace(root, copy, 1) for path in paths]


@pytest.fixture
def galleries(drawn):
    root, paths = drawn
    return [view("ready-made", paths, by_colour, root), view("trained <i>", paths, by_place, root)]


@pytest.fixture
def page(galleries):
    return client(galleries)


@pytest.fixture(scope="session")
def address(drawn):
    root, paths = drawn
    with served([view("ready-made", paths, root=root)]) as address:
        yield address


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chrome():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("page") / "My photos")


@pytest.fixture(scope="module")
def site(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("galleries")
    views = [write(folder / name, name, photos, embedding(side)) for name, side in (("ready-made", 4), ("trained", 1))]
    with browser_served(create_app(views, ["127.0.0.1"])) as url:
        yield url


@pytest.fixture
def tidy_site(tmp_path):
    """The page of a folder with copies, which a test may move: (address, folder)."""
    photos = draw_copies(tmp_path / "photos", COUNT)
    view = write(tmp_path / "gallery", "ready-made", photos, embedding(4))
    with browser_served(create_app([view], ["127.0.0.1"])) as url:
        yield url, photos


@pytest.fixture
def opened(chrome, site):
    """opened("map", width=390) opens a view in the browser and returns its page. The test fails if Watch sees a fault."""
    contexts, watches = [], []

    def call(view="groups", width=1280, height=844, at=site, **settings):
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
