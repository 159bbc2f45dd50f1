"""The bar of the selection tells which step can be undone, what leaves no copy behind, and which scripts have run."""

import re

import pytest
from copies_on_page import bar, box, look_again, press, run, save
from playwright.sync_api import expect

from browser import settled, tiles


def test_a_step_of_many_images_is_told_and_undone(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("71 added")
    page.get_by_role("link", name="Map").click()
    settled(page)
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text("96 selected")
    expect(bar(page)).to_contain_text("24 added")
    expect(page.locator("#status")).to_have_text("24 added, 96 images selected")
    press(page, "Undo selecting")
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).not_to_contain_text("added")
    expect(bar(page).get_by_role("button", name="Undo")).to_be_hidden()


def test_a_step_that_changes_nothing_leaves_the_earlier_one_to_undo(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 added")
    page.get_by_role("button", name="of the 20 groups shown").click()
    expect(page.locator("#status")).to_have_text("Selected all but one of 20 groups")
    expect(bar(page)).to_contain_text("72 added")
    press(page, "Undo selecting")
    expect(bar(page)).to_be_hidden()


def test_clear_is_undone_with_what_stays_by_hand(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    box(tiles(page).nth(1)).click()
    press(page, "Clear")
    expect(bar(page)).to_contain_text("Nothing is selected now")
    undo = bar(page).get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("71 selected")
    expect(bar(page)).to_contain_text("You left out 1")
    expect(bar(page).get_by_role("button", name="Clear")).to_be_focused()


def test_a_change_by_hand_ends_the_offer_to_undo(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page).get_by_role("button", name="Undo")).to_be_visible()
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("71 selected")
    expect(bar(page).get_by_role("button", name="Undo")).to_be_hidden()


def test_what_stays_by_hand_stays_after_files_were_moved_and_brought_back(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    box(tiles(page).nth(1)).click()
    scripts = save(page, tmp_path)
    run(scripts / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("71 of 71 files were moved to")
    run(scripts / "tidy-undo.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("All 71 files are back where they were")
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("71 selected")
    expect(bar(page)).to_contain_text("You left out 1")
    page.context.close()


def test_what_came_back_is_no_file_that_is_gone(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    press(page, "Clear")
    (photos / "copy of 3.jpg").unlink()
    look_again(page)
    expect(page.locator("main .line").first).to_contain_text("95 images in 24 groups")
    press(page, "Undo deselecting")
    expect(bar(page)).to_contain_text("71 selected")
    page.context.close()


def risk(page):
    return bar(page).locator(".sum .warning")


def test_the_bar_warns_of_what_leaves_no_copy_behind_before_it_is_saved(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    with page.expect_response("**/weigh?*"):
        page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    expect(risk(page)).to_have_text("")
    for group in (0, 1):
        box(page.locator(".group").nth(group).locator(".tile").first).click()
    expect(bar(page)).to_contain_text("74 selected")
    expect(risk(page)).to_have_text("8 of them have no copy that stays")
    box(tiles(page).nth(1)).click()
    expect(risk(page)).to_have_text("4 of them have no copy that stays")
    expect(bar(page)).to_contain_text("including 1 to keep. You left out 1")
    save(page, tmp_path)
    expect(bar(page).locator(".note .warning")).to_contain_text("4 of them have no copy that stays: ")  # the same number
    expect(risk(page)).to_have_text("")


def test_the_bar_warns_of_groups_that_are_not_loaded_and_of_what_was_marked(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates?sort=name", at=url)
    group = page.locator(".group").first
    group.get_by_role("button", name="Select all but the best").click()
    expect(bar(page)).to_contain_text("3 selected")
    page.get_by_role("link", name="Map").click()
    settled(page)
    expect(bar(page)).to_contain_text("The script moves what is selected, copies or not")
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text("96 selected")
    page.get_by_role("link", name="Duplicates", exact=True).click()
    settled(page)
    expect(risk(page)).to_have_text("96 of them have no copy that stays")
    press(page, "Clear")
    expect(risk(page)).to_have_text("")
    group = page.locator(".group").first
    group.get_by_role("button", name="Select all but the best").click()
    expect(bar(page)).to_contain_text("3 selected")
    key = box(group.locator(".tile").nth(1)).get_attribute("data-key")
    others = [box(tile).get_attribute("data-key") for tile in group.locator(".tile").all()]
    with page.expect_response("**/weigh?*"):  # as if it was marked beside another view of the group
        page.evaluate("(keys) => void import('/static/api.js').then((api) => api.notDuplicates(0, keys))", [key, *others])
    expect(risk(page)).to_have_text("3 of them have no copy that stays")
    page.context.close()


def test_the_bar_warns_of_images_whose_copies_are_gone(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    box(tiles(page).first).click()
    for path in photos.rglob("*.jpg"):
        if "2023 summer" not in path.parts:
            path.unlink()
    look_again(page)
    expect(page.get_by_text("No picture was found twice.")).to_be_visible()
    expect(risk(page)).to_have_text("It has no copy that stays")
    expect(bar(page)).to_contain_text("It is not in this list")
    press(page, "Clear")
    expect(risk(page)).to_have_text("")
    page.context.close()


def test_what_is_selected_and_not_in_the_list_is_counted_and_taken_out(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).not_to_contain_text("not in this list")  # though 4 groups are not loaded yet
    page.get_by_text("Filter, sort, compare with a folder").click()
    page.get_by_label("Folder or name").fill("IMG_000")
    expect(page.locator(".group")).to_have_count(10)
    expect(bar(page)).to_contain_text("42 of them are not in this list")
    press(page, "Take those 42 out")
    expect(bar(page)).to_contain_text("30 selected")
    expect(bar(page)).to_contain_text("42 deselected")
    expect(bar(page)).not_to_contain_text("not in this list")
    expect(bar(page).get_by_role("button", name="Take those")).to_be_hidden()
    expect(bar(page).get_by_role("button", name="Undo deselecting")).to_be_focused()
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).to_contain_text("42 of them are not in this list")
    page.get_by_label("Folder or name").fill("nowhere")
    expect(bar(page)).to_contain_text("72 of them are not in this list")


def test_each_script_that_has_run_keeps_its_way_back(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates?sort=name", at=url)
    page.watch.expected = ["404"]
    box(tiles(page).nth(1)).click()
    box(tiles(page).nth(2)).click()
    first = save(page, tmp_path)
    run(first / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text(f"2 of 2 files were moved to {photos}-duplicates.")
    settled(page)
    box(tiles(page).nth(3)).click()
    expect(bar(page)).to_contain_text("This is a new selection, not saved yet.")
    expect(bar(page).locator(".note .warning")).to_have_count(0)
    expect(bar(page)).not_to_contain_text("tidy.sh")
    expect(bar(page).get_by_role("button", name="Save script")).to_have_text("Save script")
    page.wait_for_timeout(1000)  # the name of a script holds the second
    second = save(page, tmp_path)
    assert second != first
    for way in ("saved", "reloaded"):
        expect(bar(page)).to_contain_text(f"sh {second.name}/tidy.sh")
        expect(bar(page).get_by_role("button", name=f"Copy sh {first.name}/tidy-undo.sh")).to_be_visible()
        if way == "saved":
            page.reload()
            settled(page)
    bar(page).get_by_role("button", name=f"Close the note on {first.name}").click()
    expect(bar(page)).not_to_contain_text(first.name)
    expect(bar(page)).to_contain_text(second.name)
    expect(bar(page).get_by_role("button", name="Clear")).to_be_focused()
    expect(page.locator("details.scripts")).to_contain_text(f"sh {first.name}/tidy-undo.sh")
    page.context.close()


def test_a_script_that_is_out_of_date_is_not_offered(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    name = save(page, tmp_path).name
    box(tiles(page).nth(2)).click()
    expect(bar(page)).to_contain_text(f"{name}.zip holds the earlier 1 file.")
    expect(bar(page).get_by_role("button", name="Copy sh")).to_have_count(0)


@pytest.mark.parametrize("width", (390, 900, 1280))
def test_ticking_does_not_move_the_buttons(opened, tidy_site, tmp_path, width):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    places = lambda: [
        bar(page).get_by_role("button", name=name).bounding_box()
        for name in ("Save script", "Save list", "Copy paths", "Clear")
    ]
    before = places()
    save(page, tmp_path)
    assert places() == before
    for tile in (0, 1, 2):
        box(tiles(page).nth(tile)).click()
        assert places() == before, tile


@pytest.mark.parametrize("width", (390, 1280))
def test_the_lines_of_a_focused_picture_are_in_sight(opened, tidy_site, tmp_path, width):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    save(page, tmp_path)
    tiles(page).first.locator("a").focus()
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        date = page.locator(".tile:focus-within .traits p").last.bounding_box()
        assert date["y"] + date["height"] <= bar(page).bounding_box()["y"]


def test_a_narrow_window_tells_no_keys(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=390)
    expect(page.locator(".group").first).to_be_visible()
    expect(page.locator("#keys-select")).to_be_hidden()


def test_what_nobody_called_duplicates_is_taken_off_in_other_words(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    others = lambda route: route.continue_(url=re.sub("kind=(burst|alike)", "kind=near", route.request.url))
    page.route("**/duplicates?kind=*", others)  # the folder has neither
    labels = {"Near copies": "These are not duplicates", "Bursts": "These do not belong together"}
    for kind, words in {**labels, "Look-alikes": "These do not look alike"}.items():
        page.get_by_role("link", name=kind).click()
        settled(page)
        expect(page.get_by_role("button", name=words)).not_to_have_count(0)
        expect(page.locator(".group h2").get_by_text("similarity")).to_have_count(0 if kind == "Bursts" else 20)
