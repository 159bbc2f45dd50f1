"""The page while embed.py makes the first gallery: nothing yet, then the first images, then all."""

import json
import os
import platform
from pathlib import Path

import pytest
from playwright.sync_api import expect
from small_gallery import draw, embedding, open_view, write
from starlette.testclient import TestClient
from visits import PAGE, client

from browser import Watch, served, tiles
from gallery.folder import GalleryFolder
from gallery.page import shelf as shelf_file
from gallery.page.app import create_app
from gallery.page.opening import Opening
from gallery.page.shelf import Shelf
from gallery.page.work import before_the_first, work_on
from gallery.progress import Progress, at_work


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(shelf_file, "PAUSE", 0)
    monkeypatch.setattr(shelf_file, "RARELY", 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("filling") / "My photos")


def place_of(tmp_path):
    """Return the folder of a gallery at which this process, as embed.py, is at work."""
    place = GalleryFolder(tmp_path / "gallery")
    os.makedirs(place, exist_ok=True)
    hold(place, os.getpid())
    return place


def hold(place, pid):
    Path(place, "run.lock").write_text(json.dumps({"host": platform.node(), "pid": pid, "job": None}))


def fill(place, photos, images=None, plain=False):
    """Put a state of the gallery of `photos` in place: of this number of images, or the finished one."""
    return write(place.path, "ready-made", photos, embedding(2), images, plain)


def opening(place, password=""):
    page = lambda: create_app(
        Shelf([open_view(place.path, embedding(2))], lambda folder: open_view(folder, embedding(2))), ["127.0.0.1"]
    )
    return Opening([place.path], page, ["127.0.0.1", "localhost"], password)


# ---- what embed.py says ----------------------------------------------------------------------------------------------


def test_what_a_run_says_holds_as_long_as_it_runs(tmp_path):
    place = place_of(tmp_path)
    assert at_work(place) is None and before_the_first(place) == "Reading the folder. Nothing is embedded yet"
    progress = Progress(place)
    progress.say("loading the net")
    assert at_work(place) == ("loading the net", 0, 0) and before_the_first(place) == "Loading the net"
    progress.say("embedding", 12, 5000)
    progress.say("embedding", 13, 5000)  # too soon
    assert at_work(place) == ("embedding", 12, 5000)
    assert before_the_first(place) == "Embedding the first images of 5,000"
    hold(place, 2**22 + 1)  # no process has such a number: embed.py was killed
    assert at_work(place) is None
    hold(place, os.getpid())
    for damage in ("", "[]", "{", '{"what": 1, "more": 2}'):
        Path(place.progress).write_text(damage)
        assert at_work(place) is None
    progress.end()
    assert not os.path.exists(place.progress)
    Progress(GalleryFolder(tmp_path / "nowhere")).say("nothing depends on it")


def test_the_sentence_under_the_header(tmp_path, photos):
    place = place_of(tmp_path)
    progress, view = Progress(place), fill(place, photos, 8, plain=True)
    progress.say("fitting the net")
    first = "The first 8 of 77 images, compared by plain features until the net is fitted to your photos."
    assert work_on(view) == {"sentence": f"{first} Fitting the net. Groups and the map come last.", "done": 0, "images": 0}
    view = fill(place, photos, 20)
    progress.say("embedding", 30, 77)
    sentence = "The first 20 of 77 images. Embedding: 30 by now. Groups and the map come last."
    assert work_on(view) == {"sentence": sentence, "done": 30, "images": 77}
    hold(place, 2**22 + 1)
    assert work_on(view)["sentence"] == "The first 20 of 77 images. embed.py was stopped: the same command goes on."
    whole = fill(place, photos)
    assert work_on(view)["sentence"] == "The first 20 of 77 images. All others are embedded, and come in a moment."
    assert work_on(whole) is None
    hold(place, os.getpid())
    Progress(place).say("embedding", 80, 90)
    assert work_on(whole)["sentence"] == "Embedding: 80 of 90 images. The new ones come when all are embedded."
    progress.say("loading the net")
    assert work_on(whole) is None


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_before_the_first_image(tmp_path):
    page = TestClient(opening(place_of(tmp_path)), base_url="http://127.0.0.1", headers=PAGE)
    assert "The first images are on their way" in page.get("/").text
    assert page.get("/api/galleries").json() == {"galleries": [], "working": "Reading the folder. Nothing is embedded yet"}
    assert page.get("/static/opening.js").status_code == 200
    for path in ("/api/0/search?image=1", "/image/1", "/static/../opening.py", "/static/%2e%2e%2fapp.py", "/nothing"):
        answer = page.get(path)
        assert answer.status_code == 404 and set(answer.json()) == {"error"}, path


@pytest.mark.parametrize("path", ["/", "/api/galleries", "/static/opening.js"])
def test_the_guard_is_there_from_the_start(tmp_path, path):
    place = place_of(tmp_path)
    page = TestClient(opening(place), base_url="http://127.0.0.1")
    headers = page.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert page.get(path, headers={"Host": "evil.example"}).status_code == 400
    assert page.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert page.post(path).status_code in (403, 405)
    locked = TestClient(opening(place, "secret"), base_url="http://127.0.0.1")
    assert locked.get(path).status_code == 401
    assert locked.get("/?token=secret", follow_redirects=False).status_code == 303
    assert locked.get(path).status_code == 200


def test_the_images_of_an_unfinished_gallery(tmp_path, photos):
    place = place_of(tmp_path)
    view = fill(place, photos, 20)
    page = client([view])
    facts = page.get("/api/galleries").json()["galleries"][0]
    assert (facts["count"], facts["of"]) == (20, 77) and facts["work"]["sentence"].startswith("The first 20 of 77")
    first, rest = (page.get("/api/0/images", params={"start": start, "count": 12}).json() for start in (0, 12))
    assert first["total"] == rest["total"] == 20
    assert [item["key"] for item in first["items"] + rest["items"]] == view.gallery.keys
    for path in ("/api/0/clusters", "/api/0/clusters/0", "/api/0/map"):
        answer = page.get(path)
        assert answer.status_code == 202 and "until all 77 images are embedded" in answer.json()["working"]
    found = page.get("/api/0/search", params={"image": view.gallery.keys[0], "count": 60}).json()
    assert len(found["items"]) == 19 and page.get("/api/0/duplicates").status_code == 200
    assert not os.path.exists(place.derived("neighbours"))  # that waits until all are there
    assert page.get("/api/0/images", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert page.get("/api/1/images").status_code == 404


def test_names_of_images_may_be_anything(page):
    """The images route gives the hostile names of the folder as text."""
    answer = page.get("/api/0/images", params={"count": 500})
    names = [item["name"] for item in json.loads(answer.content.decode())["items"]]
    assert "<img src=x onerror=alert(1)>.jpg" in names and len(names) == answer.json()["total"]


# ---- in the browser --------------------------------------------------------------------------------------------------


def test_the_page_fills(chrome, photos, tmp_path):
    place = place_of(tmp_path)
    progress = Progress(place)
    with served(opening(place)) as url:
        page = chrome.new_page(viewport={"width": 1280, "height": 800})
        watch = Watch(page, url)
        page.goto(url)
        expect(page.locator("h1")).to_have_text("The first images are on their way")
        progress.say("loading the net")
        expect(page.get_by_role("status")).to_have_text("Loading the net …")
        progress.say("fitting the net")
        fill(place, photos, 8, plain=True)
        expect(page.locator("h1")).to_have_text("8 of 77 images")
        expect(tiles(page)).to_have_count(8)
        expect(page.locator("#progress p")).to_contain_text("compared by plain features until")
        tiles(page).first.locator("a").click()
        expect(tiles(page)).to_have_count(7)
        page.go_back()
        expect(tiles(page)).to_have_count(8)
        progress.say("embedding", 30, 77)
        fill(place, photos, 20)
        expect(page.locator("h1")).to_have_text("20 of 77 images")
        expect(page.locator("#progress p")).to_have_text(
            "The first 20 of 77 images. Embedding: 30 by now. Groups and the map come last."
        )
        expect(page.get_by_role("progressbar")).to_have_js_property("value", 30)
        page.get_by_role("link", name="Map").click()
        expect(page.locator(".working")).to_contain_text("Waiting until all 77 images are embedded")
        fill(place, photos)
        progress.end()
        expect(page.locator("canvas")).to_be_visible()
        page.get_by_role("link", name="Groups", exact=True).click()
        expect(page.locator("h1")).to_contain_text("77 images in")
        expect(page.locator("#progress")).to_be_hidden()
        assert not watch.faults
        page.context.close()
