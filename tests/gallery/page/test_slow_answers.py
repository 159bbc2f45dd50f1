"""What the browser shows while answers are slow, come too late, or fail."""

from playwright.sync_api import expect

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
