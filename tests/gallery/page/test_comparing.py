"""Duplicates in the large view: what they are compared by, a tick box, steps from group to group."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from copies_on_page import COUNT, bar, box, selected
from playwright.sync_api import expect

from browser import settled, tiles, until


def large(page):
    return page.get_by_role("dialog")


def test_a_duplicate_is_shown_with_its_facts(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    group = page.locator(".group").filter(has_text="IMG_0003.jpg")
    group.locator(".tile a").first.click()
    facts = large(page).locator(".facts")
    expect(facts).to_contain_text("Best")
    for words in ("640 × 640 · ", " kB · JPEG · taken 2023-07-04 12:30", "1 of 4 in this group · group 1 of 24"):
        expect(facts).to_contain_text(words)
    page.keyboard.press("ArrowRight")
    expect(facts).to_contain_text("2 of 4 in this group")
    expect(facts).not_to_contain_text("Best")
    while "(1).jpg" not in large(page).locator("h2").inner_text():
        page.keyboard.press("ArrowRight")
    expect(facts).to_contain_text("320 × 320 · ")
    until(page, "document.querySelector('dialog img').naturalWidth === 320")  # the picture, no thumbnail
    assert large(page).locator("img").bounding_box()["width"] <= 2 * 320


def test_a_duplicate_is_selected_in_the_large_view(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    names = page.locator(".group").first.locator(".name").all_inner_texts()
    tiles(page).nth(1).locator("a").focus()
    page.keyboard.press("Enter")
    pick = large(page).get_by_role("checkbox", name="Select")
    expect(pick).to_be_focused()
    page.keyboard.press("Space")
    expect(pick).to_be_checked()
    page.keyboard.press("Enter")  # leads to no search
    expect(large(page)).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(pick).not_to_be_checked()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    large(page).get_by_text("Select: goes into the script").click()
    expect(large(page).get_by_text("none would stay")).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    large(page).get_by_role("link", name="Find similar").focus()
    page.keyboard.press("Space")
    expect(pick).to_be_checked()
    expect(large(page).get_by_text("none would stay")).to_be_visible()
    page.keyboard.press("Space")
    expect(large(page).get_by_text("none would stay")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(bar(page)).to_contain_text("3 selected")
    assert selected(page) == sorted(names[1:])


def test_steps_lead_from_group_to_group(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url, height=400)
    first, second = page.locator(".group").nth(0), page.locator(".group").nth(1)
    first.locator(".tile a").last.click()
    path = large(page).locator(".path")
    large(page).get_by_role("button", name="Next image").click()
    expect(path).to_have_text(second.locator(".name").first.inner_text())
    expect(large(page).locator(".facts")).to_contain_text("1 of 4 in this group · group 2 of 24")
    page.keyboard.press("ArrowLeft")
    expect(path).to_have_text(first.locator(".name").last.inner_text())
    page.evaluate("document.querySelector('.more').remove()")  # so that no scrolling loads the others
    step = large(page).get_by_role("button", name="Next image")
    last = first.locator(".name").last.inner_text()
    while step.is_visible():
        page.keyboard.press("ArrowRight")
        expect(path).not_to_have_text(last)
        last = path.inner_text()
    expect(path).to_have_text(page.locator(".group").last.locator(".name").last.inner_text())
    expect(page.locator(".group")).to_have_count(COUNT)
    page.keyboard.press("Escape")
    expect(page.locator(".tile a").last).to_be_focused()


def test_elsewhere_nothing_is_to_be_selected(opened):
    page = opened("group?id=0")
    tiles(page).first.locator("a").focus()
    page.keyboard.press("Space")
    expect(large(page).get_by_role("link", name="Find similar")).to_be_focused()
    expect(large(page).get_by_role("checkbox")).to_have_count(0)
    page.keyboard.press("Space")
    expect(large(page)).to_be_visible()


@pytest.mark.parametrize("width, height", ((320, 568), (390, 844), (844, 390), (1280, 800), (640, 400)))
def test_nothing_lies_on_a_duplicate_in_the_large_view(opened, tidy_site, width, height):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width, height=height)
    group = page.locator(".group").first
    for tile in group.locator(".tile").all():
        box(tile).click()
    group.locator(".tile a").first.click()
    settled(page)
    until(page, "document.querySelector('dialog img').naturalWidth === 640")
    picture, caption = large(page).locator("img").bounding_box(), large(page).locator(".caption").bounding_box()
    assert picture["height"] >= 0.3 * height and picture["y"] + picture["height"] <= caption["y"], (picture, caption)
    assert caption["y"] + caption["height"] <= height + 0.5
    for part in large(page).locator(".facts, .warning, .pick, .actions > :visible").all():
        part.scroll_into_view_if_needed()
        place = part.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= width + 0.5, place


@pytest.mark.parametrize("scheme, rules", [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_axe_finds_nothing_in_the_large_view_of_a_duplicate(opened, tidy_site, scheme, rules):
    url, _ = tidy_site
    page = opened("duplicates", at=url, color_scheme=scheme)
    for tile in page.locator(".group").first.locator(".tile").all():
        box(tile).click()
    page.locator(".tile a").first.click()
    expect(large(page).locator(".warning")).to_contain_text("none would stay")
    violations = Axe().run(page, "dialog", {"resultTypes": ["violations"], **rules}).response["violations"]
    assert not [(each["id"], each["nodes"][0]["html"]) for each in violations if each["impact"] in ("serious", "critical")]
