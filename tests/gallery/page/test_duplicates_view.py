"""The view of duplicates: its sentences, its keys on the screen, the way to it, and a place for its warnings."""

import re

import pytest
from copies_on_page import bar, box
from playwright.sync_api import expect
from small_gallery import draw_copies, embedding, write

from browser import served, settled, tiles
from gallery.page.app import create_app


def test_what_is_kept_by_hand_changes_nothing_in_the_summary(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("71 selected")
    line = page.locator("main .line").first
    expect(line).to_contain_text("96 images in 24 groups: 24 to keep, 72 copies. Best: the most pixels")
    expect(line).not_to_contain_text("can go")


def test_files_that_went_just_before_the_page_was_opened_are_soon_missed(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    expect(page.locator("main .line").first).to_contain_text("96 images")
    (photos / "copy of 3.jpg").unlink()  # the server looked at the folder a moment ago, and waits before it does so again
    other = opened("duplicates", at=url)
    for each in (page, other):
        each.watch.expected = ["404"]
        each.watch.faults.clear()  # it may have asked for the picture already
    expect(other.locator("main .line").first).to_contain_text("95 images", timeout=10_000)


def test_the_least_similar_groups_are_a_click_away(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates?turned=1", at=url)
    names = lambda: page.locator(".group h2 span").first.inner_text()
    most = page.locator(".group .tile a").first.get_attribute("title")
    page.get_by_role("link", name="Look at the least similar first").click()
    settled(page)
    expect(page.get_by_label("Order")).to_have_value("unlike")
    expect(page.get_by_label("Also mirrored and turned ones")).to_be_checked()
    expect(page.get_by_role("link", name="Look at the least similar first")).to_have_count(0)
    assert page.locator(".group .tile a").first.get_attribute("title") != most
    least = float(names().split("similarity ")[1].split()[0])
    page.get_by_label("Order").select_option("the most similar first")
    expect(page.locator(".group .tile a").first).to_have_attribute("title", most)
    assert float(names().split("similarity ")[1].split()[0]) >= least


@pytest.mark.parametrize("width", (320, 390, 1280))
def test_a_date_is_never_broken_and_the_frame_of_the_focus_covers_nothing(opened, tidy_site, width):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width)
    tile = page.locator(".group .tile").first
    lines = "dates => dates.map((date) => date.getClientRects().length)"
    assert set(page.locator(".traits .date").evaluate_all(lines)) == {1}
    tile.locator("a").focus()
    page.keyboard.press("ArrowRight")
    focused, words = page.locator(".tile a:focus").bounding_box(), page.locator(".tile:focus-within .traits").bounding_box()
    assert focused["y"] + focused["height"] + 5 <= words["y"]  # a frame of 3 pixels, 2 away
    page.keyboard.press("Enter")
    date = page.locator("dialog .facts .date")
    expect(date).to_have_text(re.compile(r"\d{4}-\d\d-\d\d"))
    assert date.evaluate_all(lines) == [1]


def test_a_link_in_a_sentence_is_not_broken(opened, tidy_site):
    url, _ = tidy_site
    for width in (320, 640, 1100, 1180, 1280):
        page = opened("duplicates", at=url, width=width)
        link = page.get_by_role("link", name="Look at the least similar first")
        assert link.evaluate("link => link.getClientRects().length") == 1
        page.context.close()


@pytest.mark.parametrize("width, height", ((390, 844), (1280, 800)))
def test_the_bar_of_a_saved_script_leaves_room_for_the_map(opened, tidy_site, width, height):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width, height=height)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    with page.expect_download():
        bar(page).get_by_role("button", name="Save script").click()
    expect(bar(page)).to_contain_text("Saved for 72 files")
    place = "buttons => buttons.map((button) => button.getBoundingClientRect().top)"
    tops = bar(page).locator(".head > button:visible").evaluate_all(place)
    assert tops.count(tops[-1]) > 1  # "Clear" is not alone in its line
    assert bar(page).bounding_box()["height"] <= 0.4 * height
    page.get_by_role("link", name="Map").click()
    settled(page)
    expect(bar(page)).to_contain_text("72 selected")
    assert bar(page).bounding_box()["height"] <= 0.26 * height
    copy = bar(page).locator(".note button").first
    copy.focus()
    note, box = bar(page).locator(".note").bounding_box(), copy.bounding_box()
    assert box["y"] - 5 >= note["y"] and box["y"] + box["height"] + 5 <= note["y"] + note["height"]  # its frame is whole


@pytest.mark.parametrize("width", (320, 1280))
def test_a_warning_moves_nothing(opened, tidy_site, width):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width, height=1400)
    group = page.locator(".group").first
    places = "tiles => tiles.slice(0, 8).map((tile) => tile.getBoundingClientRect().top + scrollY)"
    before = tiles(page).evaluate_all(places)
    for tile in group.locator(".tile").all():
        box(tile).click()
    expect(group.get_by_text("none would stay")).to_be_visible()
    assert tiles(page).evaluate_all(places) == before


def test_the_keys_are_told_once_and_on_the_screen(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    keys = page.get_by_text("B goes to what can be done with them")
    expect(keys).to_have_count(1)
    expect(keys).to_be_visible()
    name = keys.get_attribute("id")
    lists = page.locator(".group ul.tiles")
    assert lists.evaluate_all("lists => lists.map((list) => list.getAttribute('aria-describedby'))") == [name] * 20
    phone = opened("duplicates", at=url, width=390, is_mobile=True, has_touch=True)
    expect(phone.get_by_text("B goes to what can be done with them")).to_be_hidden()


def test_the_start_view_leads_to_duplicates_and_looks_for_none_unasked(opened, tidy_site):
    url, _ = tidy_site
    page = opened("groups", at=url)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    link = page.get_by_role("link", name="Look for duplicates")
    expect(link).to_be_visible()
    expect(page.locator(".card").first).to_be_visible()
    assert not any("/api/0/duplicates" in url for url in asked)
    link.click()
    expect(page.locator(".group").first).to_be_visible()


@pytest.fixture
def pairs_site(tmp_path):
    """The page of a folder with 7 pairs, and with a group of 4."""
    photos = draw_copies(tmp_path / "photos", 8)
    for number in range(7):
        for name in (f"from phone/IMG_{number:04} (1).jpg", f"copy of {number}.jpg"):
            (photos / name).unlink()
    with served(create_app([write(tmp_path / "gallery", "ready-made", photos, embedding(4))], ["127.0.0.1"])) as url:
        yield url


@pytest.mark.parametrize("width, columns", ((390, 1), (1280, 2), (1920, 3)))
def test_small_groups_stand_side_by_side(opened, pairs_site, width, columns):
    page = opened("duplicates?sort=name", at=pairs_site, width=width)
    groups = page.locator(".group")
    expect(groups).to_have_count(8)
    tops = groups.evaluate_all("groups => groups.map((group) => group.getBoundingClientRect().top)")
    sizes = groups.evaluate_all("groups => groups.map((group) => group.querySelectorAll('.tile').length)")
    large = sizes.index(4)
    assert sorted(sizes) == [2] * 7 + [4] and tops == sorted(tops) and tops.count(tops[large]) == 1
    assert max(map(tops.count, tops)) == columns
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    place = "a => a.getBoundingClientRect().left"
    first = groups.nth(0).locator(".tile a").first
    first.focus()
    page.keyboard.press("ArrowDown")  # to the group below
    below = groups.nth(columns).locator(".tile a").first
    expect(below).to_be_focused()
    assert below.evaluate(place) == first.evaluate(place)
    page.keyboard.press("ArrowUp")
    expect(first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # to the next one
    expect(groups.nth(1).locator(".tile a").first).to_be_focused()
    groups.nth(7).locator(".tile a").last.focus()
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.closest('.group').getBoundingClientRect().top") == min(
        groups.evaluate_all("groups => groups.map((group) => group.getBoundingClientRect().top)")
    )


def test_a_reference_of_the_address_can_be_taken_back(opened, tidy_site):
    page = opened("duplicates?reference=from%20phone", at=tidy_site[0])
    choice = page.get_by_label("Only what is already in")
    expect(choice).to_have_value("from phone")
    expect(page.get_by_text("Images in that folder always stay")).to_be_visible()
    with page.expect_response("**/duplicates?*") as answer:
        choice.select_option("any folder")
    assert "reference=&" in answer.value.url
    page.get_by_role("button", name="of all 24 groups").click()  # it is offered when the answer is shown
    expect(bar(page)).to_contain_text("72 selected")
    expect(choice).to_have_value("")
    assert "reference" not in page.url


def test_the_order_that_was_chosen_outlasts_another_view(opened, tidy_site):
    page = opened("duplicates", at=tidy_site[0])
    page.get_by_text("Filter, sort, compare with a folder").click()
    order, first = page.get_by_label("Order"), page.locator(".tile .name").first
    order.select_option("by name")
    expect(first).to_have_text("2023 summer/IMG_0000.jpg")
    for link in ("Groups", "Map"):
        page.get_by_role("link", name=link, exact=True).click()
        settled(page)
        page.get_by_role("link", name="Duplicates", exact=True).click()
        settled(page)
        expect(order).to_have_value("name")
        expect(first).to_have_text("2023 summer/IMG_0000.jpg")
        assert "sort=name" in page.url
    order.select_option("the most similar first")
    settled(page)
    page.get_by_role("link", name="Near copies").click()
    settled(page)
    expect(order).to_have_value("similarity")
    assert "sort" not in page.url
