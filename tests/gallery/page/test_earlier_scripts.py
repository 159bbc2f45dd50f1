"""The list of earlier scripts: which ones it keeps, how one leaves it, and how the bar's buttons are reached by keyboard."""

import re

from copies_on_page import bar, box, look_again, press, run, save
from playwright.sync_api import expect

from browser import settled, tiles


def earlier(page):
    return page.locator("details.scripts")


def save_again(page, folder):
    page.wait_for_timeout(1000)  # the name of a script holds the second
    return save(page, folder)


def test_a_script_stays_listed_when_a_later_one_has_its_files_and_is_removed_by_hand(opened, tidy_site, tmp_path):
    page = opened("duplicates?sort=name", at=tidy_site[0])
    page.watch.expected = ["404"]
    names = []
    for place in (1, 2, 3):
        box(tiles(page).nth(place)).click()
        expect(bar(page)).to_contain_text(f"{place} selected")
        names.append(save_again(page, tmp_path).name)
    expect(earlier(page).locator("summary")).to_have_text("Earlier scripts: 2")
    lines = earlier(page).locator("p")
    for line, name in zip((lines.nth(0), lines.nth(1)), names[1::-1]):
        expect(line).to_contain_text(f"{name}.zip: a later script has all its files. sh {name}/tidy-undo.sh")
    expect(earlier(page)).not_to_contain_text("tidy.sh")
    page.reload()
    settled(page)
    expect(earlier(page).locator("summary")).to_have_text("Earlier scripts: 2")
    remove = lambda name: earlier(page).get_by_role("button", name=f"Remove from this list: {name}")
    remove(names[0]).click()
    expect(earlier(page).locator("summary")).to_have_text("Earlier scripts: 1")
    expect(earlier(page).locator("summary")).to_be_focused()
    expect(earlier(page)).not_to_contain_text(names[0])
    press(page, "Clear")
    press(page, "Close")
    run(tmp_path / names[2] / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("3 of 3 files were moved to")
    bar(page).get_by_role("button", name=f"Close the note on {names[2]}").click()
    expect(earlier(page)).to_contain_text("3 of 3 files were moved to")
    expect(remove(names[2])).to_have_count(0)  # its way back would be lost
    run(tmp_path / names[2] / "tidy-undo.sh")
    look_again(page)
    expect(earlier(page)).to_contain_text("All 3 files are back where they were.")
    remove(names[2]).click()
    remove(names[1]).click()
    expect(earlier(page)).to_be_hidden()
    expect(page.locator("h1")).to_be_focused()
    page.context.close()


def test_a_long_list_is_closed_at_first(opened, tidy_site, tmp_path):
    page = opened("duplicates?sort=name", at=tidy_site[0])
    for place in (1, 2, 3, 5):
        box(tiles(page).nth(place)).click()
        save_again(page, tmp_path)
        if place == 3:
            expect(earlier(page).locator("p").first).to_be_visible()
    expect(earlier(page).locator("summary")).to_have_text("Earlier scripts: 3")
    expect(earlier(page).locator("p").first).to_be_hidden()
    earlier(page).locator("summary").click()
    expect(earlier(page).locator("p").first).to_be_visible()


def test_keys_reach_the_buttons_in_the_order_of_the_screen(opened, tidy_site, tmp_path):
    page = opened("duplicates", at=tidy_site[0])
    page.watch.expected = ["404"]
    page.get_by_role("button", name="of all 24 groups").click()
    expect(bar(page)).to_contain_text("72 selected")
    scripts = save(page, tmp_path)
    page.keyboard.press("b")
    expect(bar(page).get_by_role("button", name="Save script")).to_be_focused()
    tops = bar(page).get_by_role("button").evaluate_all("all => all.map((node) => node.getBoundingClientRect().top)")
    assert len(tops) > 7 and all(later > earlier - 12 for earlier, later in zip(tops, tops[1:]))
    run(scripts / "tidy.sh")
    look_again(page)
    expect(bar(page)).to_contain_text("72 of 72 files were moved to")
    page.locator("h1").focus()
    page.keyboard.press("b")
    expect(bar(page).get_by_role("button", name=re.compile("Copy sh .*tidy-undo.sh"))).to_be_focused()
    page.keyboard.press("Tab")
    expect(bar(page).get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(bar(page).get_by_role("button", name=re.compile("Copy sh"))).to_be_focused()
    page.context.close()


def test_the_steps_say_how_one_picture_comes_back(opened, tidy_site, tmp_path):
    url, photos = tidy_site
    page = opened("duplicates", at=url)
    box(tiles(page).nth(1)).click()
    save(page, tmp_path)
    words = f"To bring back one picture, move it by hand from {photos}-duplicates to where it was in your folder."
    expect(bar(page)).to_contain_text(words)
