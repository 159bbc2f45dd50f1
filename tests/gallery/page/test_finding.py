"""Searching on the page: by click, by upload, by several images; the slider; duplicates, the large view."""

import re

import pytest
from playwright.sync_api import expect
from small_gallery import HOSTILE, key_of

from browser import name_of, percents, settled, similarities, tiles


def test_start_shows_the_groups(opened):
    page = opened()
    assert re.fullmatch(r"77 images in \d+ groups", page.locator("h1").inner_text())
    assert page.title().endswith("My photos")
    cards = page.locator(".card")
    assert sum(int(text.split()[0]) for text in cards.locator(".size").all_inner_texts()) == 77
    assert cards.first.locator("img").count() == 4
    names = cards.locator(".name").all_inner_texts()
    assert len(set(names)) == len(names) and any(re.fullmatch(r"class \d( \(2\))?", name) for name in names)
    cards.first.locator("a").click()
    settled(page)
    assert page.locator("h1").inner_text() == names[0]
    assert tiles(page).count() == int(page.locator(".line").inner_text().split()[0])


def test_tiles_show_the_folder_where_names_repeat(opened, site, photos):
    page = opened()
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}")
    settled(page)
    page.locator(".more").scroll_into_view_if_needed()
    expect(page.locator("main .tile")).to_have_count(76)
    for tile in page.locator("main .tile").all():
        (path, does), shown = (
            tile.locator("a").get_attribute("title").split("\n"),
            tile.locator(".where").all_text_contents(),
        )
        assert does == "Find images like this"
        folder, _, name = path.rpartition("/")
        last = folder.rpartition("/")[2]
        repeats = folder and len(list(photos.rglob(name))) > 1
        again = repeats and len(list(photos.rglob(f"{last}/{name}"))) > 1  # train/class 0 and test/class 0
        assert shown == ([f" in {folder if again else last}"] if repeats else []), path


def test_the_numbers_of_a_row_stand_in_line_whether_a_folder_is_shown_or_not(opened, photos):
    page = opened(f"search?image={key_of(photos / 'creature (large).jpg')}")
    rows = {}  # top of a row -> tops of its numbers, and whether its tiles show a folder
    for tile in tiles(page).all():
        top = tile.locator(".meter").bounding_box()["y"]
        rows.setdefault(tile.bounding_box()["y"], []).append((round(top), tile.locator(".where").count()))
    assert any(len({folder for _, folder in row}) == 2 for row in rows.values())
    assert all(len({top for top, _ in row}) == 1 for row in rows.values()), rows


def test_a_click_finds_neighbours_and_its_own_copies_first(opened, site, photos):
    page = opened("group?id=0")
    key = key_of(photos / "copy of 0.jpg")
    page.goto(f"{site}#/search?image={key}")
    settled(page)
    first = [name_of(tiles(page).nth(i)) for i in range(2)]
    assert set(first) == {"0.jpg", "another copy of 0.jpg"}
    found = similarities(page)
    assert found[:2] == [1, 1]  # the others follow in the order of their smoothed rows, which need not fall
    assert len(found) > 2 and found[-1] < found[2]
    clicked = name_of(tiles(page).nth(4))
    tiles(page).nth(4).locator("a").click()
    expect(page.locator("h1")).to_have_text(f"Images like {clicked}")
    expect(page.locator("h1")).to_be_focused()
    expect(page.locator("#status")).to_have_text(f"Images like {clicked}: 60 images found")
    page.locator(".more").scroll_into_view_if_needed()
    expect(page.locator("main .tile")).to_have_count(76)


def test_upload_drop_and_paste(opened, photos):
    page = opened()
    file = photos / "creature.png"
    page.locator("#file").set_input_files(file)
    expect(page.locator("h1")).to_have_text("Images like creature.png")
    settled(page)
    assert name_of(tiles(page).first) == "creature.png" and similarities(page)[0] == 1
    for event, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        send = """([event, field, bytes, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            const make = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(new make(event, { [field]: data, bubbles: true, cancelable: true }));
        }"""
        page.evaluate(send, [event, field, list(file.read_bytes()), f"{event}.png"])
        expect(page.locator("h1")).to_have_text(f"Images like {event}.png")
        settled(page)
        assert name_of(tiles(page).first) == "creature.png"


def test_a_broken_upload_gets_a_sentence(opened):
    page = opened()
    page.watch.expected = ["415"]
    page.locator("#file").set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(page.get_by_role("alert")).to_contain_text("image")
    assert page.locator(".card").count()  # the previous results stay
    page.get_by_role("button", name="Close this message").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.evaluate("document.dispatchEvent(new DragEvent('dragenter', {dataTransfer: new DataTransfer()}))")
    expect(page.locator("#drop")).to_be_hidden()  # a drag without files is ignored


def test_several_images_as_one_query(opened):
    page = opened("group?id=0")
    tiles(page).first.locator("a").click()
    settled(page)
    second = name_of(tiles(page).nth(1))
    tiles(page).nth(1).hover()
    tiles(page).nth(1).get_by_role("button", name="to the query").click()
    expect(page.locator("h1")).to_have_text("Images like these 2")
    settled(page)
    expect(page.locator(".chip")).to_have_count(2)
    assert second not in page.locator("main .tile .name").all_inner_texts()[:1] or page.url.count("image=") == 2
    page.get_by_role("link", name=f"Remove {second} from the query").click()
    expect(page.locator(".chip")).to_have_count(1)
    page.locator(".chip .round").click()
    expect(page.locator("h1")).to_contain_text("groups")


def test_threshold_hides_what_is_less_similar(opened):
    page = opened("group?id=0")
    tiles(page).first.locator("a").click()
    settled(page)
    every = percents(page)
    slider = page.get_by_label("At least this similar")
    assert page.locator(".tools .line").inner_text() == "first 60 of 76"
    expect(page.locator(".tools output")).to_have_text("no limit")
    least = every[20]
    slider.fill(str(least))
    expect(page.locator(".tools output")).to_have_text(f"more similar than {least} % of neighbours here")
    expect(page.locator("main .tile .meter").first).to_have_attribute("title", re.compile(r"each picture .+\n.+ of 1: "))
    left = percents(page)
    assert left == [percent for percent in every if percent >= least] and 0 < len(left) < len(every)
    assert page.locator(".tools .line").inner_text() == f"{len(left)} of 76"
    page.reload()  # the slider's value is part of the address
    settled(page)
    assert percents(page) == left
    if every[0] < 100:
        slider.fill("100")
        expect(page.get_by_text("Nothing is that similar.")).to_be_visible()
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("main .tile:visible")).to_have_count(60)
    page.locator(".more").scroll_into_view_if_needed()
    expect(page.locator(".tools .line")).to_have_text("all 76")


def test_it_is_said_when_nothing_is_like_the_query(opened, site, photos):
    page = opened()
    remark = page.locator(".remark", has_text="Nothing in this folder seems to be like it.")
    for query in (f"image={key_of(photos / 'creature.png')}", f"image={key_of(photos / 'creature.png')}&g=all"):
        page.goto(f"{site}#/search?{query}")
        settled(page)
        expect(page.locator(".remark:visible")).to_have_count(0)

    def unlike(route):
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "nothing_like_it": True})

    page.route("**/api/1/search?*", unlike)
    page.reload()
    settled(page)
    expect(page.locator(".column").nth(0).locator(".remark")).to_be_hidden()
    expect(page.locator(".column").nth(1).locator(".remark")).to_be_visible()
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}&g=1")
    settled(page)
    expect(remark).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Nothing in this folder seems to be like it.")
    assert tiles(page).count() == 60  # the nearest are shown all the same


def test_a_hostile_name_is_only_text(opened, site, photos):
    page = opened()
    key = key_of(photos / HOSTILE)
    page.goto(f"{site}#/search?image={key}")
    settled(page)
    expect(page.locator("h1")).to_have_text(f"Images like {HOSTILE}")
    expect(page.locator(".chip .name")).to_have_text(HOSTILE)
    page.locator(".chip .look").click()
    expect(page.locator("dialog h2")).to_have_text(HOSTILE)
    assert page.locator("[onerror], img[src=x]").count() == 0  # Watch would also have reported a dialog


def test_duplicates(opened, site):
    page = opened("duplicates?kind=identical")
    groups = page.locator(".groups > .group")
    shown = [sorted(group.locator(".name").all_inner_texts()) for group in groups.all()]
    assert sorted(shown) == sorted(
        [["copy of 0.jpg", "test/another copy of 0.jpg", "train/class 0/0.jpg"], [HOSTILE, "train/class 1/1.jpg"]]
    )
    assert groups.locator(".tile a").first.get_attribute("title").endswith("\nShow large")
    page.get_by_role("link", name="Near copies").click()
    settled(page)
    creatures = groups.filter(has_text="creature.png")
    assert sorted(creatures.locator(".name").all_inner_texts()) == ["creature (large).jpg", "creature.png"]
    creatures.get_by_role("button", name="These are not duplicates").click()
    expect(page.get_by_text("Remembered")).to_be_focused()
    page.reload()
    settled(page)
    expect(groups.filter(has_text="creature.png")).to_have_count(0)
    page.get_by_role("link", name="Look-alikes").click()
    settled(page)
    some = page.locator(".line").first.inner_text()
    page.get_by_label("At least this similar").fill("0.3")
    expect(page.locator(".line").first).not_to_have_text(some)
    assert "threshold=0.3" in page.url
    expect(page.locator("output[for=threshold]")).to_have_text("0.30 of 1")
    expect(page.locator(".group h2").first).to_contain_text(re.compile(r"similarity 0\.\d\d of 1"))


def test_large_view(opened):
    page = opened("group?id=0")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = tiles(page).first.locator("a")
    link.focus()
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog")
    first = dialog.locator("h2").inner_text()
    assert first == name_of(tiles(page).first)
    path = dialog.locator(".path").inner_text()
    assert path.endswith(first)
    dialog.get_by_role("button", name="Copy path").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").endswith(path)
    page.keyboard.press("ArrowRight")
    second = name_of(tiles(page).nth(1))
    expect(dialog.locator("h2")).to_have_text(second)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(tiles(page).nth(1).locator("a")).to_be_focused()
    page.keyboard.press("Space")
    dialog.get_by_role("link", name="Find similar").click()
    expect(page.locator("h1")).to_have_text(f"Images like {second}")


@pytest.mark.parametrize("least", ("101", "1e1", "0.5", "-1", "x", "5x"))
def test_a_threshold_that_makes_no_sense_is_ignored(opened, site, photos, least):
    page = opened()
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}&least={least}")
    settled(page)
    assert tiles(page).count() == 60 and page.locator(".tools output").inner_text() == "no limit"


def test_the_threshold_stays_while_the_query_changes(opened, site, photos):
    page = opened()
    page.goto(f"{site}#/search?image={key_of(photos / 'copy of 0.jpg')}&least=10")
    settled(page)
    tiles(page).nth(1).locator("a").focus()
    page.keyboard.press("+")
    expect(page.locator("h1")).to_have_text("Images like these 2")
    settled(page)
    assert "least=10" in page.url
    page.locator(".chip .round").first.click()
    expect(page.locator(".chip")).to_have_count(1)
    assert "least=10" in page.url
    page.locator(".chips [data-pick=add]").click()
    page.locator("#file").set_input_files(photos / "creature.png")
    expect(page.locator("h1")).to_have_text("Images like these 2")
    settled(page)
    assert "least=10" in page.url and page.locator(".tools output").inner_text().startswith("more similar than 10 %")
    tiles(page).first.locator("a").click()  # another query begins without it
    expect(page.locator(".chip")).to_have_count(1)
    assert "least" not in page.url


@pytest.mark.parametrize("side_by_side", ("", "&g=all"))
def test_after_a_restart_an_upload_is_sent_again(opened, photos, side_by_side):
    page = opened()
    page.watch.expected = ["410"]
    page.locator("#file").set_input_files(photos / "creature.png")
    expect(page.locator("h1")).to_have_text("Images like creature.png")
    settled(page)
    token = page.url.partition("upload=")[2]
    forgotten = {"status": 410, "json": {"error": "This picture is not kept any more. Send it again."}}
    page.route(f"**/*{token}*", lambda route: route.fulfill(**forgotten))
    page.goto(f"{page.url}&image={key_of(photos / 'copy of 0.jpg')}{side_by_side}")
    expect(page.locator("h1")).to_have_text("Images like these 2")
    settled(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".chip")).to_have_count(2)
    assert token not in page.url and tiles(page).count() == (120 if side_by_side else 60)
    page.reload()  # it forgets the file, so the user has to send it again
    settled(page)
    token = page.url.partition("upload=")[2].partition("&")[0]
    page.route(f"**/*{token}*", lambda route: route.fulfill(**forgotten))
    page.reload()
    expect(page.get_by_role("alert").first).to_contain_text("Send it again")
