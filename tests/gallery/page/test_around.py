"""Navigation: keyboard, back, switching galleries; waiting, errors; every view checked by axe."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect
from small_gallery import embedding, key_of, write

from browser import name_of, served, settled, tiles
from gallery.page.app import create_app

VIEWS = (
    "groups",
    "group?id=0",
    "duplicates?kind=copies",
    "duplicates?kind=identical",
    "duplicates?kind=near",
    "duplicates?kind=burst",
    "duplicates?kind=alike",
    "marks",
    "map",
    "unreadable",
)


def test_by_keyboard_alone(opened):
    page = opened()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the images")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".card a").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".card a").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(".at-group .tile").first.wait_for()
    settled(page)
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("Tab")
    expect(tiles(page).first.locator("a")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    chosen = name_of(tiles(page).nth(1))
    expect(tiles(page).nth(1).locator("a")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(f"Images like {chosen}")
    settled(page)
    page.go_back()
    expect(page.locator(".at-group .tile a").nth(1)).to_be_focused()  # the focus returns to the image that was opened


FIRST = {
    "duplicates": ".group .tile a",
    "map": ".pin",
    "search": ".tile a",  # not the query above it
    "unreadable": "main",  # has no images
}


@pytest.mark.parametrize("view", FIRST)
def test_the_first_tab_leads_to_the_first_image(opened, photos, view):
    page = opened(f"{view}?image={key_of(photos / 'creature.png')}")
    page.locator(FIRST[view]).first.wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the images")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(FIRST[view]).first).to_be_focused()


@pytest.mark.parametrize("view", ("duplicates", "map", "group?id=0"))
def test_escape_leaves_no_view(opened, view):
    page = opened()
    page.evaluate("view => { location.hash = `#/${view}`; }", view)
    page.locator(f".at-{view.split('?')[0]}").wait_for()
    settled(page)
    page.keyboard.press("Escape")
    page.go_back()
    expect(page.locator(".at-groups")).to_be_visible()  # one step back, not two


def test_back_finds_the_view_as_it_was_left(opened):
    page = opened("group?id=0", height=500)
    tiles(page).last.scroll_into_view_if_needed()
    there = page.evaluate("scrollY")
    tiles(page).last.locator("a").click()
    settled(page)
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(page.locator(".at-group")).to_be_visible()
    assert page.evaluate("scrollY") == there
    page.go_forward()
    expect(page.locator(".at-search")).to_be_visible()


def test_galleries(opened):
    page = opened("group?id=0")
    switch = page.get_by_role("navigation", name="Embedding")
    tiles(page).first.locator("a").click()
    settled(page)
    ready = page.locator("main .tile .meter").all_inner_texts()
    switch.get_by_role("link", name="trained").click()
    settled(page)
    trained = page.locator("main .tile .meter").all_inner_texts()
    assert ready != trained
    switch.get_by_role("link", name="side by side").click()
    settled(page)
    columns = page.locator(".column")
    assert [column.locator("h2").text_content() for column in columns.all()] == ["ready-made", "trained"]
    assert [column.locator(".meter").all_inner_texts() for column in columns.all()] == [ready, trained]
    page.get_by_role("link", name="Groups", exact=True).click()
    settled(page)
    expect(switch.get_by_role("link", name="ready-made")).to_have_attribute("aria-current", "true")
    expect(switch.get_by_role("link", name="side by side")).to_have_count(0)


def test_the_page_waits_for_what_takes_long(opened, site):
    page = opened("unreadable")
    expect(page.locator(".bad li")).to_have_count(1)
    expect(page.locator(".bad")).to_contain_text("broken.jpg")
    asked = []

    def slow(route):
        asked.append(route.request.url)
        answer = {"status": 202, "json": {"working": "grouping 5,421 images"}}
        route.fulfill(**answer) if len(asked) == 1 else route.continue_()

    page.route("**/api/0/clusters?*", slow)
    page.get_by_role("link", name="Groups", exact=True).click()
    expect(page.locator(".working")).to_contain_text("Grouping 5,421 images")
    page.locator(".card").first.wait_for()
    assert len(asked) == 2


def test_errors_are_sentences_in_their_place(opened, site):
    page = opened()
    page.watch.expected = ["404", "ERR_FAILED"]
    page.goto(f"{site}#/search?image=0123456789abcdef")
    expect(page.get_by_role("alert")).to_contain_text("no such image")
    page.goto(f"{site}#/search")
    expect(page.get_by_text("There is no image to compare with.")).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("link", name="Map").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    page.locator(".pin").first.wait_for()


def test_one_image(opened, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "one" / "only.jpg")
    view = write(tmp_path / "gallery", "ready-made", tmp_path / "one", embedding(2))
    with served(create_app([view], ["127.0.0.1"])) as at:
        page = opened(at=at)
        assert page.locator("h1").inner_text() == "1 image in 1 group"
        expect(page.get_by_text("This folder has one image.")).to_be_visible()
        page.locator(".card a").click()
        page.locator(".at-group .tile a").click()
        expect(page.get_by_text("There is no other image.")).to_be_visible()
        for kind, says in (("identical", "No file is there twice."), ("near", "No near copies"), ("alike", "No images are")):
            page.goto(f"{at}#/duplicates?kind={kind}")
            expect(page.locator("main").get_by_text(says)).to_be_visible()
        page.goto(f"{at}#/map")
        expect(page.locator(".pin")).to_have_count(1)
        page.context.close()


def every_view(page, site, photos):
    """Open each view in turn, and yield its name when it is complete."""
    key, other = key_of(photos / "creature.png"), key_of(photos / "copy of 0.jpg")
    for view in (*VIEWS, f"search?image={key}", f"search?image={key}&image={other}&g=all", f"search?image={key}&least=100"):
        page.goto(f"{site}#/{view}")
        settled(page)
        yield view
    page.goto(f"{site}#/group?id=0")
    settled(page)
    tiles(page).first.locator("a").focus()
    page.keyboard.press("Space")
    page.wait_for_load_state("networkidle")
    yield "large view"


@pytest.mark.parametrize("scheme, rules", [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])  # axe: contrast only
def test_axe_finds_nothing_serious(opened, site, photos, scheme, rules):
    page, axe = opened(color_scheme=scheme), Axe()
    for view in every_view(page, site, photos):
        found = axe.run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
        grave = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
        assert not grave, (view, grave)
