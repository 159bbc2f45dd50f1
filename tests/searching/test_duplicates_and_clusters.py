"""search.py duplicates and clusters."""

import json
import re

import pytest
from PIL import Image

from galleries import photo, snapshot
from gallery.store import Gallery


def groups(search, folder, *more):
    """Return the groups of each class by the command `duplicates`: {class: [[path, ...], ...]}."""
    found = json.loads(search("duplicates", folder, "--json", *more))
    return {kind: [[item["path"] for item in group["images"]] for group in some] for kind, some in found.items()}


def test_duplicates_of_three_kinds(search, folder):
    found = groups(search, folder, "--threshold", 1)
    assert found == {"identical": [["000.jpg", "same.jpg"]], "near": [["002.jpg", "worse.jpg"]], "burst": [], "alike": []}
    everything = groups(search, folder, "--threshold", -1)
    assert sum(len(group) for group in everything["alike"]) > 2
    lines = search("duplicates", folder, "--threshold", 1).splitlines()
    assert lines[0] == "the same bytes: 2 images in 1 group" and lines[1] == "   1.000  000.jpg  same.jpg"
    assert len(lines) == 6 and lines[4].startswith("bursts") and lines[5].startswith("look-alikes: 0 images")


def test_what_is_no_duplicate_is_remembered(search, refusal, made, photos_and_gallery, monkeypatch):
    own, gallery, again = photos_and_gallery
    search("duplicates", gallery, "--not_duplicate", own / "000.jpg", "same.jpg")
    assert "remembered" in search.remarks
    assert groups(search, gallery, "--threshold", 1)["identical"] == []
    photo(own / "000000.jpg", 80)  # this shifts the rows
    again("--checkpoint", made / "ckp_ep1.pth.tar")
    found = groups(search, gallery, "--threshold", 1)
    assert found["identical"] == [] and found["near"] == [["002.jpg", "worse.jpg"]]
    monkeypatch.chdir(own / "deep")
    search("duplicates", gallery, "--not_duplicate", "../002.jpg", "worse.jpg")
    assert groups(search, gallery, "--threshold", 1) == {"identical": [], "near": [], "burst": [], "alike": []}
    assert f"nowhere.jpg: not an image of {gallery}" in refusal("duplicates", gallery, "--not_duplicate", "nowhere.jpg", "x")
    assert "two images or more" in refusal("duplicates", gallery, "--not_duplicate", "same.jpg", own / "same.jpg")


def test_clusters_hold_every_image_once(search, refusal, folder):
    names = sorted(Gallery(folder).shown(row) for row in range(12))
    for k in ("2", "5", "auto"):
        found = json.loads(search("clusters", folder, "-k", k, "--json"))
        assert sorted(name for cluster in found for name in cluster) == names
        assert len(found) == int(k) if k != "auto" else 1 <= len(found) <= 12
    lines = search("clusters", folder, "-k", 2).splitlines()
    assert all(re.match(r" +\d+  (Group \d|deep( \(2\))?) +  .+", line) for line in lines)
    assert len(lines) == 2 and sum(int(line.split()[0]) for line in lines) == 12
    for k in ("0", "13", "x", "-1", "1.5"):
        assert "give auto, or 1 to 12 for 12 images" in refusal("clusters", folder, f"-k={k}")


def test_contact_sheets(search, folder, made, tmp_path):
    pytest.importorskip("gallery.sheets")
    before = snapshot(made / "photos")
    assert search("clusters", folder, "-k", 3, "--out", tmp_path / "sheets") == ""
    assert "3 contact sheets written" in search.remarks and snapshot(made / "photos") == before
    for sheet in (tmp_path / "sheets").iterdir():
        with Image.open(sheet) as opened:
            assert min(opened.size) > 32
