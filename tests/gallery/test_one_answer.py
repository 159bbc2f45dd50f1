"""Shell and page give the same answers: both are asked about one folder that embed.py has embedded."""

import json
import os
import shutil

import pytest
from page.visits import client, made, send
from PIL import Image

from galleries import TINY, checkpoint_of, photo, photos
from gallery.model import of_gallery
from gallery.page.gallery_view import GalleryView
from gallery.search import open_gallery


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, run_once):
    """A folder with photos (some copied, some turned) and its gallery, and a photo from elsewhere."""
    top = tmp_path_factory.mktemp("one answer")
    names = photos(top / "photos", 12)
    shutil.copy(names[0], top / "photos" / "same.jpg")
    with Image.open(names[1]) as picture:
        picture.save(top / "photos" / "worse.jpg", quality=30)
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(top / "photos" / "mirrored.jpg", quality=95)
    photo(top / "elsewhere.jpg", 99, (90, 70))
    flags = ("--images", top / "photos", "--checkpoint", checkpoint_of(top, 1), *TINY)
    run_once("embed", *flags, "--out", top / "gallery")
    return top


@pytest.fixture
def shell(run, embedded, capsys):
    """shell("query", ...) runs search.py, and returns the JSON that it prints."""

    def call(command, *arguments):
        capsys.readouterr()
        run("search", command, embedded / "gallery", *arguments, "--json")
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def page(embedded):
    gallery, index = open_gallery(str(embedded / "gallery"))
    model = of_gallery(gallery)
    page = client([GalleryView(gallery, index, model.embed, model.embedder.transforms.origin_width)])
    page.gallery = gallery
    return page


def pairs(items):
    """Return [(path, similarity)], and check that all have a place on the gallery's scale."""
    assert all(0 <= item["closer_than"] <= 100 for item in items)
    return [(item["path"], item["similarity"]) for item in items]


def of_path(page, name):
    """Return the key of an image."""
    return page.gallery.keys[page.gallery.row_of_path[name]]


@pytest.mark.parametrize("name", ["000.jpg", "deep/001.jpg", "same.jpg"])
def test_look_alikes_of_an_image_of_the_folder(shell, page, embedded, name):
    path = str(embedded / "photos" / name)
    (printed,) = shell("query", path, "-k", 100)
    shown = page.get("/api/0/search", params={"image": of_path(page, path), "count": 100}).json()
    assert pairs(printed["found"]) == pairs(shown["items"])
    assert [item["closer_than"] for item in printed["found"]] == [item["closer_than"] for item in shown["items"]]
    assert len(printed["found"]) == len(page.gallery) - 1 and name not in dict(pairs(printed["found"]))


def test_look_alikes_of_several_images_together(shell, page, embedded):
    paths = [str(embedded / "photos" / name) for name in ("002.jpg", "000.jpg", "002.jpg")]
    (printed,) = shell("query", *paths, "--together", "-k", 100)
    shown = page.get("/api/0/search", params={"image": [of_path(page, path) for path in paths], "count": 100}).json()
    assert pairs(printed["found"]) == pairs(shown["items"]) and printed["found"][0]["path"] == "same.jpg"


def test_look_alikes_of_a_file_from_elsewhere(shell, page, embedded):
    for path in (embedded / "elsewhere.jpg", shutil.copy(embedded / "photos" / "004.jpg", embedded / "a copy.jpg")):
        (printed,) = shell("query", path, "-k", 100)
        with open(path, "rb") as file:
            sent = send(page, file.read())
        shown = page.get("/api/0/search", params={"upload": sent, "count": 100}).json()
        assert [name for name, _ in pairs(printed["found"])] == [name for name, _ in pairs(shown["items"])]
        expected = [similarity for _, similarity in pairs(shown["items"])]
        assert [similarity for _, similarity in pairs(printed["found"])] == pytest.approx(expected, abs=1e-4)
    assert pairs(printed["found"])[0] == ("004.jpg", 1.0)


def groups_of(page, kind, **query):
    groups = made(page, "/api/0/duplicates", kind=kind, count=500, **query)["groups"]
    return [(group["similarity"], sorted(item["path"] for item in group["items"])) for group in groups]  # the best is first


def printed_groups(found):
    return {
        kind: [(g["similarity"], sorted(i["path"] for i in g["images"])) for g in groups] for kind, groups in found.items()
    }


@pytest.mark.parametrize("turned", [False, True])
def test_duplicates(shell, page, turned):
    printed = printed_groups(shell("duplicates", "--threshold", 0.98, *["--turned"] * turned))
    for kind in ("identical", "near", "burst"):
        assert printed[kind] == groups_of(page, kind, turned=int(turned))
    if not turned:
        assert printed["alike"] == groups_of(page, "alike", threshold=0.98) != []
    copies = [set(paths) for _, paths in printed["near"]]
    wanted = {"002.jpg", "worse.jpg"} | ({"mirrored.jpg"} if turned else set())
    assert any(wanted <= group for group in copies)


def test_the_usual_threshold(shell, page):
    printed = printed_groups(shell("duplicates"))
    assert printed["alike"] == groups_of(page, "alike")  # both use the same default threshold


def test_groups(shell, page):
    printed = shell("clusters")
    total = made(page, "/api/0/clusters")["total"]
    shown = [made(page, f"/api/0/clusters/{number}", count=500)["items"] for number in range(total)]
    assert printed == [[item["path"] for item in items] for items in shown]


def test_not_duplicates_said_in_one_are_heard_in_the_other(embedded, run, tmp_path, capsys):
    folder = str(shutil.copytree(embedded / "gallery", tmp_path / "gallery"))
    gallery, index = open_gallery(folder)
    page = client([GalleryView(gallery, index, None)])
    assert groups_of(page, "identical") == [(1.0, ["000.jpg", "same.jpg"])]
    run("search", "duplicates", folder, "--not_duplicate", "000.jpg", "same.jpg")
    assert groups_of(page, "identical") == []
    keys = [gallery.keys[gallery.row_of_path[os.path.join(gallery.root, name)]] for name in ("002.jpg", "worse.jpg")]
    page.post("/api/0/not_duplicate", json={"keys": keys})
    capsys.readouterr()
    run("search", "duplicates", folder, "--json")
    printed = printed_groups(json.loads(capsys.readouterr().out))
    assert printed["identical"] == [] and not any("worse.jpg" in paths for _, paths in printed["near"])
    assert printed["near"] == groups_of(page, "near")
