"""The page tells the truth about saved scripts also when someone closes the note, changes the selection, runs an earlier
script, or deletes a file by hand, and when the browser's store is damaged."""

import os
import subprocess

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from copies_on_page import bar, box, look_again, press, run, save
from playwright.sync_api import expect

from browser import settled, tiles, until

PAUSES = (
    "window.pauses = []; const wait = setTimeout;"
    "void (window.setTimeout = (act, pause) => { pauses.push(pause); return wait(act, pause); })"
)


def kept_scripts(page):
    return page.locator("main details").filter(has_text="Earlier scripts")


def test_the_commands_are_found_after_the_note_was_closed(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="of all 24 groups").click()
    expect(kept_scripts(page)).to_be_hidden()
    name = save(page, tmp_path).name
    press(page, "Clear")
    expect(kept_scripts(page)).to_be_hidden()  # the note has them
    press(page, "Close")
    expect(bar(page)).to_be_hidden()
    expect(kept_scripts(page).locator("summary")).to_be_focused()
    for words in (f"{name}.zip: not run yet", f"sh {name}/tidy.sh", f"sh {name}/tidy-undo.sh"):
        expect(kept_scripts(page)).to_contain_text(words)
    run(tmp_path / name / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("72 of 72 files were moved to")  # its note opens again where it is seen
    expect(kept_scripts(page)).to_be_hidden()
    bar(page).get_by_role("button", name=f"Close the note on {name}").click()
    expect(kept_scripts(page)).to_contain_text("72 of 72 files were moved to")
    expect(kept_scripts(page)).not_to_contain_text("tidy.sh")
    page.reload()
    settled(page)
    expect(bar(page)).to_be_hidden()
    page.evaluate("navigator.clipboard.writeText('')")
    kept_scripts(page).get_by_role("button", name=f"Copy sh {name}/tidy-undo.sh").click()
    expect(kept_scripts(page).get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"sh {name}/tidy-undo.sh"
    run(tmp_path / name / "tidy-undo.sh")
    look_again(page)
    expect(kept_scripts(page)).to_contain_text("All 72 files are back where they were.")
    page.context.close()


def test_closed_notes_are_kept_in_every_view_and_go_with_the_tab(opened, tidy_site, tmp_path):
    """The map has no list; what was closed there is found among the duplicates."""
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    name = save(page, tmp_path).name
    page.get_by_role("link", name="Map").click()
    settled(page)
    press(page, "Clear")
    press(page, "Close")
    expect(page.locator("h1")).to_be_focused()
    page.get_by_role("link", name="Duplicates", exact=True).click()
    settled(page)
    expect(kept_scripts(page)).to_contain_text(f"sh {name}/tidy-undo.sh")


def test_after_the_note_was_closed_the_page_looks_often_for_a_while(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    box(tiles(page).nth(1)).click()
    save(page, tmp_path)
    press(page, "Clear")
    press(page, "Close")
    page.evaluate(PAUSES)
    until(page, "pauses.filter((pause) => pause === 2000 || pause === 20_000).length > 2")
    assert 20_000 not in page.evaluate("pauses")
    stored = "Object.keys(sessionStorage)[0]"
    page.evaluate(  # as after five minutes in which nothing moved
        "addEventListener('pagehide', () => {"
        f"const name = {stored}; const kept = JSON.parse(sessionStorage.getItem(name));"
        "kept.older[0].calm = 150; sessionStorage.setItem(name, JSON.stringify(kept)); })"
    )
    page.add_init_script(PAUSES)
    page.reload()
    settled(page)
    until(page, "pauses.includes(20_000)")
    assert page.evaluate("pauses").count(2000) == 1  # the first look comes soon whenever the page is opened
    page.context.close()


def test_it_tells_how_many_files_have_moved_so_far_and_where_to(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    save(page, tmp_path)
    away = f"{photos}-duplicates"
    expect(bar(page)).to_contain_text(away)
    os.makedirs(away)
    for number in range(5):  # as the script does, but slower
        os.rename(photos / f"copy of {number}.jpg", f"{away}/copy of {number}.jpg")
    look_again(page)
    expect(bar(page).locator(".news")).to_have_text(f"5 of 72 files moved so far, to {away}.")
    expect(bar(page).locator(".news")).to_have_text(f"5 of 72 files were moved to {away}; 67 are still here.")
    page.context.close()


def test_a_running_script_is_not_offered_again(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    save(page, tmp_path)
    away = f"{photos}-duplicates"
    os.makedirs(away)
    for number in range(5):
        os.rename(photos / f"copy of {number}.jpg", f"{away}/copy of {number}.jpg")
    look_again(page)
    runs = bar(page).filter(has_text="so far").filter(has_not_text="tidy.sh")
    expect(runs.filter(has_text="5 of 72 files moved so far")).to_be_visible()
    expect(bar(page)).to_contain_text("moves the other 67 away")  # it seems to have ended
    for number in range(2):  # as the second script does
        os.rename(f"{away}/copy of {number}.jpg", photos / f"copy of {number}.jpg")
    look_again(page)
    expect(runs.locator(".news")).to_have_text("2 of 5 files are back so far.")
    words = f"3 of 72 files were moved to {away}; 67 are still here. 2 files are back."
    expect(bar(page).locator(".news")).to_have_text(words)
    os.rename(photos / "copy of 0.jpg", f"{away}/copy of 0.jpg")  # and once more the first one
    look_again(page)
    expect(bar(page).locator(".news")).to_have_text(f"4 of 72 files moved so far, to {away}.")
    page.context.close()


def test_what_is_back_is_told_by_one_number_though_the_page_missed_some_moves(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    save(page, tmp_path)
    for number in range(5):
        os.renames(photos / f"copy of {number}.jpg", f"{photos}-duplicates/copy of {number}.jpg")
    look_again(page)
    expect(bar(page).locator(".news")).to_contain_text("5 of 72 files")
    for number in range(5):  # after the other 67 files had moved, too, say
        os.rename(f"{photos}-duplicates/copy of {number}.jpg", photos / f"copy of {number}.jpg")
    look_again(page)
    expect(bar(page).locator(".news")).to_have_text("All 72 files are back where they were.")
    page.context.close()


def test_deselecting_is_not_undone_after_the_files_have_moved(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    scripts = save(page, tmp_path)
    press(page, "Clear")
    expect(bar(page).get_by_role("button", name="Undo deselecting")).to_be_visible()
    run(scripts / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("72 of 72 files were moved to")
    expect(bar(page).get_by_role("button", name="Undo deselecting")).to_be_hidden()
    page.context.close()


def test_a_file_that_was_deleted_is_not_said_to_be_moved(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    scripts = save(page, tmp_path)
    (photos / "copy of 3.jpg").unlink()
    look_again(page)
    expect(bar(page).locator(".news")).to_have_text("1 file is gone, but not moved by a script.")
    subprocess.run(["sh", scripts / "tidy.sh"], input=b"y\n", stdout=-1, timeout=60)
    look_again(page)
    words = f"71 of 72 files were moved to {photos}-duplicates. 1 file is gone, but not moved by a script."
    expect(bar(page).locator(".news")).to_have_text(words)
    forget = {"keys": [], "lost": [], "stamp": "of a gallery that was embedded again"}
    page.route("**/present*", lambda route: route.fulfill(json=forget))
    (photos / "2023 summer/IMG_0018.jpg").unlink()  # so that the page asks
    with page.expect_response("**/present*"):
        look_again(page)
    page.wait_for_timeout(200)
    expect(bar(page).locator(".news")).to_have_text(words)
    page.context.close()


def test_what_moved_before_a_reload_counts_as_selected(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    save(page, tmp_path)
    page.goto("about:blank")
    for number in range(5):
        os.renames(photos / f"copy of {number}.jpg", f"{photos}-duplicates/copy of {number}.jpg")
    for _ in range(2):
        page.wait_for_timeout(2100)  # the server looks at the disk at most every 2 s, and answers with what it saw before
        httpx.get(f"{url}api/galleries")
    page.goto(f"{url}#/duplicates")
    look_again(page)
    expect(bar(page).locator(".news")).to_contain_text("5 of 72 files")
    expect(bar(page).locator(".news")).not_to_contain_text("not selected")
    page.context.close()


def test_an_outdated_script_that_was_run_is_told(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    scripts = save(page, tmp_path)
    for place in (1, 2):
        box(tiles(page).nth(place)).click()
    expect(bar(page)).to_contain_text("The selection has changed since")
    run(scripts / "tidy.sh")
    look_again(page)
    news = f"72 of 72 files were moved to {photos}-duplicates; 2 of them were not selected any more."
    expect(bar(page).locator(".news")).to_have_text(news)
    run(scripts / "tidy-undo.sh")
    look_again(page)
    expect(bar(page).locator(".news")).to_have_text("All 72 files are back where they were.")
    page.context.close()


def test_an_earlier_script_that_was_run_after_a_new_one_was_saved_is_told(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    first = save(page, tmp_path)
    box(tiles(page).nth(1)).click()
    page.wait_for_timeout(1000)  # the name of a script holds the second
    second = save(page, tmp_path)
    assert first != second
    expect(bar(page)).not_to_contain_text(first.name)
    run(first / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text(f"{first.name}.zip: 72 of 72 files were moved to")
    expect(bar(page)).to_contain_text("; 1 of them was not selected any more.")
    expect(bar(page)).to_contain_text(f"sh {first.name}/tidy-undo.sh")
    page.context.close()


def test_a_script_that_was_replaced_is_not_said_to_have_run(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    first = save(page, tmp_path)
    box(tiles(page).nth(1)).click()
    page.wait_for_timeout(1000)
    second = save(page, tmp_path)
    run(second / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("71 of 71 files were moved to")
    expect(bar(page)).not_to_contain_text(first.name)
    press(page, "Close")
    expect(kept_scripts(page)).to_contain_text(second.name)
    page.context.close()


@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_the_commands_fit_into_a_narrow_window_and_axe_finds_nothing(opened, tidy_site, tmp_path, scheme):
    """The folder's path has more than 60 characters."""
    url, photos = tidy_site
    assert len(str(photos)) > 60
    page = opened("duplicates", at=url, width=320, color_scheme=scheme)
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    scripts = save(page, tmp_path)
    fits = "note => note.scrollWidth <= note.clientWidth"
    assert bar(page).locator(".note").evaluate(fits)
    run(scripts / "tidy.sh")
    look_again(page)
    expect(bar(page).locator(".news")).to_contain_text("were moved to")
    assert bar(page).locator(".note").evaluate(fits)
    press(page, "Close")
    expect(kept_scripts(page)).to_contain_text("were moved to")
    assert kept_scripts(page).locator(".note").evaluate(fits)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"] == []
    page.context.close()


def test_a_command_unpacks_the_archive(opened, tidy_site, tmp_path):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    name = save(page, tmp_path).name
    for steps in (1, 0):
        expect(bar(page).locator("ol")).to_have_count(steps)
        expect(bar(page).get_by_role("button", name=f"Copy unzip {name}.zip")).to_be_visible()
        for _ in range(2):
            box(tiles(page).nth(2)).click()


@pytest.mark.parametrize(
    "value",
    ("no JSON", "5", "[]", '"a"', '{"keys": 5}', '{"keys": [1]}', '{"out": {"a": 1}}', '{"saved": "a"}', '{"saved": {}}',
     '{"older": {}}', '{"older": [null]}', '{"older": [{"name": "a", "keys": []}]}', '{"stamp": 5, "keys": ["a"]}'),
)  # fmt: skip
def test_a_damaged_store_is_ignored(opened, tidy_site, value):
    url, _ = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    page.evaluate(
        "(value) => addEventListener('pagehide', () => sessionStorage.setItem(Object.keys(sessionStorage)[0], value))", value
    )
    page.reload()
    settled(page)
    expect(bar(page)).to_be_hidden()
    box(tiles(page).nth(2)).click()
    expect(bar(page)).to_contain_text("1 selected")
    page.reload()  # what was damaged is replaced
    settled(page)
    expect(bar(page)).to_contain_text("1 selected")
