"""Groups of duplicates in words: how alike they are, and groups that someone keeps as they are. Ticking moves nothing."""

import re

import pytest
from copies_on_page import bar, selected
from playwright.sync_api import expect
from small_gallery import draw_copies, embedding, write
from visits import client, made

from browser import served, settled, tiles
from gallery.page.app import create_app


@pytest.fixture
def mixed_view(tmp_path):
    """A view of three groups: one of 2 equal files, one of 2 copies, and one of 2 equal files and a copy."""
    photos = draw_copies(tmp_path / "photos", 3)
    for name in ("from phone/IMG_0000 (1).jpg", "from phone/resaved 0.jpg", "copy of 1.jpg", "from phone/resaved 1.jpg"):
        (photos / name).unlink()
    (photos / "from phone/IMG_0002 (1).jpg").unlink()
    return write(tmp_path / "gallery", "ready-made", photos, embedding(4))


@pytest.fixture
def mixed_site(mixed_view):
    with served(create_app([mixed_view], ["127.0.0.1"])) as url:
        yield url


def test_groups_tell_whether_files_are_equal(mixed_view):
    page = client([mixed_view])
    groups = made(page, "/api/0/duplicates", kind="copies", sort="name")["groups"]
    alike = [("copy of 0.jpg", True, True), ("IMG_0001.jpg", False, False), ("IMG_0002.jpg", False, True)]
    found = {frozenset(item["name"] for item in group["items"]): (group["same"], group["twice"]) for group in groups}
    assert len(found) == 3
    for name, same, twice in alike:
        assert next(told for names, told in found.items() if name in names) == (same, twice)
    for group in groups:
        page.post("/api/0/not_duplicate", json={"keys": [item["key"] for item in group["items"]]})
    marks = made(page, "/api/0/marks")["marks"]
    assert [(mark["same"], mark["twice"]) for mark in marks[::-1]] == [(group["same"], group["twice"]) for group in groups]


def test_near_copies_that_are_marked_are_not_called_kept_though_one_file_is_there_twice(mixed_view):
    page = client([mixed_view])
    groups = made(page, "/api/0/duplicates", kind="near")["groups"]
    group = next(each for each in groups if any(item["name"] == "resaved 2.jpg" for item in each["items"]))
    assert not group["twice"] and len(group["items"]) == 2
    page.post("/api/0/not_duplicate", json={"keys": [item["key"] for item in group["items"]]})
    (mark,) = made(page, "/api/0/marks")["marks"]
    assert len(mark["items"]) == 3 and not mark["twice"]


def test_equal_files_are_kept_and_this_can_be_undone(opened, mixed_site):
    page = opened("duplicates?kind=identical", at=mixed_site)
    groups = page.locator(".group")
    equal = groups.filter(has_text="copy of 0.jpg")
    expect(groups).to_have_count(2)
    expect(page.get_by_role("button", name="These are not duplicates")).to_have_count(0)  # this would be untrue
    keep = equal.get_by_role("button", name="Keep all of these")
    off = page.get_by_role("link", name="Groups you took off the list")
    expect(off).to_have_count(0)  # there are none yet
    keep.click()
    expect(off).to_be_visible()
    expect(page.get_by_text("Remembered: all of these stay")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(keep).to_be_focused()
    keep.click()
    page.get_by_role("link", name="All copies").click()
    settled(page)
    expect(groups).to_have_count(2)
    expect(page.get_by_text("copy of 0.jpg")).to_have_count(0)
    mixed = groups.filter(has_text="IMG_0002.jpg")  # two of its files are equal
    expect(mixed.get_by_role("button", name="These are not duplicates")).to_have_count(0)
    mixed.get_by_role("button", name="Keep all of these").click()
    expect(page.get_by_text("Remembered")).to_be_focused()
    groups.filter(has_text="IMG_0001.jpg").get_by_role("button", name="These are not duplicates").click()
    expect(page.get_by_text("Remembered: these are not shown as duplicates")).to_be_focused()
    page.get_by_role("link", name="Groups you took off the list").click()
    settled(page)
    told = ["2 images that are not duplicates", "3 images, all kept", "2 images, the same file: all kept"]
    expect(page.locator(".group h2")).to_have_text(told)
    equal.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("shown as duplicates again")).to_be_focused()
    page.get_by_role("link", name="Duplicates", exact=True).click()
    settled(page)
    expect(equal.locator(".tile")).to_have_count(2)
    page.context.close()


def test_how_alike_is_said_in_words(opened, mixed_site):
    page = opened("duplicates", at=mixed_site)
    words = lambda name: page.locator(".group").filter(has_text=name).locator("h2 span").first
    expect(words("copy of 0.jpg")).to_have_text("2 images: the same file, byte for byte")
    expect(words("IMG_0001.jpg")).to_contain_text("2 images: nearly the same picture")
    number = words("IMG_0001.jpg").get_by_text("similarity")
    expect(number).to_have_text(re.compile(r"similarity (0\.9\d\d|1\.000)"))


@pytest.mark.parametrize("how", ("click", "Space"))
@pytest.mark.parametrize("width, height", ((1280, 800), (390, 844)))
def test_ticking_at_the_lower_edge_moves_nothing(opened, tidy_site, width, height, how):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width, height=height)
    boxes = page.locator(".group .tile input")
    edge = "box => box.getBoundingClientRect().top"
    boxes.nth(4).evaluate("(box, height) => scrollBy(0, box.getBoundingClientRect().bottom - height + 4)", height)
    before = page.evaluate("scrollY")
    place = boxes.nth(4).bounding_box()
    assert height - 40 < place["y"] < height
    if how == "click":
        page.mouse.click(place["x"] + 5, place["y"] + 5)
    else:
        tiles(page).nth(4).locator("a").evaluate("a => a.focus({ preventScroll: true })")
        page.keyboard.press(" ")
    expect(bar(page)).to_contain_text("1 selected")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("scrollY") == before
    expect(tiles(page).nth(4).locator("a")).to_be_focused()
    assert boxes.nth(4).evaluate(edge) == place["y"]
    page.keyboard.press("ArrowRight")  # with the keys, what has the focus is in sight
    date = page.locator(".tile:focus-within .traits p").last.bounding_box()
    assert date["y"] + date["height"] <= bar(page).bounding_box()["y"]


def test_counts_follow_a_mark_and_its_undo(opened, tidy_site):
    page = opened("duplicates?sort=name", at=tidy_site[0], height=600)
    line, every = page.locator("main .line").first, page.get_by_role("button", name="of all")
    off = page.get_by_role("link", name="Groups you took off the list")
    groups = page.locator(".group")
    for number in (0, 3):
        groups.nth(number).get_by_role("button", name="Keep all of these").click()
        expect(page.get_by_text("Remembered").last).to_be_focused()
    expect(line).to_contain_text("88 images in 22 groups: 22 to keep, 66 copies.")
    expect(every).to_have_text("of all 22 groups")
    expect(page.get_by_role("button", name="of the 18 groups shown")).to_be_visible()
    expect(off).to_be_visible()
    page.locator(".more").scroll_into_view_if_needed()
    expect(page.locator(".group .name").get_by_text("2023 summer/IMG_0021.jpg")).to_have_count(1)
    expect(groups).to_have_count(24)  # none is skipped, though the server's list is shorter by now
    for left in (23, 24):
        page.get_by_role("button", name="Undo").first.click()
        expect(line).to_contain_text(f"{4 * left} images in {left} groups: {left} to keep, {3 * left} copies.")
        expect(every).to_have_text(f"of all {left} groups")
    expect(off).to_be_hidden()
    page.context.close()


def test_undo_of_a_mark_selects_what_its_group_had_selected(opened, tidy_site):
    page = opened("duplicates?sort=name", at=tidy_site[0])
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    group = page.locator(".group").nth(1)
    names = selected(page)
    group.get_by_role("button", name="Keep all of these").click()
    expect(bar(page)).to_contain_text("69 selected")
    expect(bar(page)).to_contain_text("69 added")
    group.get_by_role("button", name="Undo").click()
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).to_contain_text("72 added")
    assert selected(page) == names
    expect(group.locator(".tile.selected")).to_have_count(3)
    page.context.close()


def test_the_list_of_marks_counts_what_is_left(opened, tidy_site):
    page = opened("duplicates?sort=name", at=tidy_site[0])
    for number in (0, 1):
        page.locator(".group").nth(number).get_by_role("button", name="Keep all of these").click()
        expect(page.get_by_text("Remembered").nth(number)).to_be_focused()
    page.get_by_role("link", name="Groups you took off the list").click()
    line = page.locator("main .line").first
    expect(line).to_have_text("2 groups not shown as duplicates, the newest first")
    for left in ("1 group not shown as duplicates", "No group was taken off the list."):
        page.get_by_role("button", name="Undo").first.click()
        expect(line).to_have_text(left)
    page.get_by_role("link", name="All duplicates").click()
    expect(page.locator("main .line").first).to_contain_text("24 groups")
    expect(page.get_by_role("link", name="Groups you took off the list")).to_have_count(0)
    page.context.close()
