"""The page while photos are deleted, and while embed.py renews its galleries."""

import os
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from fake_gallery import SIDE, FakeIndex, by_colour, by_place, real_gallery
from hypothesis import given, settings, strategies as st
from playwright.sync_api import expect
from small_gallery import draw, embedding, key_of, open_view, write
from visits import client, key, made, send

from browser import served, settled, tiles
from gallery.page import shelf as shelf_file, start as start_file
from gallery.page.app import create_app
from gallery.page.gallery_view import GalleryView
from gallery.page.shelf import Shelf, gone_among


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(shelf_file, "PAUSE", 0)
    monkeypatch.setattr(shelf_file, "RARELY", 0)


@pytest.fixture
def renewable(folder, tmp_path):
    """renewable(paths, embed) writes the gallery of these images. Returns (write, shelf): the shelf notices each writing."""
    root, paths = folder
    place = str(tmp_path / "gallery")
    os.makedirs(place)
    latest = []

    def write_gallery(chosen=paths, embed=by_colour, name="ready-made"):
        latest[:] = [real_gallery(place, name, chosen, embed, root), embed]

    def view_of(_):
        gallery, embed = latest
        return GalleryView(gallery, FakeIndex(gallery.embeddings), embed, side=SIDE)

    write_gallery()
    return write_gallery, Shelf([view_of(place)], view_of)


def test_the_disk_is_looked_at_before_the_first_visit(renewable, monkeypatch):
    """On a slow disk, the first visitor would wait for it."""
    _, shelf = renewable
    view, looked = shelf.views[0], threading.Event()
    model = SimpleNamespace(embed=view.embed, embedder=SimpleNamespace(transforms=SimpleNamespace(origin_width=SIDE)))
    monkeypatch.setattr(start_file, "open_gallery", lambda folder: (view.gallery, view.index))
    monkeypatch.setattr(start_file.model, "of_gallery", lambda *given: model)
    monkeypatch.setattr(start_file.server, "serve", lambda app, listener: listener.close())
    monkeypatch.setattr(Shelf, "look", lambda self: looked.set() or [])
    more = {"device": "cpu", "memory": 10**9, "with_password": False, "in_browser": False}
    start_file.start([view.gallery.folder], ("127.0.0.1", 0), [], **more)
    assert looked.wait(60)


def names_of(answer):
    return {item["name"] for item in answer["items"]}


def test_deleted_photos_are_dropped_from_every_answer(renewable, folder):
    root, _ = folder
    _, shelf = renewable
    page, view = client(shelf), shelf.views[0]
    before = page.get("/api/galleries").json()
    first = key(view, "00.png")
    assert made(page, "/api/0/duplicates")["images"] == 3
    for name in ("copy.png", "05.png"):
        os.remove(os.path.join(root, name))
    now = page.get("/api/galleries").json()
    assert now["state"] != before["state"]
    assert now["galleries"][0]["count"] == before["galleries"][0]["count"] - 2
    (group,) = made(page, "/api/0/duplicates")["groups"]
    assert sorted(item["name"] for item in group["items"]) == ["00.png", "copy of it.png"]
    found = page.get("/api/0/search", params={"image": first, "count": 500}).json()
    assert not {"copy.png", "05.png"} & names_of(found) and found["total"] == len(found["items"]) == view.count - 1
    cards = made(page, "/api/0/clusters", count=500)
    assert sum(card["size"] for card in cards["clusters"]) == view.count and cards["total"] == len(cards["clusters"])
    for card in cards["clusters"]:
        assert not {"copy.png", "05.png"} & names_of(made(page, f"/api/0/clusters/{card['id']}", count=500))
    places = made(page, "/api/0/map")
    assert len(places["keys"]) == places["shown"] == places["total"] == view.count
    assert key(view, "05.png") not in places["keys"]
    os.remove(os.path.join(root, "odd", "copy of it.png"))
    page.get("/api/galleries")
    assert made(page, "/api/0/duplicates")["total"] == 0
    assert page.get("/api/galleries").json()["state"] == page.get("/api/galleries").json()["state"]


def test_a_gallery_that_is_renewed_is_opened_anew(renewable, folder):
    write_gallery, shelf = renewable
    page, old = client(shelf), shelf.views[0]
    made(page, "/api/0/clusters")
    before = page.get("/api/galleries").json()
    write_gallery(folder[1][:7])
    now = page.get("/api/galleries").json()
    assert now["state"] != before["state"] and now["galleries"][0]["count"] == 7
    assert shelf.views[0] is not old
    assert len(page.get("/api/0/search", params={"image": key(old, "00.png"), "count": 500}).json()["items"]) == 6
    assert sum(card["size"] for card in made(page, "/api/0/clusters")["clusters"]) == 7


def test_an_upload_of_another_model_is_not_compared(renewable, folder):
    write_gallery, shelf = renewable
    page = client(shelf)
    token = send(page, open(folder[1][0], "rb").read())
    assert page.get("/api/0/search", params={"upload": token}).status_code == 200
    write_gallery(embed=by_place, name="trained")  # rows of another length
    page.get("/api/galleries")
    answer = page.get("/api/0/search", params={"upload": token})
    assert answer.status_code == 410 and "Send it again" in answer.json()["error"]


def test_a_gallery_that_is_half_written_stays_as_it_was(renewable, caplog):
    _, shelf = renewable
    page, about = client(shelf), shelf.views[0].gallery.place.about
    before = page.get("/api/galleries").json()
    os.rename(about, about + ".away")
    for _ in range(3):
        assert page.get("/api/galleries").json() == before
    assert len([record for record in caplog.records if "goes on" in record.message]) == 1  # not each time
    os.rename(about + ".away", about)
    assert page.get("/api/galleries").json() == before


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), unique=True), st.data())
@settings(deadline=None, max_examples=30)
def test_gone_files(tmp_path_factory, names, data):
    root = str(tmp_path_factory.mktemp("gone"))
    paths = [os.path.join(root, folder, f"{number}.jpg") for folder, number in names]
    there = data.draw(st.lists(st.booleans(), min_size=len(paths), max_size=len(paths)))
    for path, is_there in zip(paths, there):
        if is_there:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
    expected = [not os.path.lexists(path) for path in paths] if any(there) else [False] * len(paths)
    assert gone_among(paths, [root]).tolist() == expected


def test_a_disk_that_is_away_takes_no_photos_along(tmp_path):
    for name in ("here", "away"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
        (tmp_path / name / "b.jpg").touch()
    paths = [str(tmp_path / name / file) for name in ("away", "here") for file in ("a.jpg", "b.jpg")]
    roots = [str(tmp_path / "here"), str(tmp_path / "away")]
    os.rename(roots[1], tmp_path / "elsewhere")
    os.remove(paths[2])
    assert np.flatnonzero(gone_among(paths, roots)).tolist() == [2]


def test_each_folder_is_listed_once_and_present_files_are_not_looked_at(tmp_path, monkeypatch):
    """A slow disk takes milliseconds for each look; a folder that is gone takes its files along."""
    for name in ("here", "gone"):
        (tmp_path / name).mkdir()
        for number in range(50):
            (tmp_path / name / f"{number:02}.jpg").touch()
    paths = [str(tmp_path / name / f"{number:02}.jpg") for name in ("gone", "here") for number in range(50)]
    os.rename(tmp_path / "gone", tmp_path / "elsewhere")
    looks, lists, lstat, listdir = [], [], os.lstat, os.listdir
    monkeypatch.setattr(os, "lstat", lambda path: looks.append(path) or lstat(path))
    monkeypatch.setattr(os, "listdir", lambda path: lists.append(path) or listdir(path))
    assert np.flatnonzero(gone_among(paths, [str(tmp_path)])).tolist() == list(range(50))
    assert looks == [] and len(lists) == 2


# ---- in the browser --------------------------------------------------------------------------------------------------


def test_the_page_drops_deleted_photos_and_shows_what_was_embedded_anew(opened, tmp_path):
    photos = tmp_path / "photos"
    draw(photos)
    place = tmp_path / "gallery"
    shelf = Shelf([write(place, "ready-made", photos, embedding(2))], lambda folder: open_view(folder, embedding(2)))
    with served(create_app(shelf, ["127.0.0.1"])) as url:
        page = opened("duplicates", at=url)
        page.watch.expected = ["404"]
        copies = page.locator(".group").filter(has_text="another copy of 0.jpg")
        assert copies.locator(".tile").count() == 3
        os.remove(photos / "copy of 0.jpg")
        page.evaluate("dispatchEvent(new Event('focus'))")
        expect(copies.locator(".tile")).to_have_count(2)
        page.goto(f"{url}#/groups")
        expect(page.locator("h1")).to_contain_text("76 images")
        for number in range(8):
            os.remove(photos / f"train/class 2/{number}.jpg")
        write(place, "ready-made", photos, embedding(2))
        page.evaluate("dispatchEvent(new Event('focus'))")
        expect(page.locator("h1")).to_contain_text("68 images in")
        page.goto(f"{url}#/search?image={key_of(photos / 'creature.png')}")
        settled(page)
        tiles(page).first.locator("a").focus()
        os.remove(photos / "creature (large).jpg")
        page.keyboard.press("Space")
        expect(page.get_by_role("dialog").get_by_text("cannot be shown")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("main .tile").filter(has_text="creature (large).jpg")).to_have_count(0)
        page.context.close()


def test_a_slow_disk_does_not_hold_up_the_first_page(renewable, monkeypatch):
    _, shelf = renewable
    release = threading.Event()
    monkeypatch.setattr(shelf_file, "gone_among", lambda paths, roots: release.wait(20) and np.zeros(len(paths), bool))
    with served(create_app(shelf, ["127.0.0.1"])) as url, httpx.Client(base_url=url, timeout=15) as visitor:
        began = time.monotonic()
        assert visitor.get("/").status_code == 200 and visitor.get("/").status_code == 200
        assert time.monotonic() - began < 3
        release.set()
        assert visitor.get("/api/galleries").status_code == 200


def test_a_slow_disk_is_looked_at_less_often(renewable, monkeypatch):
    _, shelf = renewable
    monkeypatch.setattr(shelf_file, "RARELY", 10)
    looks = []
    monkeypatch.setattr(
        shelf_file, "gone_among", lambda paths, roots: looks.append(time.sleep(0.2)) or np.zeros(len(paths), bool)
    )
    began = time.monotonic()
    while time.monotonic() - began < 1:
        shelf.look()
    assert len(looks) == 1
