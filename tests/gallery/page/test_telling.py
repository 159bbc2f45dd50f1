"""The bar of the selection tells which step can be undone, which groups would go whole, and which scripts have run."""

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
    expect(bar(page)).to_contain_text("71 files are back")
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


def test_the_bar_warns_of_whole_groups_and_of_the_best(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).not_to_contain_text("whole")
    for group in (0, 1):
        box(page.locator(".group").nth(group).locator(".tile").first).click()
    expect(bar(page)).to_contain_text("2 groups would go whole")
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("1 group would go whole")
    expect(bar(page)).to_contain_text("including 1 to keep. You left out 1")


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
    words = "1 image is still selected, though no copy of it is here. Clear takes it out."
    expect(bar(page).locator(".sum .warning")).to_have_text(words)
    press(page, "Clear")
    expect(bar(page)).not_to_contain_text("still selected")
    page.context.close()


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


def test_bursts_are_said_not_to_belong_together(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    others = lambda route: route.continue_(url=route.request.url.replace("kind=burst", "kind=near"))
    page.route("**/duplicates?kind=burst*", others)  # the folder has no bursts
    for kind, words in (("Near copies", "These are not duplicates"), ("Bursts", "These do not belong together")):
        page.get_by_role("link", name=kind).click()
        settled(page)
        expect(page.get_by_role("button", name=words)).not_to_have_count(0)
        expect(page.locator(".group h2").get_by_text("similarity")).to_have_count(0 if kind == "Bursts" else 20)
