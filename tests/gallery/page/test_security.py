"""The page refuses other hosts and sites, and paths outside the folder. No file name does harm."""

import json
import os
from urllib.parse import quote

import pytest
from fake_gallery import view
from visits import client, made, noise, png, raw

from gallery.page import files as files_file
from gallery.page.guard import ALWAYS, Guard, Json

SECRET = b"root:x:0:0"


@pytest.mark.parametrize(
    "host",
    (
        "127.0.0.1",
        "127.0.0.1:8000",
        "localhost:1",
        "LOCALHOST",
        "LocalHost:65535",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]:80",
    ),
)
def test_the_page_is_served_under_its_names(page, host):
    assert page.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ("", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "127.1",
     "0177.0.0.1", "2130706433", "127.0.0.1@evil.example", "evil.example@127.0.0.1", "127.0.0.1:evil", "127.0.0.1:",
     "127.0.0.1:8000:1", "::1", "[::1", "[::2]", "[::ffff:127.0.0.1]", "[]", "127.0.0.1, evil.example",
     "127.0.0.1 evil", "127.0.0.2", "0.0.0.0", "*"),
)  # fmt: skip
def test_no_other_name_leads_to_the_page(page, galleries, host):
    for path in (
        "/",
        "/static/page.css",
        f"/image/{galleries[0].gallery.keys[0]}",
        "/api/0/bad",
        "/api/galleries",
        "/api/0/marks",
    ):
        answer = page.get(path, headers={"Host": host})
        assert answer.status_code == 400 and set(answer.json()) == {"error"}


def test_a_request_names_one_host(address):
    for head in ("GET / HTTP/1.0", "GET / HTTP/1.1", "GET / HTTP/1.1\nHost: 127.0.0.1\nHost: evil.example"):
        assert raw(address, head + "\nConnection: close")[0] == 400
    assert raw(address, "GET http://evil.example/ HTTP/1.1\nHost: evil.example\nConnection: close")[0] == 400
    assert raw(address, "GET / HTTP/1.0\nHost: 127.0.0.1")[0] == 200


def test_a_host_may_be_given_in_any_form(drawn):
    for given, asked_for in (("::1", "[::1]:80"), ("Photos.Local", "photos.local"), ("[0::1]", "[::1]")):
        guard = Guard(None, [given])
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", asked_for.encode())]}
        assert guard._objection(scope) is None


POSTS = (
    "/api/upload",
    "/api/0/not_duplicate",
    "/api/0/unmark",
    "/api/0/present",
    "/api/0/weigh",
    "/api/0/items",
    "/api/0/list",
    "/api/0/script",
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    (
        {"X-Requested-With": ""},
        {"X-Requested-With": "XMLHttpRequest"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://localhost"},
        {"Origin": "http://[evil"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://evil.example/127.0.0.1"},
        {"Origin": "127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ),
)
def test_other_sites_change_nothing(page, galleries, path, headers):
    body = json.dumps({"keys": galleries[0].gallery.keys[:2]}) if "not" in path else png(noise(1))
    answer = page.post(path, content=body, headers=headers)
    assert answer.status_code == 403 and set(answer.json()) == {"error"}
    assert not galleries[0].gallery.apart()


def test_a_form_of_another_site_changes_nothing(page, galleries):
    del page.headers["X-Requested-With"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        body = json.dumps({"keys": galleries[0].gallery.keys[:2]})
        assert page.post("/api/0/not_duplicate", content=body, headers={"Content-Type": kind}).status_code == 403
    assert not galleries[0].gallery.apart()


@pytest.mark.parametrize(
    "headers",
    ({"Origin": "http://127.0.0.1"}, {"Origin": "HTTP://127.0.0.1"}, {}, {"Sec-Fetch-Site": "same-origin"},
     {"Host": "localhost:8000", "Origin": "http://localhost:8000"}, {"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}),
)  # fmt: skip
def test_the_page_itself_may_post(page, galleries, headers):
    answer = page.post("/api/0/not_duplicate", json={"keys": galleries[0].gallery.keys[:2]}, headers=headers)
    assert answer.status_code == 200
    assert galleries[0].gallery.apart() == [[0, 1]]


def test_get_changes_nothing(page, galleries):
    for method in ("get", "head", "put", "patch", "delete", "options"):
        for path in POSTS:
            assert getattr(page, method)(path).status_code == 405
    assert not galleries[0].gallery.apart()


def test_pages_of_other_sites_may_link_here_but_not_read_or_embed(page, galleries):
    image = f"/image/{galleries[0].gallery.keys[0]}"
    for site in ("cross-site", "same-site"):
        away = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        for path in (image, "/api/0/bad", "/api/galleries", "/api/0/marks", "/"):
            assert page.get(path, headers=away).status_code == 403
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert [page.get(path, headers=link).status_code for path in ("/", "/api/0/clusters", image)] == [200, 403, 403]


def test_every_answer_carries_the_headers(page, galleries, monkeypatch):
    image = f"/image/{galleries[0].gallery.keys[0]}"
    tag = page.get(image).headers["etag"]
    monkeypatch.setattr(galleries[0].index, "search", None)  # this makes a search fail with a bug
    answers = [
        *map(
            page.get,
            (
                "/",
                "/static/page.css",
                image,
                "/api/0/bad",
                "/api/galleries",
                "/api/0/marks",
                "/api/0/clusters",
                "/nothing",
                "/image/none",
                "/api/0/search",
            ),
        ),
        page.get(image, headers={"If-None-Match": tag}),
        page.get("/", headers={"Host": "evil.example"}),
        page.get(f"/api/0/search?image={galleries[0].gallery.keys[0]}"),
        page.post("/"),
        page.post("/api/upload", content=b"text"),
        page.post("/api/upload", headers={"Origin": "null"}),
    ]
    assert {answer.status_code for answer in answers} >= {200, 304, 400, 403, 404, 405, 415, 500}
    for answer in answers:
        assert ALWAYS.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert "cache-control" in answer.headers and "server" not in answer.headers
    policy = dict(part.strip().split(" ", 1) for part in ALWAYS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"


def test_there_is_no_cors(page):
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = page.request(method, "/api/0/bad", headers=headers)
        assert not any(name.startswith("access-control") for name in answer.headers)


# ---- paths from outside ----------------------------------------------------------------------------------------------


OUTSIDE = (
    "..", "../app.py", "../../../../../../../../etc/passwd", "..%2fapp.py", "%2e%2e/app.py", "%2e%2e%2fapp.py",
    "%252e%252e%252fapp.py", "..%5capp.py", "..\\app.py", "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "%00",
    "page.css%00", "page.css%00.png", "page.css/", "./page.css/..", "....//app.py", "..;/app.py", "file:///etc/passwd",
    "%c0%ae%c0%ae%2fapp.py", ".", "", "~root", "x" * 5000, "page.css%0a",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("place", ("/static/", "/image/", "/upload/", "/"))
def test_no_path_leads_outside(address, place, path):
    if (place, path) == ("/", "") or place == "/" and path == ".":
        return
    status, head, body = raw(address, f"GET {place}{path} HTTP/1.1\nHost: 127.0.0.1\nConnection: close")
    assert status == 404 and "application/json" in head
    assert SECRET not in body and b"create_app" not in body and set(json.loads(body)) == {"error"}


def test_only_files_of_static_are_served(page, tmp_path, monkeypatch):
    monkeypatch.setattr(files_file, "HERE", tmp_path)
    static = tmp_path / "static"
    (static / "folder.css").mkdir(parents=True)
    (static / "views.css").write_text("ok")
    (static / "notes.txt").write_text("no")
    (static / ".hidden.css").write_text("no")
    (tmp_path / "app.css").write_text("no")
    assert page.get("/static/views.css").text == "ok"
    assert page.get("/static/views.css").headers["content-type"].startswith("text/css")
    for name in ("folder.css", "notes.txt", ".hidden.css", "app.css", "..%2fapp.css", "page.js"):
        assert page.get(f"/static/{name}").status_code == 404


def test_an_image_is_asked_for_by_its_key_only(page, galleries, drawn):
    for row, path in enumerate(galleries[0].gallery.paths):
        for wrong in (os.path.basename(path), path, str(row), galleries[0].gallery.keys[row].upper() + "0"):
            for name in (quote(os.fsencode(wrong)), quote(os.fsencode(wrong), safe="")):
                assert page.get("/image/" + name).status_code == 404


# ---- names -----------------------------------------------------------------------------------------------------------


def test_answers_are_valid_whatever_files_are_called(page, galleries):
    answers = [page.get(f"/api/0/search?count=500&image={galleries[0].gallery.keys[0]}")]
    made(page, "/api/0/clusters")
    answers += [page.get("/api/0/bad"), page.get("/api/0/clusters"), page.get("/api/0/clusters/0?count=500")]
    for answer in answers:
        json.loads(answer.content.decode("utf-8"))  # strict UTF-8 and JSON
        assert answer.headers["content-type"] == "application/json"
    names = {item["name"] for item in answers[0].json()["items"]}
    assert {
        "<img src=x onerror=alert(1)>.jpg",
        "a b&c%20'\".jpg",
        "line\nbreak\ttab\x1b[31m.jpg",
        "..%2f..%2fetc%2fpasswd.jpg",
    } < names
    assert any(name.startswith("not ? UTF-8") for name in names)


def test_json_is_text_whatever_it_holds():
    assert json.loads(Json({"a": "\udcff\ud800", "b": "\U0001f98a\u2028"}).body.decode("utf-8")) == {
        "a": "??",
        "b": "\U0001f98a\u2028",
    }


def test_names_of_galleries_and_folder_are_text(drawn):
    root, paths = drawn
    one = view(os.fsdecode(b"\xff<script>"), paths, root=root)
    one.folder = os.fsdecode(b'/photos/\xff"><script>')
    html = client([one]).get("/").content.decode("utf-8")
    assert "<script>" not in html
