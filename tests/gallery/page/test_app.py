"""The start page, the rules for all of the page's addresses, and the answers to requests that make no sense."""

import os
import re

import pytest
from fake_gallery import by_colour, view
from visits import client, key, made, send

from data.lists import shown
from gallery.page import files as files_file
from gallery.table import Bad, File, LeftOut
from utils.errors import RunError


def test_the_start_page_escapes_names(page, drawn):
    html = page.get("/").text
    assert "trained &lt;i&gt;" in html and "<i>" not in html


def test_the_start_page_names_every_module_that_its_script_imports(page):
    """So the browser loads them all at once."""
    static, found = files_file.HERE / "static", ["page.js"]
    for name in found:
        found += sorted(set(re.findall(r'from "\./(\w+\.js)"', (static / name).read_text())) - set(found))
    named = re.findall(r'<link rel="modulepreload" href="/static/(\w+\.js)">', page.get("/").text)
    assert sorted(named) == sorted(found[1:]) and len(named) > 10


def test_where_the_folder_lies_is_told_to_this_machine_only(galleries, drawn):
    parent = os.path.dirname(drawn[0])
    near, far = (client(galleries, caller=caller) for caller in ("127.0.0.1", "10.0.0.7"))
    assert parent in near.get("/").text
    assert parent not in far.get("/").text and "photos" in far.get("/").text


def test_no_other_answer_tells_where_the_folder_lies(page, galleries, drawn):
    sent = send(page, open(drawn[1][1], "rb").read())
    query = f"image={key(galleries[0], '00.png')}&upload={sent}"
    answers = [page.get(f"/api/0/search?{query}"), page.get("/api/0/bad"), page.get("/api/galleries")]
    answers.append(page.get("/api/1/search?image=none"))
    for path in ("map", "clusters", "clusters/0", "duplicates", "duplicates?kind=near"):
        made(page, f"/api/0/{path}")
        answers.append(page.get(f"/api/0/{path}"))
    for answer in answers:
        assert os.path.dirname(drawn[0]) not in answer.text


def test_paths_of_a_list_are_shown_below_their_common_folder(drawn):
    root, paths = drawn
    with_list = view("ready-made", paths, root=None)
    assert with_list.item(0) == view("ready-made", paths, root=root).item(0)
    one = view("ready-made", [os.path.join(root, "odd/copy of it.png")])
    assert one.item(0)["path"] == "copy of it.png" and one.folder == os.path.join(root, "odd")


def test_bad_files_are_listed(page):
    (bad,) = page.get("/api/0/bad").json()["items"]
    assert bad["path"] == "no <b>picture.jpg"
    assert bad["reason"].startswith("cannot be read as an image")


def test_why_a_file_is_bad_does_not_tell_where_it_lies(page, galleries, drawn):
    path = os.path.join(drawn[0], "a" * 400)
    reasons = shown(f"{path}: damaged"), f"damaged: {drawn[0]}/b"
    galleries[0].gallery.unreadable = [Bad(File(path, 1, 0), reason) for reason in reasons]
    answer = page.get("/api/0/bad")
    assert drawn[0] not in answer.text and [item["reason"][-7:] for item in answer.json()["items"]] == ["damaged", "aged: b"]


def test_why_a_file_is_left_out_does_not_tell_where_it_lies(page, galleries, drawn):
    whys = f"of {drawn[0]}/odd/a.png", f"leads to {os.path.dirname(drawn[0])}", "Thumbs.db"
    galleries[0].gallery.left_out = [LeftOut(os.path.join(drawn[0], "b.png"), "sort", why) for why in whys]
    answer = page.get("/api/0/bad")
    assert os.path.dirname(drawn[0]) not in answer.text
    outside = os.path.basename(os.path.dirname(drawn[0]))
    expected = ["sort: of odd/a.png", f"sort: leads to {outside}", "sort: Thumbs.db"]
    assert [item["reason"] for item in answer.json()["left_out"]] == expected


@pytest.mark.parametrize(
    "query",
    (
        "count=0", "count=501", "count=-1", "count=x", "count=1e3", "count=1_0", "count=%D9%A3", "count=" + "9" * 5000,
        "count=1.0", "start=-1", "start=9999999999999999999", "start=+1", "start=%001", "count=1%0A",
    ),
)  # fmt: skip
def test_numbers_are_checked(page, galleries, query):
    for address in (f"/api/0/search?image={galleries[0].gallery.keys[0]}&", "/api/0/clusters?", "/api/0/duplicates?"):
        answer = page.get(address + query)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"`{query.partition('=')[0]}` has to be")


@pytest.mark.parametrize("threshold", ("nan", "inf", "-1", "1.01", ".", "x", "1e0", "0x1", "0." + "1" * 50))
def test_thresholds_are_checked(page, threshold):
    answer = page.get("/api/0/duplicates", params={"kind": "alike", "threshold": threshold})
    assert answer.status_code == 400 and "`threshold`" in answer.json()["error"]


@pytest.mark.parametrize(
    "address, status",
    (
        ("/api/0/search", 400),
        ("/api/0/search?image=", 404),
        ("/api/0/search?image=nothing", 404),
        ("/api/0/search?upload=nothing", 410),
        ("/api/2/search", 404),
        ("/api/-1/clusters", 404),
        ("/api/%D9%A0/clusters", 404),
        (f"/api/{'0' * 5000}/clusters", 404),
        ("/api/0/clusters/999", 404),
        (f"/api/0/clusters/{'9' * 5000}", 404),
        ("/api/0/duplicates?kind=all", 400),
        ("/api/0/duplicates?kind=near&turned=2", 400),
        ("/api/0/clusters/", 404),
        ("/api", 404),
        ("/favicon.ico", 404),
    ),
)
def test_what_cannot_be_had_gets_a_sentence(page, address, status):
    if "/clusters/" in address:
        made(page, "/api/0/clusters")
    answer = page.get(address)
    assert answer.status_code == status and set(answer.json()) == {"error"}
    assert answer.json()["error"].endswith(".")


def test_a_query_of_too_many_images(page, galleries):
    keys = galleries[0].gallery.keys * 3
    assert page.get("/api/0/search", params={"image": keys[:32]}).status_code == 200
    answer = page.get("/api/0/search", params={"image": keys[:33]})
    assert answer.status_code == 400 and "32" in answer.json()["error"]


def test_head_answers_as_get(page, galleries):
    name = galleries[0].gallery.keys[0]
    static = os.listdir(files_file.HERE / "static")[0]
    for address in ("/", f"/static/{static}", f"/image/{name}", f"/api/0/search?image={name}", "/api/0/bad", "/image/none"):
        get, head = page.get(address), page.head(address)
        assert head.status_code == get.status_code
        ignored = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in ignored | {"content-length"}} == {
            k: v for k, v in get.headers.items() if k not in ignored | {"content-length"}
        }


@pytest.mark.parametrize(
    "body",
    (b"", b"{", b"[]", b"null", b'{"keys": 1}', b'{"keys": []}', b'{"keys": ["a"]}', b'{"keys": [1, 2]}', b"\xff",
     b"[" * 9000, b'{"keys": ["a", "a"' + b', "a"' * 1000 + b"]}"),
)  # fmt: skip
def test_not_duplicate_checks_its_body(page, galleries, body):
    answer = page.post("/api/0/not_duplicate", content=body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert not galleries[0].gallery.apart()


@pytest.mark.parametrize(
    "body",
    (b"", b"{", b"[]", b'{"mark": 1}', b'{"mark": ""}', b'{"mark": "0123456789ABCDEF"}', b'{"mark": "../0123456789ab"}',
     b'{"mark": ["0123456789abcdef"]}', b'{"mark": "0123456789abcdef\\n"}', b"[" * 900),
)  # fmt: skip
def test_unmark_checks_its_body(page, galleries, body):
    page.post("/api/0/not_duplicate", json={"keys": galleries[0].gallery.keys[:2]})
    answer = page.post("/api/0/unmark", content=body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert galleries[0].gallery.apart() == [[0, 1]]


def test_not_duplicate_checks_its_keys(page, galleries):
    known = galleries[0].gallery.keys
    assert page.post("/api/0/not_duplicate", json={"keys": [known[0], "none"]}).status_code == 404
    assert page.post("/api/0/not_duplicate", json={"keys": [known[0], known[0]]}).status_code == 400
    assert not galleries[0].gallery.apart()


def test_a_fault_gets_a_sentence_and_the_next_request_is_answered(page, galleries, monkeypatch, caplog):
    secret = "a secret of the inside"

    def fail(*_):
        raise RuntimeError(secret)

    with monkeypatch.context() as patched:
        patched.setattr(galleries[0].index, "search", fail)
        answer = page.get("/api/0/search", params={"image": galleries[0].gallery.keys[0]})
        assert answer.status_code == 500 and set(answer.json()) == {"error"} and secret not in answer.text
        patched.setattr(galleries[0].gallery, "kept", fail)
        assert page.get("/api/0/clusters").status_code == 500
    assert page.get("/api/0/search", params={"image": galleries[0].gallery.keys[0]}).status_code == 200
    assert made(page, "/api/0/clusters")["total"]
    assert page.post("/api/0/clusters").status_code == 405


def test_uploads_are_embedded_by_each_gallery(drawn):
    seen = []

    def embed(images):
        seen.extend((image.mode, min(image.size)) for image in images)
        return by_colour(images)

    root, paths = drawn
    first, second = (view(name, paths[:3], root=root) for name in ("ready-made", "trained"))
    first.embed = second.embed = embed
    second.side = 96
    send(client([first, second]), open(paths[0], "rb").read())
    assert seen == [("RGB", 64), ("RGB", 96)]


def test_a_mark_that_cannot_be_written_says_why(page, galleries, monkeypatch):
    def full(rows):
        raise RunError("not_duplicates.txt: cannot be written (Read-only file system)")

    monkeypatch.setattr(galleries[0].gallery, "set_apart", full)
    answer = page.post("/api/0/not_duplicate", json={"keys": galleries[0].gallery.keys[:2]})
    assert answer.status_code == 500 and "Read-only file system" in answer.json()["error"]


def test_galleries_with_one_name_are_told_apart(drawn):
    root, paths = drawn
    views = [view(name, paths[:2], root=root) for name in ("ready-made", "ready-made", "trained", "ready-made")]
    for each, folder in zip(views, ("/results/a-1/ready-made", "/results/b-2/ready-made", "/x", "/results/a-1/ready-made")):
        each.gallery.folder = folder
    names = [each["name"] for each in client(views).get("/api/galleries").json()["galleries"]]
    assert len(set(names)) == 4 and names[2] == "trained"
    assert all(name.startswith("ready-made") for name in (names[0], names[1], names[3]))
    assert "a-1" in names[0] and "b-2" in names[1] and not any("results" in name for name in names)


def test_an_upload_that_is_not_kept_is_gone(page):
    answer = page.get("/api/0/search?upload=nothing")
    assert answer.status_code == 410 and "Send it again" in answer.json()["error"]
