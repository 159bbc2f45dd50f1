"""The page with --password: only browsers that opened the printed address get answers. The addresses that are printed."""

import hmac
import json
import socket
from http.cookies import SimpleCookie

import pytest
from playwright.sync_api import expect
from small_gallery import embedding, write
from starlette.testclient import TestClient
from visits import HOSTS, PAGE, noise, png

from browser import served, settled
from gallery.page import guard as guard_file
from gallery.page.app import create_app
from gallery.page.guard import ALWAYS
from gallery.page.server import addresses_of, bind

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def locked(galleries):
    app = create_app(galleries, HOSTS, password=TOKEN)
    return TestClient(app, base_url="http://127.0.0.1", headers=PAGE, follow_redirects=False)


def every_address(galleries):
    image = galleries[0].gallery.keys[0]
    yield from ("/", "/static/page.css", "/static/page.js", f"/image/{image}", "/upload/x", "/api/galleries", "/nothing")
    yield from (
        f"/api/0/{name}"
        for name in (f"search?image={image}", "clusters", "clusters/0", "duplicates", "spares", "map", "bad")
    )


@pytest.mark.parametrize(
    "way",
    (
        "nothing",
        "/?token=",
        "/?token=wrong",
        f"/?token={TOKEN}x",
        f"/?token={TOKEN[:-1]}",
        f"/?token={TOKEN}&token={TOKEN}",
        f"/?Token={TOKEN}",
        f"/api/galleries?token={TOKEN}",
        "cookie",
    ),
)
def test_nothing_is_answered_without_the_cookie(locked, galleries, way):
    headers = {}
    if way == "cookie":
        entered = locked.get(f"/?token={TOKEN}")
        name = entered.headers["set-cookie"].partition("=")[0]
        headers = {"Cookie": f"{name}=wrong; other={TOKEN}"}
    elif way != "nothing":
        answer = locked.get(way)
        assert answer.status_code == 401 and "set-cookie" not in answer.headers
    locked.cookies.clear()
    for address in every_address(galleries):
        answer = locked.get(address, headers=headers)
        assert answer.status_code == 401 and set(answer.json()) == {"error"}, address
        assert ALWAYS.items() <= {key.title(): value for key, value in answer.headers.items()}.items()
    for path, body in (("/api/upload", png(noise(1))), ("/api/0/not_duplicate", json.dumps({"keys": ["a", "b"]}))):
        assert locked.post(path, content=body, headers=headers).status_code == 401
    assert not galleries[0].gallery.apart()


def test_the_printed_address_opens_the_page_once_and_for_this_browser(locked, galleries):
    entered = locked.get(f"/?token={TOKEN}")
    assert entered.status_code == 303 and entered.headers["location"] == "/" and not entered.content
    (cookie,) = SimpleCookie(entered.headers["set-cookie"]).values()
    assert cookie.value == TOKEN and cookie["httponly"] and cookie["samesite"].lower() == "strict" and cookie["path"] == "/"
    assert not cookie["domain"] and not cookie["max-age"] and not cookie["expires"]
    assert entered.headers["cache-control"] == "no-store" and entered.headers["referrer-policy"] == "no-referrer"
    assert all(locked.get(address).status_code != 401 for address in every_address(galleries))
    assert TOKEN not in locked.get("/").text and TOKEN not in locked.get("/api/galleries").text
    away = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert locked.get("/api/galleries", headers=away).status_code == 403  # the cookie replaces no other check
    assert locked.post("/api/upload", content=b"", headers={"X-Requested-With": ""}).status_code == 403
    assert locked.get(f"/?token={TOKEN}", headers={"Host": "evil.example"}).status_code == 400


def test_tokens_are_compared_in_constant_time(locked, monkeypatch):
    compared = []
    compare = lambda one, other: compared.append((one, other)) or hmac.compare_digest(one, other)
    monkeypatch.setattr(guard_file, "compare_digest", compare)
    assert locked.get("/?token=%C3%A9%FF").status_code == 401
    locked.get("/", headers={"Cookie": f"{locked.get(f'/?token={TOKEN}').headers['set-cookie'].partition('=')[0]}=wrong"})
    assert len(compared) == 3


def test_a_page_without_a_password_sets_no_cookie(page):
    assert "set-cookie" not in page.get("/?token=x").headers


def test_the_page_works_in_a_browser(opened, photos, tmp_path):
    view = write(tmp_path / "gallery", "ready-made", photos, embedding(2))
    with served(create_app([view], ["127.0.0.1"], password=TOKEN)) as url:
        page = opened(at=f"{url}?token={TOKEN}")
        settled(page)
        assert page.evaluate("location.search") == "" and page.evaluate("document.cookie") == ""
        page.locator("#file").set_input_files(photos / "creature.png")
        expect(page.locator("h1")).to_have_text("Images like creature.png")
        settled(page)
        page.reload()
        settled(page)
        other = page.context.browser.new_context().new_page()
        other.goto(url)
        expect(other.locator("body")).to_contain_text("search.py printed")
        other.context.close()
        page.context.close()


def test_addresses_that_work_are_printed():
    with bind("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        addresses = addresses_of(listener)
        assert addresses[0] == f"http://127.0.0.1:{port}/" and len(set(addresses)) == len(addresses)
        for address in addresses:
            assert "0.0.0.0" not in address
            with socket.create_connection((address.split("/")[2].rpartition(":")[0].strip("[]"), port), timeout=5):
                pass
    with bind("127.0.0.1", 0) as listener:
        assert addresses_of(listener) == [f"http://127.0.0.1:{listener.getsockname()[1]}/"]
