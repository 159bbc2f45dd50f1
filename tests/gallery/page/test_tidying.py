"""Tidying up from the page: traits and the best of each group, what is chosen, lists and scripts. Without a browser."""

import base64
import io
import os
import shutil
import stat
import zipfile

import numpy as np
import pytest
from fake_gallery import view
from PIL import Image
from small_gallery import draw_copies, embedding, write
from visits import client, made, noise, save

from gallery import keep, tidy
from utils.errors import InputError

AWAY = "10.0.0.7"
FILES = ("/api/0/list", "/api/0/script")


@pytest.fixture(scope="module")
def drawn_copies(tmp_path_factory):
    return draw_copies(tmp_path_factory.mktemp("copies") / "photos", 4)


@pytest.fixture
def copies(drawn_copies, tmp_path):
    """A view of a real gallery whose photos a test may move."""
    shutil.copytree(drawn_copies, tmp_path / "photos", copy_function=shutil.copy2)
    return write(tmp_path / "gallery", "ready-made", tmp_path / "photos", embedding(4))


def local(*views):
    return client(list(views), caller="127.0.0.1")


def unzipped(answer):
    """Return {name: bytes} of the archive in an answer."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(answer.json()["content"]))) as archive:
        assert all(stat.S_IMODE(entry.external_attr >> 16) == 0o755 for entry in archive.infolist())
        return {os.path.basename(name): archive.read(name) for name in archive.namelist()}


def chosen(view, *names):
    """Return the body that chooses the images whose paths end so."""
    gallery = view.gallery
    rows = [row for row, path in enumerate(gallery.paths) if path.endswith(names)]
    return {"keys": [gallery.keys[row] for row in rows], "stamp": gallery.stamp}


def test_traits_are_those_of_the_files(copies):
    groups = made(client([copies]), "/api/0/duplicates", kind="copies", count=500)["groups"]
    assert len(groups) == 4 and all(group["size"] == len(group["items"]) == 4 and not group["same"] for group in groups)
    for item in (item for group in groups for item in group["items"]):
        path = os.path.join(copies.folder, item["path"])
        with Image.open(path) as image:
            date = image.getexif().get_ifd(0x8769).get(0x9003)
            assert item["pixels"] == list(image.size) and item["format"] == image.format
        assert item["bytes"] == os.path.getsize(path) and item["camera"] == (date is not None)
        expected = date.replace(":", "-", 2)[:16] if date else keep._written(copies.gallery, copies.row(item["key"]))[:16]
        assert item["date"] == expected and not item["cut"] and "odd" not in item


@pytest.mark.parametrize("rule", ("best", "oldest"))
def test_the_first_image_of_a_group_is_the_one_that_should_stay(copies, rule):
    found = made(client([copies]), "/api/0/duplicates", kind="copies", keep=rule, count=500)
    assert found["rule"] == keep.KEEP[rule] and found["stamp"] == copies.stamp
    for group in found["groups"]:
        traits = [(item["pixels"][0] * item["pixels"][1], item["bytes"], item["date"]) for item in group["items"]]
        pixels, size, date = traits[0]
        if rule == "best":
            assert pixels == max(t[0] for t in traits) and size == max(t[1] for t in traits if t[0] == pixels)
        else:
            assert date == min(t[2] for t in traits)
            assert (pixels, size) == max(t[:2] for t in traits if t[2] == date)


def test_a_gallery_without_facts_shows_what_it_has(drawn):
    root, paths = drawn
    (group,) = made(client([view("ready-made", paths, root=root)]), "/api/0/duplicates")["groups"]
    for item in group["items"]:
        assert item["pixels"] is None and item["format"] is None and not item["camera"]
        assert item["bytes"] == os.path.getsize(os.path.join(root, item["path"])) and len(item["date"]) == 16
    assert group["same"]


@pytest.mark.parametrize("turned", (0, 1))
@pytest.mark.parametrize("rule", ("best", "oldest"))
def test_page_and_shell_choose_the_same_and_write_the_same_script(copies, rule, turned):
    page, gallery = local(copies), copies.gallery
    answer = made(page, "/api/0/spares", kind="copies", keep=rule, turned=turned)
    spares = keep.spares(gallery, copies.index, bool(turned), rule)
    assert sorted(item["key"] for item in answer["items"]) == sorted(gallery.keys[spare.row] for spare in spares)
    assert answer["kept"] == [gallery.keys[row] for row in sorted({spare.kept for spare in spares})]
    assert len(spares) == 12 and {item["bytes"] for item in answer["items"]} == {gallery.files[s.row].size for s in spares}
    body = {"keys": [item["key"] for item in answer["items"]], "stamp": answer["stamp"]}
    scripts = unzipped(page.post(f"/api/0/script?keep={rule}&turned={turned}", json=body))
    expected = tidy.scripts(gallery, spares, "tidy-undo.sh")
    assert scripts == {"tidy.sh": expected.move, "tidy-undo.sh": expected.back}


def test_what_has_no_copy_that_stays_is_counted(copies):
    page = local(copies)
    one = page.post("/api/0/script", json=chosen(copies, "copy of 1.jpg")).json()
    assert (one["files"], one["alone"], one["to"]) == (1, [], f"{copies.folder}-duplicates")
    body = chosen(copies, "copy of 1.jpg", "IMG_0001.jpg", "IMG_0001 (1).jpg", "resaved 1.jpg", "copy of 2.jpg")
    alone = unzipped(page.post("/api/0/script", json=chosen(copies, "resaved 1.jpg", "copy of 1.jpg")))["tidy.sh"]
    assert b"2 files, " in alone and b"One of each group of copies stays. Nothing" in alone
    answer = page.post("/api/0/script", json=body)
    assert (answer.json()["files"], len(answer.json()["alone"])) == (5, 4)
    assert b"4 of them have no copy that stays" in unzipped(answer)["tidy.sh"]


def test_a_choice_is_weighed_before_a_script_is_made(copies):
    page = client([copies], caller=AWAY)
    weigh = lambda body, **query: page.post("/api/0/weigh", params={"kind": "copies", **query}, json=body).json()
    body = chosen(copies, "copy of 1.jpg", "IMG_0001.jpg", "IMG_0001 (1).jpg", "resaved 1.jpg", "copy of 2.jpg")
    alone = local(copies).post("/api/0/script", json=body).json()["alone"]
    assert len(alone) == 4 and weigh(body) == {"alone": alone, "unlisted": []}
    two = chosen(copies, "copy of 2.jpg")["keys"]
    assert weigh(body, find="IMG_0001")["unlisted"] == two  # and what is alone depends on no filter
    assert weigh(body, find="IMG_0001")["alone"] == alone
    assert sorted(weigh(body, find="nowhere")["unlisted"]) == sorted(body["keys"])
    others = weigh(body, kind="identical")["unlisted"]
    assert others == chosen(copies, "IMG_0001 (1).jpg", "resaved 1.jpg")["keys"]
    copies.gone[copies.gallery.row_of(two[0])] = True
    assert weigh(body, find="IMG_0001") == {"alone": alone, "unlisted": []}
    assert weigh(body | {"keys": ["none"], "stamp": "other"}) == {"alone": [], "unlisted": []}


def test_alone_is_what_a_script_finds_no_copy_of():
    rng = np.random.default_rng(0)
    for _ in range(100):
        rows = rng.permutation(30).tolist()
        groups = [rows[i : i + 4] for i in range(0, 24, 4)]
        taken = rng.choice(30, rng.integers(0, 31), replace=False).tolist()
        spares = keep.spares_among(taken, groups, {row: (row,) for row in rows})
        assert keep.alone_among(taken, groups) == [spare.row for spare in spares if spare.kept is None]


def test_one_file_is_told_as_one(copies):
    for row, path in enumerate(copies.gallery.paths):
        copies.gone[row] = path.endswith(("IMG_0001 (1).jpg", "copy of 1.jpg", "resaved 1.jpg"))
    scripts = unzipped(local(copies).post("/api/0/script", json=chosen(copies, "IMG_0001.jpg")))
    size = os.path.getsize(next(path for path in copies.gallery.paths if path.endswith("IMG_0001.jpg")))
    assert size < 100_000
    what = f"1 file, {size / 1000:.1f} kB. It has no copy that stays. Nothing is deleted; tidy-undo.sh moves it back."
    assert what.encode() in scripts["tidy.sh"] and b"back to where it was." in scripts["tidy-undo.sh"]
    assert b"It is moved already." in scripts["tidy.sh"] and b"Move it?" in scripts["tidy.sh"]


@pytest.mark.parametrize("kind", ("copies", "near"))
def test_the_least_similar_come_first(copies, kind):
    page = client([copies])
    orders = [made(page, "/api/0/duplicates", kind=kind, sort=sort)["groups"] for sort in ("similarity", "unlike")]
    first, last = [[group["items"][0]["key"] for group in groups] for groups in orders]
    assert len(first) == 4 and first == last[::-1]
    similarities = [group["similarity"] for group in orders[1]]
    assert similarities == sorted(similarities)


def test_a_list_holds_the_names_as_they_are(tmp_path):
    names = (b"plain.png", b"not \xff UTF-8.png", b"two\nlines.png", b"cr\rname.png", "\u65e5\u672c.png".encode())
    paths = [save(os.path.join(tmp_path / "photos", os.fsdecode(name)), noise(number)) for number, name in enumerate(names)]
    one = view("ready-made", paths, root=str(tmp_path / "photos"))
    page = local(one)
    body = {"keys": one.gallery.keys, "stamp": one.stamp}
    answer = page.post("/api/0/list", json=body).json()
    listed = base64.b64decode(answer["content"]).split(b"\n")
    assert sorted(listed) == sorted([*(os.fsencode(path) for path in (paths[0], paths[1], paths[4])), b""])
    assert answer["left"] == 2
    assert b"two\nlines.png" in unzipped(page.post("/api/0/script", json=body))["tidy.sh"]
    known = keep.traits(one.gallery, range(len(paths)))
    odd = {path for row, path in enumerate(one.gallery.paths) if one.traits(row, known[row]).get("odd")}
    assert odd == {paths[1], paths[2], paths[3]}


def test_gone_images_are_left_out(copies):
    page, gallery = local(copies), copies.gallery
    body = chosen(copies, "copy of 1.jpg", "copy of 2.jpg")
    assert page.post("/api/0/present", json=body).json()["keys"] == body["keys"]
    copies.gone[gallery.row_of(body["keys"][0])] = True
    assert page.post("/api/0/present", json=body).json()["keys"] == body["keys"][1:]
    assert page.post("/api/0/present", json=body | {"keys": ["none"]}).json()["keys"] == []
    assert page.post("/api/0/script", json=body).json()["files"] == 1


def test_items_of_keys(copies):
    page, gallery = local(copies), copies.gallery
    keys = chosen(copies, "copy of 1.jpg", "copy of 2.jpg")["keys"]
    answer = page.post("/api/0/items", json={"keys": [*keys, "none", keys[0]]}).json()
    assert [item["key"] for item in answer["items"]] == keys and answer["stamp"] == copies.stamp
    for item, name in zip(answer["items"], ("copy of 1.jpg", "copy of 2.jpg")):
        assert item["name"] == name and item["bytes"] == os.path.getsize(os.path.join(copies.folder, item["path"]))
        assert item["odd"] is False
    copies.gone[gallery.row_of(keys[0])] = True
    assert [item["key"] for item in page.post("/api/0/items", json={"keys": keys}).json()["items"]] == keys[1:]


def test_what_a_script_has_moved_is_not_lost(copies):
    page, gallery = local(copies), copies.gallery
    body = chosen(copies, "copy of 0.jpg", "copy of 1.jpg", "copy of 2.jpg", "copy of 3.jpg")
    here, moved, deleted, back = (gallery.row_of(key) for key in body["keys"])
    assert page.post("/api/0/present", json=body).json() == {"keys": body["keys"], "lost": [], "stamp": copies.stamp}
    os.makedirs(f"{copies.folder}-duplicates")
    name = os.path.basename(gallery.paths[moved])
    os.rename(gallery.paths[moved], f"{copies.folder}-duplicates/{name}")
    os.remove(gallery.paths[deleted])
    copies.gone[[moved, deleted, back]] = True  # the last one came back after the page had looked
    body["keys"].append("unknown")
    answer = page.post("/api/0/present", json=body).json()
    assert answer["keys"] == [gallery.keys[here]] and answer["lost"] == [gallery.keys[deleted]]
    away = client([copies], caller=AWAY).post("/api/0/present", json=body).json()
    assert away["lost"] == []  # only this machine learns what lies beside the folder


def test_the_folder_may_be_away(copies):
    body = chosen(copies, "copy of 1.jpg")
    os.rename(copies.folder, copies.folder + " away")
    answer = local(copies).post("/api/0/script", json=body)
    assert answer.status_code == 500 and "is away" in answer.json()["error"]


# ---- security --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
def test_only_this_machine_gets_whole_paths(copies, path):
    body = chosen(copies, "copy of 1.jpg")
    answer = client([copies], caller=AWAY).post(path, json=body)
    assert answer.status_code == 403 and copies.folder not in answer.text
    answer = client([copies], caller=AWAY).post("/api/0/present", json=body)
    assert answer.status_code == 200 and copies.folder not in answer.text
    assert local(copies).post(path, json=body).status_code == 200


def test_no_other_answer_tells_where_the_folder_lies(copies):
    page = local(copies)
    for path in ("duplicates?kind=copies", "spares?kind=copies"):
        made(page, f"/api/0/{path}")
        assert os.path.dirname(copies.folder) not in page.get(f"/api/0/{path}").text


@pytest.mark.parametrize("path", FILES)
def test_a_selection_of_an_earlier_gallery_is_refused(copies, path):
    answer = local(copies).post(path, json=chosen(copies, "copy of 1.jpg") | {"stamp": "other"})
    assert answer.status_code == 409 and "embedded again" in answer.json()["error"]


@pytest.mark.parametrize("path", (*FILES, "/api/0/present", "/api/0/weigh"))
@pytest.mark.parametrize(
    "body",
    (b"", b"{", b"[]", b"null", b'{"keys": 1, "stamp": "a"}', b'{"keys": [], "stamp": "a"}', b'{"keys": [1], "stamp": "a"}',
     b'{"keys": ["a"]}', b'{"keys": ["a"], "stamp": 1}', b'{"keys": ["a"], "stamp": null}', b"\xff", b"[" * 9000,
     b'{"keys": [["a"]], "stamp": "a"}', b'{"keys": "abc", "stamp": "a"}'),
)  # fmt: skip
def test_the_body_is_checked(copies, path, body):
    answer = local(copies).post(path, content=body)
    assert answer.status_code == 400 and answer.json()["error"].startswith("Send {")


@pytest.mark.parametrize("path", FILES)
def test_an_image_is_named_by_its_key_only(copies, path):
    gallery = copies.gallery
    for wrong in ("none", "0", gallery.paths[0], "../" + gallery.keys[0], gallery.keys[0].upper() + "0"):
        answer = local(copies).post(path, json={"keys": [gallery.keys[0], wrong], "stamp": copies.stamp})
        assert answer.status_code == 404, wrong


@pytest.mark.parametrize(
    "body",
    (b"", b"{", b"[]", b"null", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1]}', b'{"keys": [["a"]]}', b'{"keys": "abc"}'),
)  # fmt: skip
def test_items_are_asked_for_by_keys(copies, body):
    answer = local(copies).post("/api/0/items", content=body)
    assert answer.status_code == 400 and answer.json()["error"].startswith("Send {")


def test_items_of_too_many_keys_are_refused(copies, monkeypatch):
    monkeypatch.setattr("gallery.page.request_params.CHOSEN", 2)
    keys = copies.gallery.keys[:3]
    assert local(copies).post("/api/0/items", json={"keys": keys}).status_code == 400
    answer = client([copies], caller=AWAY).post("/api/0/items", json={"keys": keys[:2]})
    assert answer.status_code == 200 and os.path.dirname(copies.folder) not in answer.text


def test_too_many_are_refused(copies, monkeypatch):
    monkeypatch.setattr("gallery.page.request_params.CHOSEN", 2)
    body = {"keys": copies.gallery.keys[:3], "stamp": copies.stamp}
    assert local(copies).post("/api/0/list", json=body).status_code == 400
    monkeypatch.setattr("gallery.page.request_params.CHOSEN", 0)
    answer = local(copies).post("/api/0/list", json={"keys": ["x" * 2000], "stamp": ""})
    assert answer.status_code == 413


@pytest.mark.parametrize("query", ("keep=newest", "keep=best%00", "kind=all", "turned=2", "kind=alike&threshold=x"))
def test_words_are_checked(copies, query):
    page = local(copies)
    for path in ("duplicates", "spares"):
        answer = page.get(f"/api/0/{path}?{query}")
        assert answer.status_code == 400 and "has to be" in answer.json()["error"]
    assert page.post(f"/api/0/weigh?{query}", json=chosen(copies, "copy of 1.jpg")).status_code == 400
    if "kind" not in query:
        answer = page.post(f"/api/0/script?{query}", json=chosen(copies, "copy of 1.jpg"))
        assert answer.status_code == 400


# ---- filter, order, reference ----------------------------------------------------------------------------------------


def paths_of(groups):
    return sorted(sorted(item["path"] for item in group["items"]) for group in groups)


@pytest.mark.parametrize(
    "query, wanted",
    (
        ({"find": "img_0001"}, lambda paths: any("IMG_0001" in path for path in paths)),
        ({"find": "SEA/"}, lambda paths: any("sea/" in path for path in paths)),
        ({"find": "nowhere"}, lambda paths: False),
        ({"across": 1}, lambda paths: len({os.path.dirname(path) for path in paths}) > 1),
        ({"reference": "2023 summer/sea"}, lambda paths: len({path.startswith("2023 summer/sea/") for path in paths}) == 2),
        ({"reference": "2023"}, lambda paths: False),
        ({"reference": "/from phone/"}, lambda paths: len({path.startswith("from phone/") for path in paths}) == 2),
    ),
)
@pytest.mark.parametrize("kind", ("copies", "identical", "near"))
def test_a_filter_keeps_the_groups_that_are_wanted(copies, kind, query, wanted):
    page = client([copies])
    everything = made(page, "/api/0/duplicates", kind=kind, count=500)
    found = made(page, "/api/0/duplicates", kind=kind, count=500, **query)
    expected = [group for group in everything["groups"] if wanted([item["path"] for item in group["items"]])]
    assert paths_of(found["groups"]) == paths_of(expected)
    assert (found["total"], found["images"]) == (len(expected), sum(group["size"] for group in expected))
    assert found["folders"] == ["2023 summer", "2023 summer/sea", "from phone"][: 3 if kind != "identical" else 2]


def test_the_order_is_that_of_the_best_or_of_the_spare_bytes(copies):
    page = client([copies])
    groups = lambda sort: made(page, "/api/0/duplicates", kind="copies", sort=sort, count=500)["groups"]
    similar = [group["similarity"] for group in groups("similarity")]
    assert similar == sorted(similar, reverse=True)
    dates = [group["items"][0]["date"] for group in groups("date")]
    assert dates == sorted(dates, reverse=True) and len(set(dates)) > 1
    names = [group["items"][0]["path"].casefold() for group in groups("name")]
    assert names == sorted(names)
    sizes = [sum(item["bytes"] for item in group["items"][1:]) for group in groups("size")]
    assert sizes == sorted(sizes, reverse=True)
    parts = [made(page, "/api/0/duplicates", kind="copies", sort="name", start=i, count=1)["groups"] for i in range(5)]
    assert [part[0]["items"][0]["path"].casefold() for part in parts[:4]] == names and parts[4] == []


@pytest.mark.parametrize("rule", ("best", "oldest"))
@pytest.mark.parametrize("reference", ("2023 summer", "from phone"))
def test_the_reference_stays_and_only_what_is_in_it_may_go(copies, rule, reference):
    """By the shell and by the page. If the copies in the reference are all smaller, the best one outside stays as well."""
    page, gallery = local(copies), copies.gallery
    for row, path in enumerate(gallery.paths):
        if "resaved" in path:
            copies.gone[row] = True
            os.remove(path)
    everything = made(page, "/api/0/duplicates", kind="copies", keep=rule, reference=reference, count=500)
    expected = set()
    for group in everything["groups"]:
        inside = [item["path"].startswith(f"{reference}/") for item in group["items"]]
        assert [item.get("stays", False) for item in group["items"]] == inside
        assert inside[0] == (rule == "oldest" or reference == "2023 summer")
        expected |= {item["key"] for item, stays in list(zip(group["items"], inside))[1:] if not stays}
    answer = made(page, "/api/0/spares", kind="copies", keep=rule, reference=reference)
    assert {item["key"] for item in answer["items"]} == expected and not expected.intersection(answer["kept"])
    named = keep.below(gallery, os.path.join(copies.folder, reference))
    assert named == keep.below(gallery, reference) == keep.below(gallery, f"{reference}/")
    spares = keep.spares(gallery, copies.index, False, rule, named)
    assert {gallery.keys[spare.row] for spare in spares} == expected
    body = {"keys": sorted(expected), "stamp": copies.stamp}
    scripts = unzipped(page.post("/api/0/script", params={"keep": rule, "reference": reference}, json=body))
    assert scripts["tidy.sh"] == tidy.scripts(gallery, spares, "tidy-undo.sh").move


def test_a_reference_without_images_is_refused(copies):
    assert keep.below(copies.gallery, None) is None
    for folder in ("nowhere", copies.folder + "x", "2023", "2023 summer/IMG_0000.jpg"):
        with pytest.raises(InputError, match="holds no image") as caught:
            keep.below(copies.gallery, folder)
        assert caught.value.setting == "reference"


@pytest.mark.parametrize("query", ("sort=newest", "across=2", f"find={'x' * 501}", f"reference={'x' * 501}"))
def test_wishes_are_checked(copies, query):
    page = local(copies)
    for path in ("duplicates", "spares"):
        assert page.get(f"/api/0/{path}?{query}").status_code == 400
    assert page.post(f"/api/0/script?{query}", json=chosen(copies, "copy of 1.jpg")).status_code == 400


@pytest.mark.parametrize("reference", ("..", "../..", "/", "/etc", "\0", "*", "\ufffd"))
def test_a_reference_outside_finds_nothing(copies, reference):
    answer = made(local(copies), "/api/0/duplicates", kind="copies", reference=reference)
    assert answer["total"] == (4 if reference == "/" else 0)
