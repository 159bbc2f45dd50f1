"""The selection changes while the server has not answered yet, and outlasts answers and room that are missing."""

import pytest
from copies_on_page import bar, box
from playwright.sync_api import expect

from browser import settled, tiles, until


def hold(page, pattern):
    """Hold back requests, until they are continued. Returns the list in which they arrive."""
    held = []
    page.route(pattern, lambda route: held.append(route))
    return held


def arrived(page, held):
    for _ in range(300):
        if held:
            return held[0]
        page.wait_for_timeout(50)
    pytest.fail("never asked for")


def kept(page):
    """Return what a reload would find, as one text."""
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    return page.evaluate("JSON.stringify({ ...sessionStorage })")


def fill_up(page, name=""):
    """Leave the browser no room for galleries whose name contains `name`."""
    page.evaluate(
        "(part) => { const set = Storage.prototype.setItem; Storage.prototype.setItem = function (name, text) {"
        "if (name.includes(part)) throw new DOMException('full', 'QuotaExceededError'); set.call(this, name, text); }; }",
        name,
    )


def key_of(tile):
    return box(tile).get_attribute("data-key")


@pytest.mark.parametrize("changed", (5, 0), ids=("one more", "one less"))
def test_the_script_is_of_what_was_selected_when_it_was_asked_for(opened, tidy_site, changed):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    for place in range(4):  # a whole group: none has a copy that stays
        box(tiles(page).nth(place)).click()
    held = hold(page, "**/api/0/script?*")
    bar(page).get_by_role("button", name="Save script").click()
    request = arrived(page, held)
    box(tiles(page).nth(changed)).click()
    with page.expect_download() as download:
        request.continue_()
    name = download.value.suggested_filename
    expect(bar(page)).to_contain_text(f"{name} holds the earlier 4 files. The selection has changed since")
    expect(bar(page).get_by_role("button", name="Save script again")).to_be_visible()
    expect(bar(page)).not_to_contain_text("Saved")
    expect(page.locator(".tile.alone")).to_have_count(0)
    box(tiles(page).nth(changed)).click()
    expect(bar(page)).to_contain_text(f"Saved: {name}")
    expect(bar(page)).to_contain_text("4 of them had no copy that stays, when this was saved")


def test_what_is_ticked_while_the_page_asks_which_are_left_stays(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    held = hold(page, "**/api/0/present*")
    page.evaluate("void import('/static/select.js').then(({ refresh }) => refresh().then(() => (window.refreshed = true)))")
    request = arrived(page, held)
    box(tiles(page).nth(2)).click()
    request.continue_()
    until(page, "window.refreshed")
    expect(bar(page)).to_contain_text("2 selected")
    expect(box(tiles(page).nth(2))).to_be_checked()


def test_what_is_done_before_the_selection_is_back_counts(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("71 selected")
    held = hold(page, "**/api/0/items*")
    page.reload()
    settled(page)
    request = arrived(page, held)
    expect(bar(page)).to_be_hidden()
    box(tiles(page).nth(4)).click()  # the best one of the second group
    box(tiles(page).nth(2)).click()  # selected before the reload, and to be taken out now
    box(tiles(page).nth(2)).click()
    expect(bar(page)).to_contain_text("1 selected")
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save script").click()
    name = download.value.suggested_filename
    assert kept(page).count('"') > 2 * 71  # a reload now loses nothing
    request.continue_()
    expect(bar(page)).to_contain_text("71 selected")
    expect(bar(page)).to_contain_text("You left out 2")
    expect(bar(page)).to_contain_text(f"{name} holds the earlier 1 file. The selection has changed since")
    for place, on in ((1, False), (2, False), (3, True), (4, True)):
        expect(box(tiles(page).nth(place))).to_be_checked(checked=on)


def test_the_selection_comes_back_when_the_server_answers_again(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("1 selected")
    page.watch.expected = ["503"]
    page.route("**/api/0/items*", lambda route: route.fulfill(status=503, json={"error": "Busy."}))
    with page.expect_response("**/api/0/items*"):
        page.reload()
    settled(page)
    box(tiles(page).nth(2)).click()
    expect(bar(page)).to_contain_text("1 selected")
    page.reload()  # which keeps both, and asks nothing
    settled(page)
    expect(bar(page)).to_be_hidden()
    page.unroute("**/api/0/items*")
    expect(bar(page)).to_contain_text("2 selected")  # by itself, at the next look
    for place in (1, 2):
        expect(box(tiles(page).nth(place))).to_be_checked()


def test_a_gallery_that_finds_no_room_takes_no_other_ones(opened):
    page, keys = opened("duplicates"), []
    for g in (0, 1):
        page.goto(f"{page.url.split('#')[0]}#/duplicates?g={g}")
        settled(page)
        expect(page.locator(f"[data-gallery='{g}'][data-key]").first).to_be_visible()
        box(tiles(page).nth(1)).click()
        keys.append(key_of(tiles(page).nth(1)))
    assert all(key in kept(page) for key in keys)
    fill_up(page, "ready-made")
    box(tiles(page).nth(2)).click()
    assert key_of(tiles(page).nth(2)) in kept(page)
    assert "ready-made" not in kept(page)


def test_an_older_selection_does_not_come_back_for_one_that_finds_no_room(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    assert key_of(tiles(page).nth(1)) in kept(page)
    fill_up(page)
    box(tiles(page).nth(2)).click()
    assert kept(page) == "{}"
