"""The map in the browser: moving and zooming it, names and groups, selecting a region, every size of window."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from browser import settled, tiles, until


def test_map(opened):
    page = opened("map")
    frame, pins = page.locator(".frame"), page.locator(".pin")
    pins.first.wait_for()
    painted = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("canvas").evaluate(painted)
    before = pins.count()
    box = frame.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    expect(frame).to_have_attribute("data-zoom", re.compile(r"^1\.[5-9]"))
    page.get_by_role("button", name="Show the whole map").click()
    expect(pins).to_have_count(before)
    frame.focus()
    page.keyboard.press("+")
    expect(frame).to_have_attribute("data-zoom", "1.50")
    place = pins.first.get_attribute("style")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(pins.first).not_to_have_attribute("style", place)
    hash_before = page.evaluate("location.hash")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 30, steps=4)
    page.mouse.up()
    assert page.evaluate("location.hash") == hash_before  # a drag does not count as a click
    page.keyboard.press("0")
    expect(frame).to_have_attribute("data-zoom", "1.00")
    pins.last.focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Images like")
    page.go_back()
    expect(frame).to_have_attribute("data-zoom", "1.00")


def test_two_fingers_zoom_the_map(opened):
    page = opened("map", width=390, has_touch=True, is_mobile=True)
    page.locator(".pin").first.wait_for()
    box = page.locator(".frame").bounding_box()
    middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    page.context.new_cdp_session(page).send(
        "Input.synthesizePinchGesture", {**middle, "scaleFactor": 2, "gestureSourceType": "touch"}
    )
    expect(page.locator(".frame")).to_have_attribute("data-zoom", re.compile(r"^[12]\.[1-9]"))
    assert "search" not in page.url


def test_thumbnails_of_the_map_keep_their_distance(opened):
    """Compare with all pairs: no two are too close, none that would fit is missing, none disappears at the next level."""
    page, rng = opened(), np.random.default_rng(0)
    x, y = (rng.random((2, 300)) ** 2 * [[900], [500]]).round(1)
    ask = "async ([x, y]) => { const { levels } = await import('/static/thin.js'); return [0, 3, 9].map(levels(x, y).at); }"
    before = set()
    for level, rows in zip((0, 3, 9), page.evaluate(ask, [x.tolist(), y.tolist()])):
        gap = 72 * min(2, 2 ** (level / 8)) / 2 ** (level / 2)
        apart = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))
        assert (apart[np.ix_(rows, rows)] + 1e9 * np.eye(len(rows)) >= gap).all()
        assert (apart[:, rows].min(1) < gap).all()
        assert before <= set(rows)
        before = set(rows)
    assert 0 < len(before) < 300


# ---- names and groups ------------------------------------------------------------------------------------------------


def on_map(opened, **settings):
    page = opened("map", **settings)
    page.locator(".pin").first.wait_for()
    return page


def api(page, path):
    return page.evaluate("path => fetch(`/api/0/${path}`).then((answer) => answer.json())", path)


def dots(page):
    """Return (x, y, key, group) of each dot at a zoom of 1, in pixels of the window."""
    places, box = api(page, "map"), page.locator(".frame").evaluate("f => [f.clientWidth, f.clientHeight]")
    frame = page.locator(".frame").bounding_box()
    at = lambda share, side, start: start + 1 + 40 + share * (box[side] - 80)
    return [
        (at(x, 0, frame["x"]), at(y, 1, frame["y"]), key, group)
        for x, y, key, group in zip(*(places[name] for name in ("x", "y", "keys", "cluster")))
    ]


def test_an_image_on_the_map_has_its_name_and_its_group(opened):
    page = on_map(opened)
    names = {group["id"]: group["name"] for group in api(page, "clusters?count=500")["clusters"]}
    members = {id: api(page, f"clusters/{id}?count=500")["items"] for id in names}
    item_of = {item["key"]: (item, names[id]) for id, items in members.items() for item in items}
    pins = page.locator(".pin")
    until(page, "[...document.querySelectorAll('.pin')].every((pin) => !/^Image \\d/.test(pin.ariaLabel))")
    for pin in pins.all()[:8]:
        item, group = item_of[pin.get_attribute("href").split("=")[-1]]
        name = f"{item['name']} in {item['folder']}" if "folder" in item else item["name"]
        called = group if group.startswith("Group ") else f"group {group}"
        expect(pin).to_have_attribute("aria-label", f"{name}, {called}")
        pin.hover()
        expect(page.locator(".hover .name")).to_have_text(name)
        expect(page.locator(".hover .of")).to_have_text(group)
    colour = "(pin) => getComputedStyle(pin).borderTopColor"
    swatch = "() => getComputedStyle(document.querySelector('.hover .swatch')).backgroundColor"
    assert pin.evaluate(colour) == page.evaluate(swatch)
    covered = [pin.bounding_box() for pin in pins.all()]
    free = lambda x, y: (
        not any(b["x"] - 20 < x < b["x"] + b["width"] + 20 and b["y"] - 20 < y < b["y"] + b["height"] + 20 for b in covered)
    )
    page.mouse.move(5, 5)
    expect(page.locator(".hover")).to_be_hidden()
    expect(page.locator(".hover")).to_contain_text("Click: find images like this")
    for x, y, *_ in [dot for dot in dots(page) if free(*dot[:2])][:3]:
        page.mouse.move(x, y)
        expect(page.locator(".hover")).to_be_visible()
    pins.first.focus()
    page.keyboard.press("Tab")  # a focus that was moved by keys
    expect(page.locator(".hover .name")).to_contain_text(
        item_of[pins.nth(1).get_attribute("href").split("=")[-1]][0]["name"]
    )


def test_the_dots_ask_for_their_names_as_they_are_shown(opened):
    page = opened()
    asked = []
    page.on(
        "request", lambda request: asked.append(len(request.post_data_json["keys"])) if "/items" in request.url else None
    )
    page.get_by_role("link", name="Map").click()
    settled(page)
    until(page, "document.querySelector('.pin') && !document.querySelector('.pin[aria-label^=Image]')")
    assert sum(asked) <= page.locator(".pin").count() < 77  # and not for all images of the map


def test_a_group_of_the_legend_stands_out(opened):
    page = on_map(opened)
    total, groups = api(page, "clusters")["total"], api(page, "clusters?count=500")["clusters"]
    chips = page.get_by_role("list", name="Groups by colour").get_by_role("button")
    expect(chips).to_have_count(min(8, total))
    for chip, group in zip(chips.all(), groups):
        assert chip.inner_text().split("\n") == [group["name"], str(group["size"])]
    before = page.locator(".pin").count()
    chips.nth(1).focus()
    page.keyboard.press("Enter")
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".view > .head .line")).to_contain_text(f"{groups[1]['name']}: {groups[1]['size']} images")
    members = {item["key"] for item in api(page, f"clusters/{groups[1]['id']}?count=500")["items"]}
    until(page, f"document.querySelectorAll('.pin').length <= {len(members)}")
    assert {pin.get_attribute("href").split("=")[-1] for pin in page.locator(".pin").all()} <= members
    chips.nth(0).click()  # another one
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "false")
    chips.nth(0).click()  # and none
    expect(chips.nth(0)).to_have_attribute("aria-pressed", "false")
    chips.nth(0).click()
    page.get_by_role("button", name="Show all").click()
    expect(chips.nth(0)).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".view > .head .line")).to_contain_text("77 images")
    expect(page.locator(".pin")).to_have_count(before)
    chips.nth(1).click()
    page.get_by_role("link", name="Open this group").click()
    expect(page.locator("h1")).to_have_text(groups[1]["name"])


def test_many_groups_are_shown_when_asked_for(opened):
    page = on_map(opened)  # so that the map is made
    page.get_by_role("link", name="Groups", exact=True).click()
    settled(page)

    def many(route):
        answer = route.fetch().json()
        answer["groups"] = [{"id": i, "name": f"2022 summer and autumn/garden {i}", "size": 300 - i} for i in range(200)]
        route.fulfill(json=answer)

    page.route("**/api/0/map?*", many)
    page.get_by_role("link", name="Map").click()
    settled(page)
    chips = page.locator(".legend li button:visible")
    expect(chips).to_have_count(8)
    assert chips.nth(3).locator(".name").inner_text() == "2022 su…umn/garden 3"  # the ends differ
    expect(chips.nth(3)).to_have_attribute("title", "2022 summer and autumn/garden 3")
    expect(chips.nth(3)).to_have_attribute("aria-label", "2022 summer and autumn/garden 3, 297")
    cut = "names => names.filter((name) => name.scrollWidth > name.clientWidth).length"
    assert chips.locator(".name").evaluate_all(cut) == 0
    every = page.get_by_role("button", name="All 200 groups")
    every.focus()
    page.keyboard.press("Enter")
    expect(chips).to_have_count(200)
    legend = page.locator(".legend").bounding_box()
    assert legend["height"] < 300  # its list scrolls, and leaves room for the map
    close = page.get_by_role("button", name="Fewer groups").bounding_box()
    assert close["y"] + close["height"] <= legend["y"] + legend["height"]  # without scrolling
    edge = page.locator(".legend ul").evaluate("list => list.getBoundingClientRect().bottom")
    sides = chips.evaluate_all("all => all.map((chip) => chip.getBoundingClientRect()).map((box) => [box.top, box.bottom])")
    assert all(top >= edge or bottom <= edge for top, bottom in sides)  # no row is cut
    chips.nth(150).click()
    page.get_by_role("button", name="Fewer groups").click()
    expect(chips).to_have_count(9)  # the chosen one stays
    expect(chips.last).to_have_attribute("aria-pressed", "true")


# ---- selecting -------------------------------------------------------------------------------------------------------


def bar(page):
    return page.get_by_role("region", name="Selection")


def selected(page):
    return set(page.evaluate("import('/static/select.js').then(({ selection }) => [...selection(0).items.keys()])"))


def half(page):
    """Return the corners of a rectangle around the left half of the map, and the keys in it."""
    frame = page.locator(".frame").bounding_box()
    left, top, width, height = (frame[name] for name in ("x", "y", "width", "height"))
    corners = (left + 20, top + 20), (left + width / 2, top + height - 20)  # its corners are round
    return corners, {key for x, _, key, _ in dots(page) if x < left + width / 2}


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_shift_and_drag_selects_a_region(opened):
    page = on_map(opened)
    corners, inside = half(page)
    assert 0 < len(inside) < 77
    page.keyboard.down("Shift")
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=4)
    expect(page.locator(".rectangle")).to_be_visible()
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(bar(page)).to_contain_text(f"{len(inside)} selected, ")
    expect(page.locator(".rectangle")).to_be_hidden()
    assert selected(page) == inside
    assert page.locator(".frame").get_attribute("data-zoom") in (None, "1.00")
    for pin in page.locator(".pin").all():
        marked = pin.get_attribute("href").split("=")[-1] in inside
        assert ("marked" in pin.get_attribute("class")) == pin.get_attribute("aria-label").endswith(", selected") == marked
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save list").click()
    assert len(open(download.value.path()).readlines()) == len(inside)
    with page.expect_download():
        bar(page).get_by_role("button", name="Save script").click()
    expect(bar(page)).to_contain_text(f"Saved for {len(inside)} files")
    expect(bar(page)).to_contain_text("have no copy that stays")
    bar(page).get_by_role("button", name="Clear").click()
    expect(page.locator(".pin.marked")).to_have_count(0)
    expect(page.locator(".picked")).to_be_hidden()


def test_a_button_lets_one_drag_select(opened):
    page = on_map(opened)
    corners, inside = half(page)
    toggle = page.get_by_role("button", name="Select a region")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    page.keyboard.down("Shift")
    drag(page, *corners)
    page.keyboard.up("Shift")
    expect(bar(page)).to_contain_text(f"{len(inside)} selected, ")
    expect(toggle).to_have_attribute("aria-pressed", "true")  # with Shift, several regions can be drawn
    bar(page).get_by_role("button", name="Clear").click()
    drag(page, *corners)
    expect(bar(page)).to_contain_text(f"{len(inside)} selected, ")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    bar(page).get_by_role("button", name="Clear").click()
    toggle.click()
    page.keyboard.press("Escape")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".at-map")).to_be_visible()
    page.keyboard.press("+")  # now a drag moves the map
    page.get_by_role("button", name="Zoom in").click()
    place = page.locator(".pin").first.get_attribute("style")
    drag(page, *corners)
    expect(page.locator(".pin").first).not_to_have_attribute("style", place)
    expect(bar(page)).to_contain_text("Nothing is selected now")


def test_a_finger_selects_a_region(opened):
    page = on_map(opened, width=390, has_touch=True, is_mobile=True)
    corners, inside = half(page)
    page.get_by_role("button", name="Select a region").tap()
    touch = page.context.new_cdp_session(page)
    at = lambda point: [{"x": point[0], "y": point[1]}]
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(corners[0])})
    for share in (0.3, 0.6, 1):
        point = [a + share * (b - a) for a, b in zip(*corners)]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(point)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(bar(page)).to_contain_text(f"{len(inside)} selected, ")
    assert selected(page) == inside


def test_what_is_in_view_is_selected_by_keyboard_and_shown(opened):
    page = on_map(opened)
    frame = page.locator(".frame")
    height = frame.bounding_box()["height"]
    frame.focus()
    for _ in range(3):
        page.keyboard.press("+")
    expect(frame).to_have_attribute("data-zoom", re.compile("^3.3"))
    in_view = page.get_by_role("button", name="Select what is in view")
    in_view.focus()
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text(" selected, ")
    count = len(selected(page))
    assert page.locator(".pin").count() <= count < 77
    assert abs(frame.bounding_box()["height"] - height) < 1  # the map keeps its place
    expect(tiles(page)).to_have_count(count)
    show = bar(page).get_by_role("button", name="Show them")
    show.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Selected images")).to_be_focused()
    page.keyboard.press("Tab")
    if page.locator(".picked .head a:visible").count():
        page.keyboard.press("Tab")
    expect(tiles(page).first.locator("a")).to_be_focused()
    page.keyboard.press("Space")
    expect(bar(page)).to_contain_text(f"{count - 1} selected")
    expect(tiles(page)).to_have_count(count)  # so that it can be ticked again
    unticked = tiles(page).first.locator("input").get_attribute("data-key")
    expect(page.locator(f".pin:not(.marked)[href*='image={unticked}']")).to_have_count(1)
    expect(page.locator(".pin:not(.marked)")).to_have_count(1)  # all others keep their mark
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    expect(bar(page)).to_contain_text(f"{count} selected")


def test_only_the_chosen_group_is_selected(opened):
    page = on_map(opened)
    chips = page.locator(".legend li button")
    chips.nth(1).click()
    size = int(chips.nth(1).locator(".size").inner_text())
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text(f"{size} selected")
    assert {group for *_, key, group in dots(page) if key in selected(page)} == {1}
    assert size <= 32  # else the next line could not be there
    page.get_by_role("link", name=f"Find images like these {size}").click()
    expect(page.locator("h1")).to_have_text(f"Images like these {size}")


def test_a_selected_image_is_unticked_in_the_large_view_and_can_be_ticked_again(opened):
    page = on_map(opened)
    page.locator(".frame").focus()
    for _ in range(5):
        page.keyboard.press("+")
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text(" selected, ")
    count = len(selected(page))
    first = tiles(page).first
    name = first.locator(".name").inner_text()
    first.locator("a").focus()
    page.keyboard.press("Enter")
    pick = page.get_by_role("dialog").get_by_role("checkbox", name="Select")
    expect(pick).to_be_checked()
    page.keyboard.press("Space")
    expect(pick).not_to_be_checked()
    expect(bar(page)).to_contain_text(f"{count - 1} selected")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show the whole map").click()
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text("76 selected")
    expect(bar(page)).to_contain_text("You left out 1")
    tiles(page).last.scroll_into_view_if_needed()  # which loads the others
    expect(tiles(page)).to_have_count(77)
    left_out = page.locator("main .tile:not(.selected)")
    expect(left_out.locator(".name")).to_have_text(name)
    left_out.get_by_role("checkbox").click()
    expect(bar(page)).to_contain_text("77 selected")


def test_a_selection_of_the_duplicates_is_marked_on_the_map(opened):
    page = opened("duplicates")
    page.locator(".group").first.get_by_role("button", name="Select all but the best").click()
    expect(bar(page)).to_contain_text(" selected, ")
    count = len(selected(page))
    page.get_by_role("link", name="Map").click()
    settled(page)
    expect(bar(page)).to_contain_text(f"{count} selected")
    expect(tiles(page)).to_have_count(count)


# ---- every size of window --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, height", ((320, 568), (390, 844), (844, 390), (1280, 800), (1920, 1080)))
def test_the_map_fits_with_its_legend(opened, width, height):
    page = on_map(opened, width=width, height=height)
    frame = page.locator(".frame").bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert frame["height"] >= 340 and frame["y"] < max(0.45 * height, 320)
    if height > 600:
        assert frame["y"] + frame["height"] <= height
    page.locator(".legend li button").nth(1).click()
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text(" selected, ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(".at-map .tools button:visible").all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width


@pytest.mark.parametrize("scheme, rules", [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
@pytest.mark.parametrize("width", (320, 390, 1280))
def test_axe_finds_nothing_on_the_map(opened, scheme, rules, width):
    page = on_map(opened, color_scheme=scheme, width=width)
    page.locator(".legend li button").nth(1).click()
    page.get_by_role("button", name="Select a region").click()
    page.get_by_role("button", name="Select what is in view").click()
    expect(bar(page)).to_contain_text(" selected, ")
    page.locator(".pin").first.hover()
    found = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
    grave = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert not grave, grave
