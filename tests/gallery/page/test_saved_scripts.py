"""The note on saved scripts, and the selection: after a reload, after changes, while files move."""

import re
import subprocess
import zipfile

import pytest
from copies_on_page import bar, box, look_again, selected
from playwright.sync_api import expect
from small_gallery import embedding, write

from browser import served, settled, tiles, until
from gallery.page.app import create_app


def save(page):
    """Save the script, and return its name without its ending."""
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save script").click()
    return download.value.suggested_filename.removesuffix(".zip"), download.value


def reload(page):
    page.reload()
    settled(page)


def test_selection_and_note_outlast_a_reload_until_they_are_closed(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    box(tiles(page).nth(2)).click()
    head = "71 selected, "
    expect(bar(page)).to_contain_text(head)
    before, line = selected(page), bar(page).locator(".chosen").inner_text()
    reload(page)  # the browser asks nothing
    expect(bar(page).locator(".chosen")).to_have_text(line)  # with the bytes, and what was left out by hand
    assert selected(page) == before
    name, _ = save(page)
    reload(page)
    expect(bar(page)).to_contain_text(f"sh {name}/tidy-undo.sh")
    bar(page).get_by_role("button", name="Copy paths").click()
    expect(bar(page).get_by_role("button", name="Copied")).to_be_visible()
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(paths) == 71 and all(path.startswith(f"{photos}/") for path in paths)
    kept = page.evaluate("JSON.stringify({ ...sessionStorage })")
    assert name in kept and ".jpg" not in kept  # keys of images, no path of one
    bar(page).get_by_role("button", name="Clear").click()
    reload(page)
    expect(bar(page)).to_contain_text("Nothing is selected now")
    expect(bar(page)).to_contain_text(f"sh {name}/tidy-undo.sh")
    bar(page).get_by_role("button", name="Close").click()
    reload(page)
    expect(bar(page)).to_be_hidden()


def test_another_gallery_at_the_address_finds_no_selection(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    save(page)
    other = write(tmp_path / "other gallery", "another", photos, embedding(1))
    with served(create_app([other], ["127.0.0.1"])) as second:
        kept = page.evaluate("JSON.stringify(sessionStorage)")
        page.watch.host = second.split("/")[2]
        page.goto(f"{second}#/duplicates")
        page.evaluate("(kept) => Object.assign(sessionStorage, JSON.parse(kept))", kept)
        reload(page)
        expect(bar(page)).to_be_hidden()


def test_where_nothing_can_be_kept_the_browser_asks(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["dialog"]  # which is answered with "stay"
    page.evaluate("void (Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); })")
    box(tiles(page).nth(1)).click()
    with page.expect_event("dialog") as asked:
        page.evaluate("void setTimeout(() => location.reload())")
    assert asked.value.type == "beforeunload"
    expect(bar(page)).to_contain_text("1 selected")
    bar(page).get_by_role("button", name="Clear").click()
    page.watch.expected = []
    reload(page)  # nothing is selected, and nothing asked


def test_a_changed_selection_is_not_in_the_saved_script(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    name, _ = save(page)
    again = bar(page).get_by_role("button", name="Save script")
    expect(again).to_have_text("Save script")
    expect(again).not_to_have_class(re.compile("primary"))
    for change in range(2):  # one less, and another one instead
        box(tiles(page).nth(1 - change)).click()
        expect(bar(page)).to_contain_text(f"{name}.zip holds the earlier 72 files. The selection has changed since")
        expect(bar(page)).not_to_contain_text("Saved:")
        expect(again).to_have_text("Save script again")
        expect(again).to_have_class(re.compile("primary"))
    box(tiles(page).nth(0)).click()
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text(f"Saved: {name}.zip")
    expect(again).not_to_have_class(re.compile("primary"))
    box(tiles(page).nth(1)).click()
    page.wait_for_timeout(1000)  # the name holds the second
    later, _ = save(page)
    assert later != name
    expect(bar(page)).to_contain_text("Saved for 71 files")


def test_commands_are_copied(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    box(tiles(page).nth(1)).click()
    name, _ = save(page)
    for look in ("in steps", "in short"):
        expect(bar(page).locator("ol")).to_have_count(1 if look == "in steps" else 0)
        for script in ("tidy.sh", "tidy-undo.sh"):
            page.evaluate("navigator.clipboard.writeText('')")
            bar(page).get_by_role("button", name=f"Copy sh {name}/{script}").click()
            expect(bar(page).get_by_text("Copied")).not_to_have_count(0)
            assert page.evaluate("navigator.clipboard.readText()") == f"sh {name}/{script}"
        for _ in range(2):  # in between the script is out of date
            box(tiles(page).nth(2)).click()


def test_the_page_tells_soon_what_the_scripts_did(opened, tidy_site, tmp_path):
    """Here it is not looked at, and nobody comes back to it: it looks by itself every 2 s."""
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    page.evaluate(
        "window.pauses = []; const wait = setTimeout;"
        "void (window.setTimeout = (act, pause) => { pauses.push(pause); return wait(act, pause); })"
    )
    name, download = save(page)
    until(page, "pauses.filter((pause) => pause === 2000).length > 1")  # two looks; else the next one comes after 20 s
    assert 20_000 not in page.evaluate("pauses")
    download.save_as(tmp_path / "it.zip")
    with zipfile.ZipFile(tmp_path / "it.zip") as zipped:
        zipped.extractall(tmp_path)

    def run(script):
        subprocess.run(["sh", tmp_path / name / script], input=b"y\n", stdout=-1, check=True, timeout=60)

    run("tidy.sh")
    expect(bar(page)).to_contain_text("72 of 72 files were moved to")
    expect(bar(page)).to_contain_text("To bring back one picture, move it by hand from")
    run("tidy-undo.sh")
    expect(bar(page).locator(".news")).to_have_text("All 72 files are back where they were.")
    assert len(list(photos.rglob("*.jpg"))) == 96
    page.context.close()


def test_what_has_no_copy_that_stays_is_named_and_marked(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    group = page.locator(".group").first
    names = group.locator(".name").all_inner_texts()
    for tile in group.locator(".tile").all():
        box(tile).click()
    box(page.locator(".group").nth(1).locator(".tile").nth(1)).click()
    expect(page.locator(".tile.alone")).to_have_count(0)
    save(page)
    warning = bar(page).locator(".note .warning")
    expect(warning).to_contain_text("4 of them have no copy that stays: ")
    expect(warning).to_contain_text(" and 1 more.")
    assert sum(name in warning.inner_text() for name in names) == 3
    expect(group.locator(".tile.alone")).to_have_count(4)
    expect(page.locator(".tile.alone")).to_have_count(4)
    box(group.locator(".tile").first).click()
    expect(page.locator(".tile.alone")).to_have_count(0)


def test_what_has_no_copy_that_stays_is_told_as_long_as_the_script_may_run(opened, tidy_site):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    group = page.locator(".group").first
    name = group.locator(".name").first.inner_text()
    for tile in [*group.locator(".tile").all(), tiles(page).nth(5)]:
        box(tile).click()
    save(page)
    words = "4 of them had no copy that stays, when this was saved"
    reload(page)
    expect(bar(page)).to_contain_text(f"{words}: {name}, ")
    expect(bar(page)).to_contain_text("and 1 more.")
    expect(group.locator(".tile.alone")).to_have_count(4)
    (photos / tiles(page).nth(5).locator(".name").inner_text()).unlink()
    look_again(page)
    expect(bar(page)).to_contain_text("1 file is gone, but not moved by a script.")
    expect(bar(page)).to_contain_text(f"{words}: {name}, ")
    bar(page).get_by_role("button", name="Clear").click()
    expect(bar(page)).to_contain_text(f"{words}.")
    expect(page.locator(".tile.alone")).to_have_count(4)
    bar(page).get_by_role("button", name="Close").click()
    expect(page.locator(".tile.alone")).to_have_count(0)
    page.context.close()


@pytest.mark.parametrize("is_reloaded", (False, True))  # then the items do not come from the duplicates
def test_what_is_taken_out_on_the_map_is_left_out_among_the_duplicates(opened, tidy_site, is_reloaded):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    every = page.get_by_role("button", name="of all 24 groups")
    every.click()
    expect(bar(page)).to_contain_text("72 selected")
    if is_reloaded:
        reload(page)
    page.get_by_role("link", name="Map").click()
    settled(page)
    box(tiles(page).first).click()
    expect(bar(page)).to_contain_text("71 selected")
    page.get_by_role("link", name="Duplicates", exact=True).click()
    settled(page)
    every.click()
    expect(every).to_be_enabled()
    expect(bar(page)).to_contain_text("71 selected")
    expect(bar(page)).to_contain_text("You left out 1")


def test_only_what_would_go_is_left_out_by_hand(opened, tidy_site):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.get_by_role("button", name="of all 24 groups").click()
    best = tiles(page).first
    for _ in range(2):
        box(best).click()
    expect(bar(page)).to_contain_text("72 selected")
    expect(bar(page)).not_to_contain_text("left out")
    box(tiles(page).nth(1)).click()
    expect(bar(page)).to_contain_text("You left out 1")
    look_again(page)
    expect(bar(page)).to_contain_text("You left out 1")
