"""What the browser shows while answers are slow, come too late, or fail."""

from playwright.sync_api import expect
from small_gallery import key_of
from test_selection_meanwhile import arrived, hold

from browser import settled


def test_the_slider_asks_once_for_many_steps_and_gives_up_older_requests(opened):
    page = opened("duplicates?kind=alike")
    asked = []

    def slow(route):
        threshold = route.request.url.partition("threshold=")[2].partition("&")[0]
        asked.append(threshold)
        answer = {"status": 202, "json": {"working": "looking for look-alikes"}}
        route.fulfill(**answer) if threshold != "0.99" else route.continue_()

    page.route("**/api/0/duplicates?*", slow)
    slider = page.get_by_label("At least this similar")
    slider.fill("0.5")
    slider.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".working")).to_contain_text("Looking for look-alikes")
    page.wait_for_timeout(1500)  # it asks again each second
    assert set(asked) == {"0.62"}
    slider.fill("0.99")
    settled(page)
    before = len(asked)
    page.wait_for_timeout(1500)
    assert len(asked) == before and asked[-1] == "0.99"


def test_the_share_that_is_done_is_shown(opened):
    page = opened("groups")
    shares = [0]
    work = lambda: {"working": "looking for copies", "done": shares.pop() if shares else 0.37}
    page.route("**/api/0/duplicates?*", lambda route: route.fulfill(status=202, json=work()))
    page.goto(f"{page.url.split('#')[0]}#/duplicates")
    expect(page.locator(".working")).to_have_text("Looking for copies … 37 %")
    assert page.locator(".working [role=status]").inner_text().strip() == "Looking for copies …"
    page.unroute("**/api/0/duplicates?*")
    settled(page)


def test_a_view_that_is_left_while_its_slider_works_is_made_anew(opened):
    page = opened("duplicates?kind=alike")
    answers, asked = ["202"], []
    work = {"status": 202, "json": {"working": "looking for look-alikes"}}
    page.route(
        "**/api/0/duplicates?*", lambda route: (asked.append(route), route.fulfill(**work) if answers else route.continue_())
    )
    page.get_by_label("At least this similar").fill("0.3")
    expect(page.locator(".working")).to_contain_text("Looking for look-alikes")
    page.get_by_role("link", name="Map").click()
    page.locator(".pin").first.wait_for()
    before = len(asked)
    page.wait_for_timeout(1500)
    assert len(asked) == before  # nobody waits for it
    answers.clear()
    page.go_back()
    settled(page)
    expect(page.get_by_label("At least this similar")).to_have_value("0.3")
    expect(page.locator(".groups > .group").first).to_be_visible()


def test_a_column_that_fails_says_so_itself(opened, site, photos):
    page = opened()
    page.watch.expected = ["500"]
    broken = {"status": 500, "json": {"error": "The index is gone."}}
    page.route("**/api/1/search?*", lambda route: route.fulfill(**broken))
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}&g=all")
    first, second = page.locator(".column").all()
    expect(second.get_by_role("alert")).to_contain_text("The index is gone.")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.locator(".waiting")).to_have_count(0)
    assert first.locator(".tile").count() == 60
    expect(page.locator("h1")).to_have_text("Images like creature.png")
    page.unroute("**/api/1/search?*")
    second.get_by_role("button", name="Try again").click()
    expect(second.locator(".tile").first).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_search_that_failed_can_be_tried_again(opened, site, photos):
    page = opened()
    page.watch.expected = ["500"]
    broken = {"status": 500, "json": {"error": "The index is gone."}}
    page.route("**/api/0/search?*", lambda route: route.fulfill(**broken))
    page.goto(f"{site}#/search?image={key_of(photos / 'creature.png')}")
    expect(page.get_by_role("alert")).to_contain_text("The index is gone.")
    expect(page.get_by_label("At least this similar")).to_be_hidden()
    page.unroute("**/api/0/search?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("h1")).to_have_text("Images like creature.png")
    expect(page.get_by_label("At least this similar")).to_be_visible()


def test_try_again_is_offered_where_it_can_help(opened, site):
    page = opened()
    page.watch.expected = ["404"]
    page.goto(f"{site}#/search?image=0123456789abcdef")
    expect(page.get_by_role("alert")).to_contain_text("no such image")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.goto(f"{site}#/group?id=999")
    expect(page.get_by_role("alert")).to_contain_text("no such group")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("alert").get_by_role("link", name="All groups").click()
    page.locator(".card").first.wait_for()


def test_it_is_said_that_a_picture_is_read_and_why_the_first_takes_longer(opened, photos):
    page = opened()
    held = hold(page, "**/api/upload")
    for words in ("Reading the picture. The first one takes longer: the net is loaded.", "Reading the picture."):
        page.locator("#file").set_input_files(photos / "creature.png")
        expect(page.get_by_role("alert")).to_have_text(words)
        expect(page.get_by_role("alert")).to_be_visible()
        arrived(page, held).continue_()
        expect(page.locator("main h1")).to_have_text("Images like creature.png")
        settled(page)
        expect(page.get_by_role("alert")).to_have_count(0)
        held.clear()
        page.goto(f"{page.url.split('#')[0]}#/groups")
        settled(page)
