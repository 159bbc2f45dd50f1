"""search.py query, on a small gallery, against comparisons by hand."""

import io
import json
import os
import re
import shutil
import sys

import numpy as np
from searched import MARKUP, is_same, nearest

import models
from galleries import photo, snapshot
from gallery.scale import Scale
from gallery.store import Gallery


def test_a_table_of_the_most_similar(search, made, folder):
    gallery = Gallery(folder)
    out = search("query", folder, made / "photos" / "002.jpg", "-k", 4)
    first, *lines, last = out.splitlines()
    assert first == f"{made}/photos/002.jpg" and re.fullmatch(r"12 images searched in \d+\.\d ms a query; %: .+", last)
    assert lines[0].endswith("  worse.jpg") and len(lines) == 4
    assert last.endswith("%: more similar than so many per cent of neighbours; beside it the similarity, of 1")
    row = gallery.row_of_path[f"{made}/photos/002.jpg"]
    expected = nearest(gallery, gallery.embeddings[row], 4, own=[row])
    found = [re.fullmatch(r"  ([ \d]{3}) %  ( \d\.\d{3}|-\d\.\d{3})  (.+)", line).groups() for line in lines]
    assert is_same([{"similarity": float(s), "path": p} for _, s, p in found], [(p, round(s, 3)) for p, s in expected])
    assert "12 images, exact" in search.remarks  # the gallery had no index
    assert search("query", folder, made / "photos" / "002.jpg", "-k", 4).splitlines()[:-1] == [first, *lines]
    assert search.remarks == ""
    (as_json,) = json.loads(search("query", folder, made / "photos" / "002.jpg", "-k", 4, "--json"))
    assert [int(percent) for percent, *_ in found] == [item["closer_than"] for item in as_json["found"]]


def test_results_below_a_least_place_on_the_scale_are_left_out(search, refusal, made, folder):
    query = "query", folder, made / "photos" / "002.jpg", "-k", 11
    (whole,), least = json.loads(search(*query, "--json")), 40
    (part,) = json.loads(search(*query, "--json", "--least", least))
    assert part["found"] == [item for item in whole["found"] if item["closer_than"] >= least]
    assert 0 < len(part["found"]) < len(whole["found"])
    _, *lines, _ = search(*query, "--least", least).splitlines()
    assert [line[17:] for line in lines] == [item["path"].replace("\n", "\\n") for item in part["found"]]
    other = made / "photos" / "004.jpg"
    assert search("query", folder, other, "--least", 100).splitlines()[1] == "  nothing is that similar"
    for wrong in ("-1", "101", "0.5", "x"):
        assert "--least" in refusal(*query, "--least", wrong)


def test_it_is_said_when_nothing_is_like_a_query(search, made, folder, tmp_path, monkeypatch):
    query = "query", folder, made / "photos" / "002.jpg", "-k", 2
    says = "nothing in the gallery seems to be like it; the nearest:"
    assert says not in search(*query) and not json.loads(search(*query, "--json"))[0]["nothing_like_it"]
    monkeypatch.setattr(Scale, "nothing_like", lambda *_: True)
    _, first, *others = search(*query).splitlines()
    assert first == f"  {says}" and len(others) == 3
    assert json.loads(search(*query, "--json"))[0]["nothing_like_it"] is True
    search(*query, "--html", tmp_path / "found.html")
    written = (tmp_path / "found.html").read_text()
    assert "Nothing in the gallery seems to be like it" in written and "More similar than" in written


def test_json_of_several_queries_at_once(search, made, folder):
    gallery, rows = Gallery(folder), [3, 0]
    results = json.loads(search("query", folder, *(gallery.paths[row] for row in rows), "--json", "-k", 5))
    assert [result["query"] for result in results] == [gallery.paths[row] for row in rows]
    for row, result in zip(rows, results):
        assert (
            is_same(result["found"], nearest(gallery, gallery.embeddings[row], 5, own=[row])) and len(result["found"]) == 5
        )
        assert all(gallery.shown(item["row"]) == item["path"] for item in result["found"])


def test_several_images_as_one_query(search, made, folder):
    gallery = Gallery(folder)
    (result,) = json.loads(search("query", folder, *gallery.paths[:3], "--together", "--json", "-k", 50))
    mean = np.asarray(gallery.embeddings[:3], np.float64).mean(0)
    copy = gallery.row_of_path[f"{made}/photos/same.jpg"]  # a copy of the first query image, so it ranks first
    others = nearest(gallery, mean / np.linalg.norm(mean), 9, own=[0, 1, 2, copy])
    assert is_same(result["found"], [("same.jpg", 1.0), *others]) and result["found"][0]["path"] == "same.jpg"
    assert result["query"] == " + ".join(gallery.paths[:3])


def test_an_image_of_the_gallery_that_has_changed(search, photos_and_gallery):
    """The query is the file's present content. Its old row still belongs to it, so it is left out."""
    own, gallery, _ = photos_and_gallery
    (own / "002.jpg").write_bytes((own / "004.jpg").read_bytes())
    (result,) = json.loads(search("query", gallery, own / "002.jpg", "--json", "-k", 50))
    paths = [item["path"] for item in result["found"]]
    assert (paths[0], result["found"][0]["similarity"]) == ("004.jpg", 1.0)  # both have the same bytes now
    assert "002.jpg" not in paths and len(paths) == 11


def test_an_image_from_elsewhere(search, folder, tmp_path, made):
    path = photo(tmp_path / "elsewhere.png", 77, (300, 200))
    (result,) = json.loads(search("query", folder, path, "--json"))
    query = models.load(made / "ckp_ep1.pth.tar").embed(path)[0]
    assert is_same(result["found"], nearest(Gallery(folder), query, 10))


def test_names_are_shown_on_one_line_and_in_any_encoding(search, run, made, folder, monkeypatch):
    lines = search("query", folder, made / "photos" / MARKUP, "-k", 50).splitlines()
    assert len(lines) == 13 and all(line.isprintable() for line in lines)
    assert lines[0].endswith(MARKUP) and any(line.endswith("  new\\nline.jpg") for line in lines)
    assert any(line.endswith("  caf\N{REPLACEMENT CHARACTER}.jpg") for line in lines)
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    run("search", "query", folder, os.fsencode(made / "photos").decode() + "/caf\udce9.jpg", "-k", 50)
    held = ascii_only.buffer.getvalue().decode()
    assert "\\u2603.jpg" in held and len(held.splitlines()) == 13


def test_a_page_in_one_file(search, folder, made, tmp_path):
    before = snapshot(made / "photos")
    query = made / "photos" / MARKUP
    assert search("query", folder, query, made / "photos" / "002.jpg", "--html", tmp_path / "found.html", "-k", 12) == ""
    page = (tmp_path / "found.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 12 and "<img src=x" not in page and "&lt;img src=x" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page) and "<script" not in page
    assert snapshot(made / "photos") == before
    assert search("query", folder, query, "--html", tmp_path / "one.html", "--json", "-k", 1).startswith("[")


def test_images_that_cannot_be_queried(refusal, folder, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    assert f"{tmp_path}/bad.jpg: cannot be read as an image" in refusal("query", folder, tmp_path / "bad.jpg")
    assert "gone.jpg: cannot be read (No such file or directory)" in refusal("query", folder, tmp_path / "gone.jpg")
    assert refusal("query", folder, "no\nsuch.jpg") == "no\\nsuch.jpg: cannot be read (No such file or directory)"
    os.mkfifo(tmp_path / "pipe")  # nobody will ever write into it
    for name, why in (("pipe", "not a file"), ("", "not a file")):
        assert refusal("query", folder, tmp_path / name) == f"{tmp_path / name}: cannot be read ({why})"
    assert "invalid choice: 'qu\\nery'" in refusal("qu\nery", folder, "x.jpg")
    assert "unrecognized arguments: --js\\non" in refusal("query", folder, "x.jpg", "--js\non")
    assert "holds a line break" in refusal("query", folder / "a\nb", "x.jpg")
    assert "holds a line break" in refusal("query", folder, "x.jpg", "--html", "a\nb")


def test_a_name_with_a_line_break_can_be_searched_with(search, made, folder, tmp_path):
    own = os.fsencode(made / "photos") + b"/new\nline.jpg"
    shutil.copy(own, tmp_path / "another\nline.jpg")
    first, *lines = search("query", folder, os.fsdecode(own), tmp_path / "another\nline.jpg", "-k", 1).splitlines()
    assert first == f"{made}/photos/new\\nline.jpg" and "  new\\nline.jpg" not in lines[0]
    assert lines[1] == f"{tmp_path}/another\\nline.jpg" and lines[2].endswith("  new\\nline.jpg")
    assert search("duplicates", folder, "--not_duplicate", "new\nline.jpg", "000.jpg") == ""


def test_a_link_to_an_image_of_the_gallery_is_that_image(search, made, folder, tmp_path):
    (tmp_path / "link.jpg").symlink_to(made / "photos" / "002.jpg")
    (result,) = json.loads(search("query", folder, tmp_path / "link.jpg", "--json", "-k", 50))
    assert len(result["found"]) == 11 and "002.jpg" not in [item["path"] for item in result["found"]]
