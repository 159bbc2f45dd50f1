"""Marks as "not duplicates": they hold in all galleries of the page, are listed, and can be taken back."""

import os
import shutil

import pytest
from fake_gallery import SIDE, FakeIndex, by_colour, by_place, real_gallery
from playwright.sync_api import expect
from small_gallery import draw, embedding, write
from visits import client, key, made

from browser import served, settled
from gallery.page.app import create_app
from gallery.page.gallery_view import GalleryView


@pytest.fixture
def apart_folders(folder, tmp_path):
    """Two real galleries of the same images, in folders that do not lie beside each other."""
    root, paths = folder
    views = []
    for name, embed in (("ready-made", by_colour), ("trained", by_place)):
        place = tmp_path / name / "gallery"
        os.makedirs(place)
        gallery = real_gallery(str(place), name, paths, embed, root)
        views.append(GalleryView(gallery, FakeIndex(gallery.embeddings), embed, side=SIDE))
    return views


def copies(page, g):
    groups = made(page, f"/api/{g}/duplicates")["groups"]
    return [sorted(item["name"] for item in group["items"]) for group in groups]


def test_a_mark_holds_in_all_galleries_and_can_be_taken_back(apart_folders):
    page, view = client(apart_folders), apart_folders[0]
    three = ["00.png", "copy of it.png", "copy.png"]
    assert copies(page, 0) == copies(page, 1) == [three]
    keys = [key(view, name) for name in three]
    mark = page.post("/api/0/not_duplicate", json={"keys": keys}).json()["mark"]
    assert copies(page, 0) == copies(page, 1) == []
    for g in (0, 1):
        (listed,) = page.get(f"/api/{g}/marks").json()["marks"]
        assert listed["mark"] == mark and sorted(item["name"] for item in listed["items"]) == three and listed["size"] == 3
    page = client(apart_folders)  # started anew: the groups are made with the mark now
    shutil.rmtree(os.path.join(view.gallery.folder, "derived"))
    assert copies(page, 0) == []
    assert page.post("/api/1/unmark", json={"mark": mark}).status_code == 200
    assert copies(page, 0) == copies(page, 1) == [three]
    assert page.get("/api/0/marks").json() == {"total": 0, "marks": []}
    answer = page.post("/api/1/unmark", json={"mark": mark})
    assert answer.status_code == 404 and answer.json()["error"].endswith(".")


def test_marks_are_listed_newest_first_in_parts(apart_folders):
    page, keys = client(apart_folders), apart_folders[0].gallery.keys
    marks = [page.post("/api/0/not_duplicate", json={"keys": keys[i : i + 2]}).json()["mark"] for i in (0, 3, 5)]
    listed = [page.get(f"/api/0/marks?start={start}&count=1").json() for start in range(4)]
    assert [[mark["mark"] for mark in answer["marks"]] for answer in listed] == [[mark] for mark in marks[::-1]] + [[]]
    assert {answer["total"] for answer in listed} == {3}


def test_a_mark_that_cannot_be_taken_back_says_why(apart_folders, monkeypatch):
    page, view = client(apart_folders), apart_folders[0]
    mark = page.post("/api/0/not_duplicate", json={"keys": view.gallery.keys[:2]}).json()["mark"]
    monkeypatch.setattr("gallery.not_duplicates.written_whole", lambda file: open(view.gallery.folder, "wb"))
    answer = page.post("/api/0/unmark", json={"mark": mark})
    assert answer.status_code == 500 and "cannot be written" in answer.json()["error"]
    assert page.get("/api/0/marks").json()["total"] == 1


def test_undo_in_the_browser(opened, tmp_path):
    photos = draw(tmp_path / "photos")
    with served(create_app([write(tmp_path / "gallery", "ready-made", photos, embedding(2))], ["127.0.0.1"])) as url:
        page = opened("duplicates?kind=near", at=url)
        creatures = page.locator(".group").filter(has_text="creature.png")
        dismiss = creatures.get_by_role("button", name="These are not duplicates")
        dismiss.click()
        expect(page.get_by_text("Remembered")).to_be_focused()
        page.get_by_role("button", name="Undo").click()
        expect(creatures.locator(".tile")).to_have_count(2)
        expect(dismiss).to_be_focused()
        expect(dismiss).to_be_enabled()
        dismiss.click()
        page.get_by_role("link", name="Groups you took off the list").click()
        settled(page)
        expect(page.locator(".tabs [aria-current]")).to_have_text("Duplicates")
        assert sorted(page.locator(".group .name").all_inner_texts()) == ["creature (large).jpg", "creature.png"]
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("shown as duplicates again")).to_be_focused()
        page.get_by_role("link", name="Duplicates", exact=True).click()
        page.get_by_role("link", name="Near copies").click()
        settled(page)
        expect(creatures.locator(".tile")).to_have_count(2)
        page.goto(f"{url}#/marks")
        expect(page.locator("main").get_by_text("No group was taken off the list")).to_be_visible()
        page.context.close()
