"""Messages of the page: they stay in sight, name the files they are about, and lose nothing else."""

import pytest
from playwright.sync_api import expect
from test_sizes import inside

from browser import settled, tiles

BAD = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
DROP = """([bytes, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


@pytest.mark.parametrize("width, height", ((320, 568), (390, 844), (844, 390), (1280, 800)))
def test_a_message_is_in_sight_wherever_the_page_was_scrolled(opened, width, height):
    page = opened("group?id=0", width=width, height=height)
    page.watch.expected = ["415"]
    page.evaluate("document.querySelector('main').style.minHeight = '3000px'")
    page.evaluate("scrollTo(0, 1500)")
    page.locator("#file").set_input_files(BAD)
    message = page.get_by_role("alert")
    expect(message).to_contain_text("broken.png")
    assert inside(page, message.bounding_box())
    page.get_by_role("button", name="Close this message").click()
    expect(message).to_have_count(0)


def test_a_message_is_in_sight_above_the_large_view(opened):
    page = opened("group?id=0")
    page.watch.expected = ["415"]
    tiles(page).first.locator("a").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.evaluate(DROP, [[1, 2, 3], "pasted.png"])
    expect(page.get_by_role("alert")).to_contain_text("pasted.png")
    assert page.evaluate("""() => {
        const box = document.querySelector('#notice p').getBoundingClientRect();
        return document.elementFromPoint(box.x + 5, box.y + 5)?.closest('#notice') !== null;
    }""")
    page.get_by_role("button", name="Close this message").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.evaluate(DROP, [[1, 2, 3], "again.png"])
    expect(page.get_by_role("alert")).to_contain_text("again.png")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("alert")).to_contain_text("again.png")  # the message outlives the large view


def test_escape_closes_a_message_and_nothing_else(opened):
    page = opened("group?id=0")
    page.watch.expected = ["415"]
    tiles(page).first.locator("a").click()
    settled(page)
    page.locator("#file").set_input_files(BAD)
    expect(page.get_by_role("alert")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".at-search")).to_be_visible()


def picture_file(path, name):
    return {"name": name, "mimeType": "image/png", "buffer": path.read_bytes()}


def test_a_bad_file_does_not_lose_the_others(opened, photos):
    page = opened()
    page.watch.expected = ["415"]
    good = [picture_file(photos / "creature.png", name) for name in ("one.png", "two.png")]
    large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(20 * 2**20 + 1)}
    page.locator("#file").set_input_files([good[0], BAD, large, good[1]])
    expect(page.locator("h1")).to_have_text("Images like these 2")
    settled(page)
    assert page.locator(".chip .name").all_inner_texts() == ["one.png", "two.png"]
    message = page.get_by_role("alert")
    expect(message).to_contain_text("broken.png")
    expect(message).to_contain_text("large.png")
    expect(message).not_to_contain_text("one.png")


def test_too_many_files_are_refused_before_any_is_sent(opened, photos):
    page = opened()
    sent = []
    page.on("request", lambda request: "upload" in request.url and sent.append(request.url))
    files = [picture_file(photos / "creature.png", f"{number}.png") for number in range(35)]
    page.locator("#file").set_input_files(files)
    expect(page.get_by_role("alert")).to_contain_text("32")
    expect(page.get_by_role("alert")).to_contain_text("35")
    assert not sent and page.locator(".card").count()
