"""The large view: facts, steps beyond what is loaded, the browser's Back, uploads, what a screen reader hears."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect
from small_gallery import key_of

from browser import name_of, settled, tiles, until


def test_steps_go_on_where_more_is_to_be_loaded(opened, site, photos):
    page = opened()
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}")
    settled(page)
    assert tiles(page).count() == 60
    page.evaluate("document.querySelector('.more').remove()")  # so that no scrolling loads them
    tiles(page).last.locator("a").focus()
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog")
    for place in range(60, 63):
        before = dialog.locator("h2").inner_text(), dialog.locator(".path").inner_text()
        dialog.get_by_role("button", name="Next image").click()
        expect(dialog.locator(".path")).not_to_have_text(before[1])
        assert dialog.locator("h2").inner_text() == name_of(tiles(page).nth(place))
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(dialog.locator("h2")).to_have_text(name_of(tiles(page).last))
    expect(dialog.get_by_role("button", name="Next image")).to_be_hidden()
    assert tiles(page).count() == 76


@pytest.mark.parametrize("leave", ("back", "Escape", "button"))
def test_back_closes_the_large_view(opened, leave):
    page = opened("group?id=0")
    for _ in range(2):
        tiles(page).nth(2).locator("a").focus()
        page.keyboard.press("Space")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        if leave == "back":
            page.go_back()
        elif leave == "Escape":
            page.keyboard.press("Escape")
        else:
            dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_be_hidden()
        expect(page.locator(".at-group")).to_be_visible()
        expect(tiles(page).nth(2).locator("a")).to_be_focused()
        until(page, "!history.state.large")
    page.locator(".at-group .quiet").first.click()
    page.locator(".at-groups .card").first.wait_for()
    page.go_back()
    expect(page.locator(".at-group")).to_be_visible()


@pytest.mark.parametrize("label", ("Find similar", "Add to the query"))
def test_back_from_a_search_that_began_in_the_large_view(opened, photos, label):
    page = opened(f"search?image={key_of(photos / 'creature.png')}")
    tiles(page).nth(1).locator("a").focus()
    page.keyboard.press("Space")
    page.get_by_role("dialog").get_by_text(label).click()
    expect(page.locator("h1")).not_to_have_text("Images like creature.png")
    settled(page)
    page.go_back()
    expect(page.locator("h1")).to_have_text("Images like creature.png")  # one step, not two
    expect(page.get_by_role("dialog")).to_be_hidden()
    until(page, "!history.state.large")


def test_where_no_search_is_open_nothing_is_added_to_a_query(opened):
    page = opened("group?id=0")
    tiles(page).nth(1).hover()
    expect(tiles(page).nth(1).get_by_role("button", name="large")).to_be_visible()
    expect(tiles(page).nth(1).get_by_role("button", name="to the query")).to_be_hidden()
    tiles(page).nth(1).get_by_role("button", name="large").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Copy path")).to_be_visible()
    expect(dialog.get_by_role("button", name="Add to the query")).to_be_hidden()


def test_any_picture_is_shown_with_its_size_and_date(opened, photos):
    page = opened(f"search?image={key_of(photos / 'creature (large).jpg')}")
    tiles(page).filter(has_text="creature.png").locator("a").focus()
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog")
    with Image.open(photos / "creature.png") as image:
        size = " × ".join(map(str, image.size))
    expect(dialog.locator(".facts")).to_have_text(
        re.compile(rf"^{size} · [\d.]+ kB · PNG · file of \d{{4}}-\d\d-\d\d \d\d:\d\d$")
    )
    place = dialog.locator("img").bounding_box()
    page.keyboard.press("ArrowRight")
    expect(dialog.locator(".facts")).to_contain_text("JPEG")
    page.keyboard.press("ArrowLeft")
    expect(dialog.locator(".facts")).to_contain_text("PNG")
    assert dialog.locator("img").bounding_box() == place


def test_an_upload_can_be_shown_large(opened, tmp_path):
    page = opened()
    Image.new("RGB", (900, 700), "teal").save(tmp_path / "mine.png")
    page.locator("#file").set_input_files(tmp_path / "mine.png")
    expect(page.locator("h1")).to_have_text("Images like mine.png")
    settled(page)
    page.locator(".chip button.look").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("h2")).to_have_text("mine.png")
    until(page, "document.querySelector('dialog img').naturalWidth > 0")
    assert dialog.locator("img").evaluate("image => image.naturalWidth") == 900  # as sent, not the thumbnail
    expect(dialog.get_by_text("Copy path")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    until(page, "!history.state.large")  # a step back in the history ends a reload
    page.reload()  # now only the thumbnail and the name are left
    settled(page)
    expect(page.locator("h1")).to_have_text("Images like mine.png")
    expect(page.locator(".chip .name")).to_have_text("mine.png")
    page.locator(".chip .look").click()
    until(page, "document.querySelector('dialog img').naturalWidth > 200")


def test_a_step_is_said_to_a_screen_reader(opened):
    page = opened("group?id=0")
    tiles(page).first.locator("a").focus()
    page.keyboard.press("Space")
    live = page.locator("dialog [aria-live=polite]")
    expect(live).to_contain_text(name_of(tiles(page).first))
    page.keyboard.press("ArrowRight")
    expect(live).to_contain_text(name_of(tiles(page).nth(1)))
    assert live.evaluate("node => node.isConnected && node.getClientRects().length > 0")


def test_a_reload_with_an_open_large_view(opened):
    page = opened("group?id=0")
    tiles(page).first.locator("a").click()
    settled(page)
    tiles(page).first.locator("a").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.reload()
    settled(page)
    until(page, "!history.state.large")
    page.go_back()
    expect(page.locator(".at-group")).to_be_visible()  # one step
