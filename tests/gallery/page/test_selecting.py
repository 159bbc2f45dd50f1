"""Tidying up in the browser: traits, selecting by mouse and keyboard, what is saved, and the page after the script ran."""

import os
import shutil
import subprocess
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from copies_on_page import COUNT, bar, box, look_again, selected
from playwright.sync_api import expect

from browser import settled, tiles

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def test_each_picture_has_its_traits_and_the_best_is_marked(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    expect(page.get_by_text("Best: the most pixels, then the most bytes, then the oldest")).to_be_visible()
    group = page.locator(".group").filter(has_text="IMG_0003.jpg")
    best = group.locator(".tile").first
    expect(best.locator(".badge")).to_have_text("Best")
    expect(group.locator(".badge")).to_have_count(1)
    assert best.locator(".name").inner_text() == "2023 summer/IMG_0003.jpg"
    assert "640 × 640" in best.inner_text() and "JPEG" in best.inner_text() and "taken 2023-07-04 12:30" in best.inner_text()
    small = group.locator(".tile").filter(has_text="(1).jpg")
    assert "320 × 320" in small.inner_text() and "file of 20" in small.inner_text()
    page.get_by_label("Keep of each group").select_option("the oldest")
    settled(page)
    expect(page.locator(".badge").first).to_have_text("Oldest")
    assert "keep=oldest" in page.url
    page.reload()
    settled(page)
    expect(page.get_by_label("Keep of each group")).to_have_value("oldest")


def test_selecting_by_mouse(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    expect(bar(page)).to_be_hidden()
    group, next_group = page.locator(".group").nth(0), page.locator(".group").nth(1)
    names = group.locator(".name").all_inner_texts()
    box(group.locator(".tile").nth(1)).click()
    expect(group.locator(".tile").nth(1).locator("a")).to_be_focused()
    assert selected(page) == [names[1]]
    box(group.locator(".tile").nth(3)).click(modifiers=["Shift"])
    assert selected(page) == sorted(names[1:])
    expect(bar(page)).to_contain_text("3 selected, ")
    expect(bar(page)).to_contain_text("This page changes nothing in your folder.")
    box(group.locator(".tile").nth(2)).click()
    assert selected(page) == sorted([names[1], names[3]])
    box(group.locator(".tile").nth(2)).click()
    expect(group.get_by_text("none would stay")).to_be_hidden()
    box(group.locator(".tile").nth(0)).click()
    expect(group.get_by_text("none would stay")).to_be_visible()
    box(next_group.locator(".tile").nth(1)).click(modifiers=["Shift"])  # a range goes on in the next group
    expect(bar(page)).to_contain_text("6 selected, ")
    bar(page).get_by_role("button", name="Clear").click()
    bar(page).get_by_role("button", name="Close").click()
    expect(bar(page)).to_be_hidden()
    assert selected(page) == []


def test_selecting_by_keyboard(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    groups = page.locator(".group")
    names = [groups.nth(i).locator(".name").all_inner_texts() for i in (0, 1)]
    groups.nth(0).locator(".tile a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert selected(page) == [names[0][1]]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == sorted(names[0][1:])
    page.keyboard.press("ArrowRight")  # into the next group
    expect(groups.nth(1).locator(".tile a").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+Space")
    assert selected(page) == sorted(names[0][1:] + names[1][1:3])
    page.keyboard.press("Space")
    assert selected(page) == sorted([*names[0][1:], names[1][2]])
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("b")
    expect(bar(page).get_by_role("button", name="Save script")).to_be_focused()
    groups.nth(1).locator(".tile a").nth(1).focus()
    page.keyboard.press("Tab")
    expect(box(groups.nth(1).locator(".tile").nth(1))).to_be_focused()
    page.keyboard.press("Space")
    expect(box(groups.nth(1).locator(".tile").nth(1))).to_be_focused()
    assert selected(page) == sorted(names[0][1:] + names[1][1:3])


def test_b_goes_to_the_bar_from_anywhere_but_a_text(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").focus()
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("72 selected")
    page.keyboard.press("b")
    expect(bar(page).get_by_role("button", name="Save script")).to_be_focused()
    page.get_by_text("Filter, sort, compare with a folder").click()
    page.get_by_label("Folder or name").focus()
    page.keyboard.press("b")
    expect(page.get_by_label("Folder or name")).to_be_focused()
    expect(page.get_by_label("Folder or name")).to_have_value("b")
    tiles(page).first.locator("a").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("b")
    expect(bar(page).get_by_role("button", name="Save script")).not_to_be_focused()


def test_all_but_the_best_of_the_groups_shown_or_of_all(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url, height=400)
    page.get_by_role("button", name="of the 20 groups shown").click()
    expect(bar(page)).to_contain_text("60 selected")
    assert page.locator(".tile.selected:has(.badge)").count() == 0
    page.locator(".more").scroll_into_view_if_needed()
    expect(page.locator(".group")).to_have_count(COUNT)
    assert len(selected(page)) == 60  # it survives more groups
    bar(page).get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    page.get_by_label("Keep of each group").select_option("the oldest")  # it survives another rule
    settled(page)
    expect(bar(page)).to_contain_text("72 selected")
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")  # the earlier choice is replaced, so that one of each group stays
    assert page.locator(".group.whole").count() == 0
    assert page.locator(".tile.selected:has(.badge)").count() == 0
    page.get_by_role("link", name="Same file").click()
    settled(page)
    expect(bar(page)).to_contain_text("72 selected")  # and another class
    assert len(selected(page)) > 10
    page.go_back()
    expect(page.locator(".at-duplicates")).to_be_visible()
    group = page.locator(".group").first
    group.get_by_role("button", name="Keep all of these").click()
    expect(bar(page)).to_contain_text("69 selected")


def test_a_click_or_enter_shows_a_picture_large(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    tile = page.locator(".tile").first
    name = tile.locator(".name").inner_text()
    tile.locator("img").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".path")).to_have_text(name)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(page.locator(".tile a").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("link", name="Find similar").click()
    expect(page.locator(".at-search")).to_be_visible()


@pytest.mark.parametrize("moment", ["at once", "while the page steps back"])
def test_a_picture_that_is_opened_as_another_one_closes_stays_open(opened, tidy_site, moment):
    page = opened("duplicates", at=tidy_site[0])
    page.locator(".tile img").first.click()
    dialog, second = page.get_by_role("dialog"), page.locator(".tile").nth(1)
    expect(dialog).to_be_visible()
    page.evaluate(
        """moment => {
            const dialog = document.getElementById("large"), open = () => document.querySelectorAll(".tile a")[1].click();
            if (moment !== "at once") dialog.addEventListener("close", open, { once: true });
            dialog.close();
            if (moment === "at once") open();
        }""",
        moment,
    )
    expect(dialog.locator(".path")).to_have_text(second.locator(".name").inner_text())
    page.wait_for_timeout(300)
    expect(dialog.locator("img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.wait_for_function("!history.state.large")


def test_what_was_taken_out_by_hand_stays_out_until_clear(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    every = page.get_by_role("button", name="of all 24 groups")
    every.focus()
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("72 selected")
    expect(every).to_be_focused()  # it was off for a moment
    tile = page.locator(".tile").nth(1)
    box(tile).click()
    for press in (every, page.get_by_role("button", name="of the 20 groups shown")):
        press.click()
        expect(bar(page)).to_contain_text("71 selected")
        expect(bar(page)).to_contain_text("You left out 1")
        expect(box(tile)).not_to_be_checked()
    box(tile).click()
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).not_to_contain_text("left out")
    box(tile).click()
    bar(page).get_by_role("button", name="Clear").click()
    every.click()
    expect(bar(page)).to_contain_text("72 selected")
    save = bar(page).get_by_role("button", name="Save list")
    save.focus()
    with page.expect_download():
        page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("a path a line")
    expect(save).to_be_focused()


def test_copied_paths_and_a_list(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    group = page.locator(".group").filter(has_text="IMG_0003.jpg")
    group.get_by_role("button", name="Select all but the best").click()
    expected = sorted(
        str(photos / name) for name in ("copy of 3.jpg", "from phone/IMG_0003 (1).jpg", "from phone/resaved 3.jpg")
    )
    bar(page).get_by_role("button", name="Copy paths").click()
    expect(bar(page).get_by_role("button", name="Copied")).to_be_visible()
    assert sorted(page.evaluate("navigator.clipboard.readText()").split("\n")) == expected
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save list").click()
    download.value.save_as(tmp_path / "list.txt")
    assert sorted((tmp_path / "list.txt").read_text().splitlines()) == expected
    expect(bar(page)).to_contain_text(f"Saved: {download.value.suggested_filename}, a path a line.")


def test_filter_order_and_reference(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    other = page.locator(".group").filter(has_not_text="IMG_0003.jpg").first
    box(other.locator(".tile").nth(1)).click()
    page.get_by_text("Filter, sort, compare with a folder").click()
    for kind in ("Bursts", "All copies"):  # the box stays open
        page.get_by_role("link", name=kind).click()
        settled(page)
    expect(page.get_by_text("Images in that folder always stay")).to_be_hidden()
    page.get_by_label("Folder or name").fill("img_0003")
    expect(page.locator(".group")).to_have_count(1)
    expect(page.locator("main .line").first).to_contain_text("4 images in 1 group: 1 to keep, 3 copies.")
    expect(bar(page)).to_contain_text("1 selected")  # it survives a filter
    page.get_by_role("button", name="of the group").click()
    expect(bar(page)).to_contain_text("4 selected")
    bar(page).get_by_role("button", name="Clear").click()
    page.get_by_label("Folder or name").fill("nowhere")
    expect(page.get_by_text("No group is left by the filter.")).to_be_visible()
    page.get_by_label("Folder or name").fill("")
    expect(page.locator(".group")).to_have_count(20)
    page.get_by_label("Order").select_option("by name")
    settled(page)
    expect(page.locator(".tile .name").first).to_have_text("2023 summer/IMG_0000.jpg")
    page.get_by_label("Only what is already in").select_option("from phone")
    settled(page)
    expect(page.get_by_text("then the reference folder")).to_be_visible()
    expect(page.get_by_text("Images in that folder always stay")).to_be_visible()
    group = page.locator(".group").first
    assert group.locator(".badge").all_inner_texts() == ["Best", "Stays"]
    group.get_by_role("button", name="Select all but the best").click()
    assert selected(page) == ["2023 summer/IMG_0000.jpg", "copy of 0.jpg"]
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("48 selected")
    assert not any(name.startswith("from phone") for name in selected(page))
    bar(page).get_by_role("button", name="Clear").click()
    page.reload()  # the filter is part of the address
    settled(page)
    expect(page.get_by_label("Order")).to_have_value("name")
    expect(page.get_by_label("Only what is already in")).to_have_value("from phone")
    tile = page.locator(".tile").first
    tile.get_by_role("button", name="Copy folder").click()
    expect(tile.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == str(photos / "from phone")
    tile.get_by_role("button", name="Copy path").click()
    expect(tile.get_by_text("Copied")).to_have_count(2)
    assert page.evaluate("navigator.clipboard.readText()") == str(photos / "from phone/resaved 0.jpg")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_runs_the_page_drops_the_files_and_undo_brings_them_back(opened, tidy_site, tmp_path, shell):
    url, photos = tidy_site
    before = sorted(path.relative_to(photos) for path in photos.rglob("*.jpg"))
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save script").click()
    archive = tmp_path / download.value.suggested_filename
    download.value.save_as(archive)
    expect(bar(page)).to_contain_text("Saved for 72 files")
    expect(bar(page)).to_contain_text("a terminal in the folder that holds the zip")
    expect(bar(page).locator("li").filter(has_text="tidy.sh")).to_have_count(1)
    expect(bar(page).locator("li").filter(has_text="tidy-undo.sh")).to_have_count(0)  # no step for whoever follows all
    for name in ("tidy.sh", "tidy-undo.sh"):
        expect(bar(page)).to_contain_text(f"sh {archive.stem}/{name}")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(tmp_path)

    def run(name):
        script = tmp_path / archive.stem / name
        return subprocess.run([shell, script], input=b"y\n", stdout=-1, check=True, timeout=60).stdout

    assert b"72 moved, 0 left" in run("tidy.sh")
    assert len(list(photos.rglob("*.jpg"))) == COUNT
    look_again(page)
    expect(page.get_by_text("No picture was found twice.")).to_be_visible()
    expect(bar(page)).to_contain_text(f"72 of 72 files were moved to {photos}-duplicates.")  # the way back stays
    expect(bar(page)).to_contain_text(f"sh {archive.stem}/tidy-undo.sh Copy brings them back")
    expect(bar(page).get_by_role("button")).to_have_text(["Copy", "Close"])
    page.get_by_role("link", name="Groups", exact=True).click()
    expect(page.locator("h1")).to_contain_text(f"{COUNT} images")
    assert b"72 moved, 0 left" in run("tidy-undo.sh")
    assert sorted(path.relative_to(photos) for path in photos.rglob("*.jpg")) == before
    look_again(page)
    expect(page.locator("h1")).to_contain_text(f"{4 * COUNT} images")  # and what is back is not said to be gone
    page.get_by_role("link", name="Duplicates", exact=True).click()
    settled(page)
    expect(page.locator("main .line").first).to_contain_text("96 images in 24 groups")
    expect(bar(page)).to_contain_text(f"sh {archive.stem}/tidy.sh Copy moves them away again.")
    expect(bar(page)).not_to_contain_text("tidy-undo.sh")  # nothing is left to bring back
    expect(bar(page)).to_contain_text("All 72 files are back where they were.")
    expect(bar(page)).not_to_contain_text("moved to")
    bar(page).get_by_role("button", name="Close").click()
    expect(bar(page)).to_be_hidden()
    page.context.close()


def test_what_is_moved_leaves_the_selection(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    os.remove(photos / "copy of 3.jpg")
    look_again(page)
    expect(bar(page)).to_contain_text("71 selected")
    settled(page)
    expect(page.locator("main .line").first).to_contain_text("95 images in 24 groups")
    os.remove(photos / "copy of 4.jpg")
    expect(bar(page)).to_contain_text("70 selected")  # soon, and by itself
    page.context.close()


def test_the_focus_stays_where_it_was_when_photos_change(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates?sort=name", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    save = bar(page).get_by_role("button", name="Save script")
    picture = page.locator(".tile a[title^='2023 summer/IMG_0003.jpg']")
    copy_path = page.get_by_role("button", name="Copy path of copy of 5.jpg")
    for number, node in enumerate((save, picture, copy_path, page.get_by_role("button", name="of all 24 groups")), 1):
        node.focus()
        (photos / f"copy of {number}.jpg").unlink()
        look_again(page)
        expect(page.locator("main .line").first).to_contain_text(f"{96 - number} images")
        expect(node).to_be_focused()
    copy_path.focus()
    (photos / "copy of 5.jpg").unlink()
    look_again(page)
    expect(page.locator("main .line").first).to_contain_text("91 images")
    expect(page.locator("h1")).to_be_focused()
    page.context.close()


def test_a_folder_that_was_embedded_again_is_said_once(opened, tidy_site):
    """Here the page has not noticed it yet: it asks which of the selected images are left, and the second try works."""
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["409"]
    box(page.locator(".tile").nth(1)).click()
    page.evaluate("import('/static/select.js').then(({ selection }) => (selection(0).stamp = 'earlier'))")
    save = bar(page).get_by_role("button", name="Save script")
    save.click()
    expect(page.get_by_role("alert")).to_contain_text("embedded again")
    with page.expect_download():
        save.click()
    expect(bar(page)).to_contain_text("Saved for 1 file")


@pytest.mark.parametrize("scheme, rules", [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_axe_finds_nothing_in_a_selection(opened, tidy_site, scheme, rules):
    url, _ = tidy_site
    page = opened("duplicates", at=url, color_scheme=scheme, height=2000)
    group = page.locator(".group").first
    for tile in group.locator(".tile").all():
        box(tile).click()
    for step in ("selected", "saved"):
        found = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
        grave = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
        assert not grave, (step, grave)
        with page.expect_download():
            bar(page).get_by_role("button", name="Save script").click()
        expect(bar(page).get_by_text("have no copy that stays")).to_be_visible()


@pytest.mark.parametrize("width, height", ((320, 568), (390, 844), (844, 390), (1280, 800)))
def test_the_bar_fits_and_leaves_room(opened, tidy_site, width, height):
    url, _ = tidy_site
    page = opened("duplicates", at=url, width=width, height=height)
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(bar(page).get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Tab")
    expect(bar(page).get_by_role("button", name="Save script")).to_be_focused()
    for step in ("selected", "saved"):
        place = bar(page).bounding_box()
        assert place["y"] + place["height"] <= height + 0.5 and place["height"] < 0.65 * height, (step, place)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        with page.expect_download():
            bar(page).get_by_role("button", name="Save script").click()
        expect(bar(page)).to_contain_text("Saved for 72 files")
