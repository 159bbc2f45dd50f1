"""Clusters, duplicates and the map. A real gallery answers like the fake one."""

import os

import numpy as np
import pytest
from fake_gallery import SIDE, FakeIndex, by_colour, real_gallery, view
from hypothesis import given, settings, strategies as st
from visits import client, made

from gallery import derived
from gallery.derived import Duplicates, packed, split, unpacked
from gallery.group_names import group_names
from gallery.groups import NO_LINKS
from gallery.page import request_params as params
from gallery.page.gallery_view import GalleryView
from gallery.store import Gallery


def test_every_image_is_in_one_cluster(page, galleries):
    total = made(page, "/api/0/clusters")["total"]
    cards = [
        card for start in range(0, total, 2) for card in made(page, "/api/0/clusters", start=start, count=2)["clusters"]
    ]
    assert [card["id"] for card in cards] == list(range(total))
    assert [card["size"] for card in cards] == sorted((card["size"] for card in cards), reverse=True)
    seen = []
    for card in cards:
        found = made(page, f"/api/0/clusters/{card['id']}", count=500)
        assert found["total"] == card["size"] and found["items"][:4] == card["items"]
        assert found["name"] == card["name"]
        seen += [item["key"] for item in found["items"]]
    assert sorted(seen) == sorted(galleries[0].gallery.keys)
    gallery = galleries[0].gallery
    names = group_names([gallery.shown(row) for row in range(len(gallery))], derived.groups(gallery))
    assert [card["name"] for card in cards] == names == [name for name, _ in derived.named_groups(gallery)]


def test_the_same_files_are_found(page, galleries):
    found = made(page, "/api/0/duplicates")
    assert found["total"] == 1 and found["images"] == 3
    (group,) = found["groups"]
    assert sorted(item["name"] for item in group["items"]) == ["00.png", "copy of it.png", "copy.png"]
    assert group["similarity"] == 1


def test_a_smaller_copy_is_found(page):
    groups = made(page, "/api/0/duplicates", kind="near", count=500)["groups"]
    assert ["01.png", "smaller.jpg"] in [sorted(item["name"] for item in group["items"]) for group in groups]


def test_turned_and_threshold_are_handed_on(page, monkeypatch):
    from gallery import duplicates

    asked, none = [], duplicates.Near([], NO_LINKS)
    monkeypatch.setattr(duplicates, "near", lambda prints, hashes, turned, **_: asked.append(turned) or none)
    made(page, "/api/0/duplicates", kind="near", turned=1)
    made(page, "/api/0/duplicates", kind="near")
    assert asked == [True, False]
    asked.clear()
    monkeypatch.undo()
    monkeypatch.setattr(duplicates, "alike", lambda embeddings, search, threshold, *rest: asked.append(threshold) or [])
    for threshold in ("0.85", "0.8500001", "1", ".7"):
        made(page, "/api/0/duplicates", kind="alike", threshold=threshold)
    assert asked == [0.85, 1.0, 0.7]


def test_no_two_images_are_shown_together_twice(page, galleries):
    shown = {}
    for kind in ("identical", "near", "alike"):
        groups = made(page, "/api/0/duplicates", kind=kind, count=500, threshold=0.5)["groups"]
        shown[kind] = [{item["key"] for item in group["items"]} for group in groups]
        assert groups and all(len(group["items"]) == group["size"] > 1 for group in groups)
    for kind, other in (("identical", "near"), ("identical", "alike"), ("near", "alike")):
        assert all(len(group & later) < 2 for group in shown[kind] for later in shown[other])


def test_the_usual_likeness_is_that_of_a_quarter_of_the_images(page, galleries, monkeypatch):
    from gallery import duplicates

    asked = []
    monkeypatch.setattr(duplicates, "alike", lambda embeddings, search, threshold, *rest: asked.append(threshold) or [])
    for g, each in enumerate(galleries):
        gallery = each.gallery
        other = (gallery.hashes[:, None] != gallery.hashes).any(2)
        nearest = np.where(other, gallery.embeddings @ gallery.embeddings.T, -1).max(1)
        expected = min(0.95, max(0.2, np.quantile(nearest, 0.75)))
        assert 0 <= expected - each.alike < 0.01 and round(each.alike, 2) == each.alike
        assert f'data-alike="{each.alike}"' in page.get("/").text
        made(page, f"/api/{g}/duplicates", kind="alike")
    assert asked == [each.alike for each in galleries]


def test_what_the_user_says_are_no_duplicates_is_not_shown_again(page, galleries):
    (group,) = made(page, "/api/0/duplicates")["groups"]
    keys = [item["key"] for item in group["items"]]
    mark = page.post("/api/0/not_duplicate", json={"keys": keys[:2]}).json()["mark"]
    left = made(page, "/api/0/duplicates")
    assert left["total"] == 1 and left["images"] == 2
    page.post("/api/0/not_duplicate", json={"keys": keys})
    assert made(page, "/api/0/duplicates")["groups"] == []
    gallery = galleries[0].gallery
    assert gallery.apart()[-1] == sorted(gallery.row_of(name) for name in keys)
    assert made(page, "/api/1/duplicates")["total"] == 0  # a mark holds in all galleries of the page
    assert page.get("/api/1/marks").json()["marks"][-1]["mark"] == mark


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=5, unique=True), max_size=4),
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=4, unique=True), max_size=4),
)
@settings(deadline=None)
def test_split(groups, apart):
    found = Duplicates([np.array(group) for group in groups], np.arange(len(groups), dtype=np.float32))
    left = split(found, apart)
    assert len(left.rows) == len(left.similarities)
    together = lambda pair: any(pair <= set(group) for group in apart)
    for rows, similarity in zip(left.rows, left.similarities):
        assert len(rows) > 1 and set(rows) <= set(groups[int(similarity)])
        assert not any(together({a, b}) for a in rows for b in rows if a != b)
    for number, group in enumerate(groups):
        if not any(together({a, b}) for a in group for b in group if a != b):
            assert [rows.tolist() for rows, s in zip(left.rows, left.similarities) if s == number] == [group]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1)))
@settings(deadline=None)
def test_lists_of_rows_survive_being_kept(lists):
    assert [rows.tolist() for rows in unpacked(packed(lists))] == lists


def test_a_huge_group_is_shown_in_part(page, monkeypatch):
    monkeypatch.setattr(params, "SHOWN", 2)
    (group,) = made(page, "/api/0/duplicates")["groups"]
    assert group["size"] == 3 and len(group["items"]) == 2


def test_the_map_shows_images_evenly(page, galleries, monkeypatch):
    whole_map = made(page, "/api/1/map")
    assert whole_map["shown"] == whole_map["total"] == galleries[0].count and whole_map["keys"] == galleries[0].gallery.keys
    monkeypatch.setattr(derived, "ON_MAP", 7)
    places = made(page, "/api/0/map")
    total = galleries[0].count
    assert places["shown"] == 7 and places["total"] == total
    rows = [galleries[0].gallery.row_of(name) for name in places["keys"]]
    assert rows[0] == 0 and np.ptp(np.diff([*rows, total])) <= 1
    assert all(0 <= place <= 1 for axis in "xy" for place in places[axis]) and len(places["x"]) == len(places["y"]) == 7
    cards = made(page, "/api/0/clusters", count=500)["clusters"]
    legend = [{name: card[name] for name in ("id", "name", "size")} for card in cards if card["id"] in places["cluster"]]
    assert places["groups"] == legend and len(legend) < len(cards)  # a group without an image on the map has no entry
    assert set(places["cluster"]) == {group["id"] for group in legend}
    for row, number in zip(rows, places["cluster"]):
        members = made(page, f"/api/0/clusters/{number}", count=500)["items"]
        assert galleries[0].gallery.keys[row] in [item["key"] for item in members]


# ---- a real gallery --------------------------------------------------------------------------------------------------


@pytest.fixture
def real(folder, tmp_path):
    """real(paths) writes a gallery of these images, each time into the same folder, and returns its GalleryView."""
    root, paths = folder
    place = str(tmp_path / "gallery")
    os.makedirs(place)

    def write(chosen=paths):
        gallery = real_gallery(place, "ready-made", chosen, by_colour, root)
        return GalleryView(gallery, FakeIndex(gallery.embeddings), by_colour, side=SIDE)

    return write


def every_answer(page, name):
    """Return all answers of the page about its images."""
    search = page.get("/api/0/search", params={"image": name, "count": 500}).json()
    del search["milliseconds"]
    duplicates = made(page, "/api/0/duplicates?kind=near")
    del duplicates["stamp"]
    return [search, duplicates, *(made(page, f"/api/0/{path}") for path in ("clusters?count=500", "map", "bad"))]


def test_a_real_gallery_answers_as_the_fake_one(real, folder):
    root, paths = folder
    fake = view("ready-made", paths, by_colour, root)
    name = fake.gallery.keys[3]
    assert every_answer(client([real()]), name) == every_answer(client([fake]), name)


def test_a_gallery_that_is_written_anew_meanwhile(real, folder):
    one = real()
    page, name = client([one]), one.gallery.keys[3]
    before = every_answer(page, name)
    real(folder[1][:5])  # now it has fewer rows
    assert every_answer(page, name) == before
    page = client([one])  # a new page of the old gallery does not use the new files either
    assert every_answer(page, name) == before


def test_what_was_made_is_kept_for_the_next_start(real, monkeypatch):
    from gallery import duplicates
    from utils.clustering import grouping, layout

    one = real()
    page, name = client([one]), one.gallery.keys[3]
    (group,) = made(page, "/api/0/duplicates")["groups"]
    page.post("/api/0/not_duplicate", json={"keys": [item["key"] for item in group["items"]]})
    before = every_answer(page, name)
    results = (
        (grouping, "group"),
        (derived, "group_names"),
        (layout, "layout"),
        (duplicates, "near"),
        (duplicates, "identical"),
    )
    for module, function in results:
        monkeypatch.setattr(module, function, None)
    again = Gallery(one.gallery.folder)
    page = client([GalleryView(again, one.index, by_colour, side=SIDE)])
    assert every_answer(page, name) == before
    assert made(page, "/api/0/duplicates")["groups"] == []
