"""Neighbours of images and of uploaded pictures, compared with NumPy."""

import io
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from fake_gallery import FakeIndex, unit, view
from hypothesis import given, settings, strategies as st
from visits import client, jpeg_of, key, made, noise, send

from browser import served as browser_served, settled
from gallery.page import uploads as uploads_file
from gallery.page.app import create_app
from gallery.page.gallery_view import GalleryView
from gallery.scale import UNKNOWN
from gallery.table import File


def slow_neighbours(gallery, own, mean, copies):
    """Return [(row, similarity)]: first the copies, then the other rows by similarity."""
    mean = mean / max(np.linalg.norm(mean), 1e-12)
    others = [row for row in range(len(gallery.keys)) if row not in own and row not in copies]
    ranked = sorted(others, key=lambda row: -float(gallery.embeddings[row] @ mean))
    return [(row, 1.0) for row in copies] + [(row, float(gallery.embeddings[row] @ mean)) for row in ranked]


@pytest.mark.parametrize("g", (0, 1))
def test_neighbours_of_an_image(page, galleries, g):
    gallery = galleries[g].gallery
    clicked = key(galleries[g], "00.png")
    found = page.get(f"/api/{g}/search", params={"image": clicked, "count": 500}).json()
    assert found["queries"] == [{"key": clicked, "name": "00.png", "path": "00.png"}]
    copies = [gallery.row_of(key(galleries[g], name)) for name in ("copy.png", "copy of it.png")]
    row = gallery.row_of(clicked)
    expected = slow_neighbours(gallery, [row], gallery.embeddings[row], copies)
    assert [item["key"] for item in found["items"]] == [gallery.keys[row] for row, _ in expected]
    assert np.allclose([item["similarity"] for item in found["items"]], [s for _, s in expected], atol=1e-4)
    assert found["items"][0]["similarity"] == 1.0 and {"name", "path"} < set(found["items"][0])
    assert found["total"] == len(expected) and found["milliseconds"] >= 0


def test_several_images_are_one_query(page, galleries, drawn):
    gallery = galleries[0].gallery
    rows = [gallery.row_of(key(galleries[0], name)) for name in ("02.png", "large.jpg")]
    sent = send(page, open(os.path.join(drawn[0], "04.png"), "rb").read())
    query = {"image": [gallery.keys[row] for row in rows], "upload": sent, "count": 500}
    found = page.get("/api/0/search", params=query).json()
    assert found["queries"][2] == {"upload": sent}
    same = gallery.row_of(key(galleries[0], "04.png"))
    expected = slow_neighbours(gallery, rows, gallery.embeddings[[*rows, same]].mean(0), [same])
    assert [item["key"] for item in found["items"]] == [gallery.keys[row] for row, _ in expected]


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_pages_of_neighbours_make_up_the_slow_list(data):
    count = data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    embeddings = unit(rng.integers(1, 4, (count, 3)).astype(np.float32))  # integers, so that there are ties
    hashes = np.repeat(np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), np.uint8), 16)
    keys = [f"{row:016x}" for row in range(count)]
    paths = [f"/photos/{row:02d}.jpg" for row in range(count)]
    hashes = hashes.reshape(-1, 16)
    gallery = SimpleNamespace(
        name="",
        about={"model": ""},
        stamp="",
        root="/photos",
        paths=paths,
        files=[File(path, 0, 0) for path in paths],
        embeddings=embeddings,
        hashes=hashes,
        keys=keys,
        row_of=lambda name: keys.index(name) if name in keys else None,
        rows_of_hash=lambda digest: np.flatnonzero((hashes == np.frombuffer(digest, np.uint8)).all(1)),
    )
    index = FakeIndex(embeddings)
    if data.draw(st.booleans()):  # as an inverted file that finds two neighbours less
        index = SimpleNamespace(
            search=lambda q, k: [
                np.pad(x, ((0, 0), (0, 2)), constant_values=-1) for x in FakeIndex(embeddings).search(q, k)
            ],
            neighbours=None,
            scale=UNKNOWN,
        )
    view = GalleryView(gallery, index, None)
    own = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=3))
    step = data.draw(st.integers(1, 5))
    view.gone = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    answers = [view.neighbours(own, [], start, step) for start in range(0, count, step)]
    found = [item for answer in answers for item in answer["items"]]
    copies = [r for r in range(count) if r not in own and any((gallery.hashes[r] == gallery.hashes[o]).all() for o in own)]
    expected = slow_neighbours(gallery, own, embeddings[sorted(set(own))].mean(0), copies)
    expected = [(row, similarity) for row, similarity in expected if not view.gone[row]]
    assert answers[0]["total"] == len(expected)
    assert sorted(item["key"] for item in found) == sorted(keys[row] for row, _ in expected)  # each image once
    assert np.allclose([item["similarity"] for item in found], [s for _, s in expected], atol=1e-3)


def test_a_folder_of_one_image(drawn):
    root, paths = drawn
    one = view("ready-made", paths[:1], root=root)
    page = client([one])
    assert page.get("/").status_code == 200
    assert page.get("/api/0/search", params={"image": one.gallery.keys[0]}).json()["items"] == []
    found = page.get("/api/0/search", params={"upload": send(page, open(paths[5], "rb").read())}).json()
    assert [item["name"] for item in found["items"]] == ["00.png"]
    assert made(page, "/api/0/clusters")["total"] == 1
    assert made(page, "/api/0/duplicates")["groups"] == []
    places = made(page, "/api/0/map")
    assert places["keys"] == one.gallery.keys and all(0 <= places[axis][0] <= 1 for axis in "xy")


# ---- uploads ---------------------------------------------------------------------------------------------------------


def test_an_upload_finds_the_file_that_it_is_of(page, galleries):
    for g, each in enumerate(galleries):
        for row, path in enumerate(each.gallery.paths):
            if path.endswith(("00.png", "copy.png", "copy of it.png")):
                continue
            sent = send(page, open(path, "rb").read())
            first = page.get(f"/api/{g}/search", params={"upload": sent, "count": 1}).json()["items"][0]
            assert first == {**each.item(row), "similarity": 1.0, "closer_than": None}


def test_an_upload_in_another_format_finds_its_image(page, galleries, drawn):
    for name, options in (("WEBP", {"quality": 90}), ("TIFF", {}), ("BMP", {}), ("GIF", {}), ("AVIF", {}), ("PPM", {})):
        file = io.BytesIO()
        noise(7).save(file, name, **options)
        found = page.get("/api/1/search", params={"upload": send(page, file.getvalue()), "count": 3}).json()["items"]
        assert found[0]["name"] == "07.png" and found[0]["similarity"] > 0.98


def test_an_upload_has_a_thumbnail_and_keeps_no_more(page, drawn):
    sent = send(page, open(os.path.join(drawn[0], "large.jpg"), "rb").read())
    assert jpeg_of(page.get(f"/upload/{sent}")).size == (341, 256)
    assert page.get("/upload/none").status_code == 404


def test_an_upload_that_is_turned_is_turned_back(page, drawn):
    sent = send(page, open(os.path.join(drawn[0], "turned.jpg"), "rb").read())
    assert jpeg_of(page.get(f"/upload/{sent}")).size == (40, 60)


def test_only_the_newest_uploads_are_kept(galleries, drawn, monkeypatch):
    monkeypatch.setattr(uploads_file, "KEPT", 3)
    page = client(galleries)
    data = open(drawn[1][0], "rb").read()
    tokens = [send(page, data) for _ in range(3)]
    assert len(set(tokens)) == 3  # several tabs may send the same picture, so each gets its own token
    assert page.get(f"/upload/{tokens[0]}").status_code == 200  # a used upload counts as new again
    tokens.append(send(page, data))
    assert [page.get(f"/upload/{token}").status_code for token in tokens] == [200, 404, 200, 200]
    answer = page.get("/api/0/search", params={"upload": tokens[1]})
    assert answer.status_code == 410 and "Send it again" in answer.json()["error"]


def test_without_neighbours_a_result_shows_its_similarity_alone(chrome, drawn):
    with browser_served(create_app([view("ready-made", drawn[1], root=drawn[0])], ["127.0.0.1"])) as url:
        page = chrome.new_page()
        page.goto(f"{url}#/search?image={key(view('ready-made', drawn[1][:1], root=drawn[0]), '00.png')}")
        numbers = settled(page).locator(".tile .number").all_text_contents()
        assert numbers[0] == "similarity 1.00 of 1"
        assert all(re.fullmatch(r"similarity [01]\.\d\d of 1", text) for text in numbers)
        assert page.get_by_label("At least this similar").is_hidden()
        page.close()
