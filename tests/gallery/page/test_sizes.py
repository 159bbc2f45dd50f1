"""The page at every size of window: all views, the header with its tabs, the large view with pictures of all shapes."""

import pytest
from PIL import Image
from playwright.sync_api import expect
from small_gallery import embedding, key_of, write
from test_around import every_view

from browser import served, settled, until
from gallery.page.app import create_app
from gallery.page.pictures import LARGE

WINDOWS = ((320, 568), (390, 844), (600, 800), (844, 390), (1280, 800), (1920, 1080), (640, 400))  # the last: 1280 at 200 %
SHAPES = {
    "high.jpg": (1200, 1600),
    "wide.jpg": (1600, 1200),
    "panorama.jpg": (3000, 220),
    "pole.jpg": (220, 3000),
    "small.png": (90, 60),
    "a-name-without-any-end" * 9 + ".jpg": (900, 900),
}

LOADED = """(() => {
    const image = document.querySelector("dialog img");
    return image.naturalWidth > 0 && image.style.maxHeight === `${2 * image.naturalHeight}px`;
})()"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes") / "photos of the summer"
    (folder / "a folder in it").mkdir(parents=True)
    for number, (name, size) in enumerate(SHAPES.items()):
        Image.new("RGB", size, (40 * number, 120, 200 - 30 * number)).save(folder / "a folder in it" / name)
    return folder


@pytest.fixture(scope="module")
def one_gallery(shapes, tmp_path_factory):
    view = write(tmp_path_factory.mktemp("galleries") / "one", "ready-made", shapes, embedding(2))
    with served(create_app([view], ["127.0.0.1"])) as url:
        yield url


OUTSIDE = """(() => {
    const width = document.documentElement.clientWidth;
    const shown = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    const controls = [...document.querySelectorAll("a, button, input, select, h1, p")].filter(shown);
    const cut = controls.filter((node) => {
        const { left, right } = node.getBoundingClientRect();
        const scrolls = node.closest(".skip, .pins, .unseen, .tabs, .legend");
        return right > left && (left < -0.5 || right > width + 0.5) && !scrolls;
    });
    return cut.map((node) => node.outerHTML.slice(0, 200));
})()"""


def inside(page, box):
    window = page.viewport_size
    left, top = box["x"], box["y"]
    ends = left + box["width"] <= window["width"] + 0.5 and top + box["height"] <= window["height"] + 0.5
    return left >= -0.5 and top >= -0.5 and ends


@pytest.mark.parametrize("width, height", WINDOWS)
def test_the_large_view_shows_the_whole_picture_and_its_name(opened, one_gallery, shapes, width, height):
    page = opened(width=width, height=height, at=one_gallery)
    for name in SHAPES:
        page.goto(f"{one_gallery}#/search?image={key_of(shapes / 'a folder in it' / name)}")
        settled(page)
        page.locator(".chip .look").first.click()
        image, caption = page.locator("dialog img"), page.locator("dialog .caption")
        expect(image).to_have_js_property("complete", True)
        until(page, LOADED)
        picture, words = image.bounding_box(), caption.bounding_box()
        assert inside(page, picture) and inside(page, words), (name, picture, words)
        sent = SHAPES[name][1] * min(1, LARGE / max(SHAPES[name]))  # pixels
        assert picture["height"] >= min(0.3 * height, 2 * sent) - 1, (name, picture)
        assert picture["y"] + picture["height"] <= words["y"], (name, picture, words)
        for button in page.locator("dialog .actions > :visible, dialog .close").all():
            button.scroll_into_view_if_needed()
            assert inside(page, button.bounding_box()), (name, button.inner_text())
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('dialog img').naturalWidth")


@pytest.mark.parametrize("width", (320, 390, 600, 719, 720, 1280))
@pytest.mark.parametrize("galleries", ("one", "two"))
def test_the_header_keeps_its_tabs_and_names_the_folder(opened, one_gallery, site, width, galleries):
    at = one_gallery if galleries == "one" else site
    page = opened("groups", width=width, height=400, at=at)
    card = page.locator(".card a").first
    card.click()
    settled(page)
    page.locator("main .tile a").first.click()
    settled(page)
    folder = page.locator(".top .folder").evaluate("a => [a.clientWidth, a.textContent.length]")
    assert folder[0] >= min(8 * folder[1], 0.35 * width), folder
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelector('main').style.minHeight = '3000px'")
    page.evaluate("scrollTo(0, 600)")
    for label in ("Groups", "Duplicates", "Map"):
        assert inside(page, page.locator(".top .tabs").get_by_role("link", name=label).bounding_box()), label
    assert inside(page, page.locator(".find").bounding_box())


def test_a_phone_on_its_side_has_one_row_of_header(opened, site, photos):
    page = opened(width=844, height=390)
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}&g=all")
    settled(page)
    assert page.locator(".top").bounding_box()["height"] < 70


@pytest.mark.parametrize("width, height", WINDOWS)
def test_every_view_fits_into_the_window(opened, site, photos, width, height):
    phone = width < 600
    page = opened(width=width, height=height, is_mobile=phone, has_touch=phone)
    for view in every_view(page, site, photos):
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert page.evaluate(OUTSIDE) == [], view
