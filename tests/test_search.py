"""search.py in use, on a small gallery, against comparisons by hand."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import models
from data.pixels import PIXELS
from galleries import TINY, checkpoint_of, photo, photos, snapshot
from gallery import index as indexes
from gallery.folder import PLACES
from gallery.scale import Scale
from gallery.store import Gallery
from utils.clustering.smooth import Neighbours, neighbours_among, smoothed_twice
from utils.errors import InputError, Interrupted, RunError
from utils.lock import locked

ROOT = Path(__file__).parents[1]
MARKUP = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_once):
    """A folder with photos (some are copies), a checkpoint, and the gallery that it makes of the photos."""
    top = tmp_path_factory.mktemp("made")
    names = photos(top / "photos", 6)
    shutil.copy(names[0], top / "photos" / "same.jpg")
    with Image.open(names[1]) as picture:
        picture.save(top / "photos" / "worse.jpg", quality=30)
    photo(top / "photos" / MARKUP, 30)
    for name in (b"caf\xe9.jpg", b"new\nline.jpg", "\N{SNOWMAN}.jpg".encode()):
        os.rename(photo(top / "photos" / "x.jpg", sum(name)), os.fsencode(top / "photos") + b"/" + name)
    flags = ("--images", top / "photos", "--checkpoint", checkpoint_of(top, 1), *TINY)
    run_once("embed", *flags, "--out", top / "gallery")
    return top


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the gallery. The photos stay in their place."""
    return shutil.copytree(made / "gallery", tmp_path / "gallery")


@pytest.fixture
def search(run, capsys, monkeypatch):
    """search(COMMAND, ...) returns the output; search.remarks holds the lines on stderr. No graph is written."""
    monkeypatch.setattr("gallery.query_graph.prepare", lambda place, model: None)

    def call(*arguments):
        capsys.readouterr()
        run("search", *arguments)
        out, call.remarks = capsys.readouterr()
        return out

    return call


@pytest.fixture
def refusal(run):
    """refusal(COMMAND, ...) returns the one line of an error."""

    def call(*arguments, kind=InputError):
        with pytest.raises(kind) as caught:
            run("search", *arguments)
        message = getattr(caught.value, "shown", str(caught.value))
        assert message.isprintable()
        return message

    return call


def nearest(gallery, query, k, own=()):
    """Return [(shown path, similarity)], without the query's own rows: the order of all smoothed rows, and the similarity
    of the rows as they are."""
    embeddings, query = np.asarray(gallery.embeddings, np.float32), np.asarray(query, np.float32)
    others = np.setdiff1d(np.arange(len(embeddings)), own)
    table = neighbours_among(embeddings, embeddings, np.arange(len(embeddings)))
    length_one = query / np.linalg.norm(query)
    found = neighbours_among(length_one[None], embeddings[others])
    near = Neighbours(np.where(found.rows < 0, -1, others[found.rows]), found.similarities)
    smoothed = smoothed_twice(embeddings, table, embeddings, table)
    (own_smoothed,) = smoothed_twice(embeddings, table, length_one[None], near)
    order = others[np.argsort(-(smoothed[others] @ own_smoothed), kind="stable")]
    similar = embeddings.astype(float) @ query
    return [(gallery.shown(row), similar[row]) for row in order[:k].tolist()]


def is_same(found, expected):
    """Return True if a result is as expected. Equally similar images may be in any order."""
    close = np.allclose([item["similarity"] for item in found], [similarity for _, similarity in expected], atol=1e-4)
    given = dict(expected)
    return close and all(abs(given.get(item["path"], 9) - item["similarity"]) < 1e-4 for item in found[:-1])


# ---- query -----------------------------------------------------------------------------------------------------------


def test_a_table_of_the_most_similar(search, made, folder):
    gallery = Gallery(folder)
    out = search("query", folder, made / "photos" / "002.jpg", "-k", 4)
    first, *lines, last = out.splitlines()
    assert first == f"{made}/photos/002.jpg" and re.fullmatch(r"12 images searched in \d+\.\d ms a query; %: .+", last)
    assert lines[0].endswith("  worse.jpg") and len(lines) == 4
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
    assert "Nothing in the gallery seems to be like it" in (tmp_path / "found.html").read_text()


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


# ---- the index -------------------------------------------------------------------------------------------------------


def test_an_inverted_file_where_it_is_asked_for(search, made, folder):
    assert search("index", folder, "--exact_up_to", 0) == ""
    about = json.loads((folder / "index.json").read_text())
    line = rf"12 images, inverted file: {about['probes']} of {about['lists']} lists a query, recall@10 (\d\.\d+); \d+\.\d s"
    said = [re.fullmatch(line, text) for text in search.remarks.splitlines()]
    (found,) = filter(None, said)
    assert float(found[1]) == pytest.approx(about["recall"], abs=1e-3) and about["recall"] >= indexes.RECALL
    paths = [os.fsencode(made / "photos").decode() + "/000.jpg"]
    (result,) = json.loads(search("query", folder, *paths, "--json", "-k", 2))
    assert result["found"][0]["path"] == "same.jpg" and "row" in result["found"][0]
    assert json.loads((folder / "index.json").read_text()) == about  # the index was not built again
    search("index", folder)
    assert "12 images, exact" in search.remarks
    assert json.loads((folder / "index.json").read_text())["kind"] == "exact"


@pytest.fixture
def photos_and_gallery(made, tmp_path, run):
    """A folder of photos for this test alone, its gallery, and `again(...)`, which renews the gallery."""
    shutil.copytree(made / "photos", tmp_path / "photos")
    flags = ("--images", tmp_path / "photos", "--out", tmp_path / "own", *TINY)
    again = lambda *more: run("embed", *flags, *more)
    again("--checkpoint", made / "ckp_ep1.pth.tar")
    return tmp_path / "photos", tmp_path / "own", again


def test_an_older_index_is_made_anew_that_of_another_model_is_refused(search, refusal, made, photos_and_gallery, tmp_path):
    own, gallery, again = photos_and_gallery
    search("query", gallery, own / "000.jpg")
    photo(own / "new.jpg", 80)
    again("--checkpoint", made / "ckp_ep1.pth.tar")
    photo(tmp_path / "new.jpg", 80)
    assert search("query", gallery, tmp_path / "new.jpg", "-k", 1).splitlines()[1] == "  100 %   1.000  new.jpg"
    assert "13 images, exact" in search.remarks
    held = json.loads((gallery / "index.json").read_text())
    (gallery / "index.json").write_text(json.dumps({**held, "model": "0" * 32}))
    for command in (["query", gallery, own / "new.jpg"], ["duplicates", gallery]):
        message = refusal(*command)
        assert "index.json: made of another model's embeddings" in message and f"search.py index {gallery}" in message
    search("index", gallery)
    assert search("query", gallery, tmp_path / "new.jpg", "-k", 1).splitlines()[1] == "  100 %   1.000  new.jpg"


def test_a_model_that_embed_changes_takes_the_index_along(search, made, photos_and_gallery):
    """embed.py refits the model itself when the folder grows; then the index is rebuilt without a message."""
    own, gallery, again = photos_and_gallery
    search("query", gallery, own / "000.jpg")
    again("--checkpoint", checkpoint_of(own.parent, 2), "--again")
    assert search("query", gallery, own / "000.jpg", "-k", 1).splitlines()[1].startswith("  100 %   1.000  ")


def test_an_index_that_cannot_be_kept(search, refusal, folder, made, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexes, "save", full)
    assert search("query", folder, made / "photos" / "000.jpg", "-k", 1).splitlines()[1].startswith("  100 %   1.000  ")
    assert "the index cannot be saved (No space left on device)" in search.remarks
    assert "No space left on device" in refusal("index", folder, kind=(InputError, RunError))


def test_an_index_while_embed_works(refusal, folder):
    """The message must not name a flag that only embed.py or train.py has."""
    ready, held = os.pipe()
    if not (child := os.fork()):
        with locked(str(folder)):
            os.write(held, b"!")
            signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert refusal("index", folder).startswith(f"{folder}: in use by another run, pid {child} on host ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_gallery_of_older_pixels_is_read_and_that_is_said(search, folder):
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "pixels": 0}))
    assert "12 images" in search("query", folder, Gallery(folder).paths[0])
    assert f"its rows are of pixel version 0, queries are read as version {PIXELS}; run embed.py again" in search.remarks


# ---- duplicates and clusters -----------------------------------------------------------------------------------------


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


# ---- mistakes and damage ---------------------------------------------------------------------------------------------


def test_no_gallery(refusal, tmp_path, made):
    for command in (["index", tmp_path], ["query", tmp_path, "x.jpg"], ["duplicates", tmp_path], ["clusters", tmp_path]):
        assert f"{tmp_path}: no gallery; make it with embed.py" in refusal(*command)


@pytest.mark.parametrize("part", PLACES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_gallery_is_named_with_a_remedy(refusal, folder, tmp_path, part, damage):
    held = (folder / part).read_bytes()
    (folder / part).unlink()
    if damage != "missing":
        (folder / part).write_bytes(held[: len(held) // 2] if damage == "cut" else b"")
    message = refusal("query", folder, photo(tmp_path / "elsewhere.jpg", 77))
    assert str(folder) in message and "embed.py" in message and (part in message or "no gallery" in message)


def test_a_gallery_between_old_and_new(refusal, search, made, folder, tmp_path):
    """embed.py was stopped after moving two of its new files: old and new files are mixed, with equal row counts."""
    own = made / "gallery"
    (folder / "making").mkdir()
    for name in PLACES[2:]:
        shutil.copy(own / name, folder / "making")
    about = json.loads((own / "about.json").read_text())
    (folder / "making" / "about.json").write_text(json.dumps({**about, "stamp": "another"}))
    for command in (["query", folder, made / "photos" / "000.jpg"], ["index", folder], ["duplicates", folder]):
        message = refusal(*command)
        assert message.startswith(f"{folder}: embed.py was stopped while it wrote this") and "run it again" in message


def test_the_model_of_another_gallery(refusal, folder, made, tmp_path, run):
    other = checkpoint_of(tmp_path, 2)
    run("embed", "--images", made / "photos", "--checkpoint", other, *TINY, "--out", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.pth.tar", folder)
    elsewhere = photo(tmp_path / "elsewhere.jpg", 77)
    assert "not the model that made the embeddings beside it" in refusal("query", folder, elsewhere)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "the following arguments are required: COMMAND"),
        (["find"], "invalid choice: 'find'"),
        (["query", "FOLDER"], "IMAGE"),
        (["query", "FOLDER", "x.jpg", "-k", "0"], "0 is not at least 1"),
        (["query", "FOLDER", "PHOTO", "--device", "tpu"], "tpu"),
        (["query", "FOLDER", "PHOTO", "--html", "/nowhere/x.html"], "/nowhere/x.html: cannot be written"),
        (["duplicates", "FOLDER", "--threshold", "1.1"], "1.1 is above 1"),
        (["serve", "FOLDER", "--port", "70000"], "70000 is above 65535"),
    ],
)
def test_slips_are_one_line(refusal, folder, made, arguments, text):
    named = {"FOLDER": folder, "PHOTO": made / "photos" / "000.jpg"}
    assert text in refusal(*(named.get(word, word) for word in arguments))


def test_nobody_reads_on(folder, search):
    """With `| head -1`, the program ends without a traceback or a complaint."""
    search("index", folder)
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "search.py", "duplicates", folder]
    done = subprocess.run(command, cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writes)
    assert not re.search("Traceback|Exception|Error|rror:", done.stderr) and done.returncode in (0, 141), done.stderr


def test_ctrl_c(run, folder, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(indexes, "build", stopped)
    with pytest.raises(Interrupted, match="by SIGINT") as caught:
        run("search", "index", folder)
    assert caught.value.code == 130


def test_without_a_stdout(run, folder, monkeypatch):
    """stdout was closed before the start (`>&-`)."""
    monkeypatch.setattr(sys, "stdout", None)
    run("search", "index", folder)
    assert (folder / "index.json").exists()


def served(folder, *flags):
    """Start search.py serve. Returns (process, the line with the addresses); its log goes to stderr."""
    command = [sys.executable, "search.py", "serve", folder, "--port", "0", *flags]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGINT, before)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "the page is at" in line:
            return process, line
    raise AssertionError("".join(lines))


def test_a_page_notices_a_renewed_gallery_and_ends_with_ctrl_c(made, tmp_path, run):
    images, gallery = shutil.copytree(made / "photos", tmp_path / "photos"), tmp_path / "gallery"
    flags = ("--images", images, "--checkpoint", checkpoint_of(tmp_path, 1), *TINY, "--out", gallery)
    run("embed", *flags)
    process, line = served(gallery)
    try:
        with httpx.Client(base_url=re.search(r"http://\S+", line)[0]) as visitor:
            before = visitor.get("api/galleries").json()
            (images / "worse.jpg").unlink()
            run("embed", *flags)
            time.sleep(2.1)  # the page looks at the disk at most every 2 s
            now = visitor.get("api/galleries").json()
            assert now["state"] != before["state"]
            assert now["galleries"][0]["count"] == before["galleries"][0]["count"] - 1
            data, headers = (images / "same.jpg").read_bytes(), {"X-Requested-With": "page"}
            token = visitor.post("api/upload", content=data, headers=headers, timeout=60).json()["upload"]
            found = visitor.get("api/0/search", params={"upload": token}).json()["items"]
            assert {item["name"] for item in found[:2]} == {"000.jpg", "same.jpg"} and found[0]["similarity"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


def test_a_page_for_other_machines(folder):
    process, line = served(folder, "--host", "0.0.0.0", "--password")
    try:
        for address in re.findall(r"http://\S+", line):
            assert "0.0.0.0" not in address
            with httpx.Client() as visitor:
                assert visitor.get(address, follow_redirects=True).status_code == 200
            assert httpx.get(address.partition("?")[0]).status_code == 401
    finally:
        process.kill()
        process.communicate()
    process, _ = served(folder, "--host", "0.0.0.0")
    try:
        assert "everyone in the network can see the photos" in process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
