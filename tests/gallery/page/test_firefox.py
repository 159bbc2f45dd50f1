"""The page in Firefox, nightly: every view at two sizes, and a walk by mouse and keyboard."""

import pytest
from test_around import VIEWS

from firefox import firefox

pytestmark = pytest.mark.nightly
SETTLED = "document.querySelectorAll('main h1').length == 1 && !document.querySelector('.waiting')"
SPACE, ESCAPE = " ", "\ue00c"


@pytest.fixture(scope="module")
def tab():
    with firefox() as running:
        yield running


@pytest.fixture
def opened(tab, site):
    """opened("map", 390) opens a view and returns the tab. The test fails if the page logs an error or a warning."""
    tab.faults.clear()

    def call(view="groups", width=1280, height=800):
        tab.open(f"{site}?{view}{width}#/{view}", width, height)  # another address, so that the page is loaded anew
        tab.until(SETTLED)
        return tab

    yield call
    assert not tab.faults, "\n".join(tab.faults)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits(opened, view, width):
    tab = opened(view, width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        tab.evaluate(
            "[...document.images].filter((image) => image.currentSrc && image.complete && !image.naturalWidth).length"
        )
        == 0
    )
    assert len(tab.screenshot()) > 10_000


def test_a_walk(opened):
    tab = opened("group?id=0")
    name = tab.evaluate("document.querySelector('main .tile .name').innerText")
    tab.until("document.querySelector('main .tile img').naturalWidth > 0")
    tab.click("main .tile a")
    tab.until(f"document.querySelector('main h1')?.innerText == {f'Images like {name}'!r} && {SETTLED}")
    tab.evaluate("document.querySelector('main .tile a').focus() ?? null")
    tab.press(SPACE)
    tab.until("document.getElementById('large').open")
    tab.until("(image => image.complete && image.naturalWidth > 0)(document.querySelector('#large img'))")
    tab.press(ESCAPE)
    tab.until("!document.getElementById('large').open")
    tab.evaluate("history.back() ?? null")
    tab.until(f"document.querySelector('.at-group') !== null && {SETTLED}")
