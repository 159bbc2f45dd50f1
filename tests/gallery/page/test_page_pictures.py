"""Pictures of indexed files: how they look, which are remembered, and files that were replaced since."""

import os
import socket

import numpy as np
import pytest
from fake_gallery import FakeIndex, by_colour, real_gallery, view
from PIL import Image
from visits import client, jpeg_of, key, made, noise

from data.images import decode
from data.pictures import thumbnail_of
from data.pixels import Facts
from gallery.contents import Entry
from gallery.page import pictures as pictures_file
from gallery.page.gallery_view import GalleryView
from gallery.page.pictures import opened
from gallery.store import Gallery
from gallery.table import Content, Detail, LeftOut, replace_left_out
from utils.errors import InputError


def test_a_thumbnail_looks_like_its_image(page, galleries, drawn):
    for row, path in enumerate(galleries[0].gallery.paths):
        small = jpeg_of(page.get(f"/image/{galleries[0].gallery.keys[row]}"))
        with Image.open(path) as image:
            size = image.size[::-1] if "turned" in path else image.size
        shorter = min(200, min(size))
        assert min(small.size) == shorter
        assert abs(max(small.size) - max(size) * shorter / min(size)) <= 1
        pixels = decode(path, shorter).permute(1, 2, 0).numpy()
        assert pixels.shape == (small.size[1], small.size[0], 3)
        assert np.abs(np.asarray(small, np.float32) - pixels).mean() < 8


def test_a_large_view_is_at_most_1600_pixels(page, galleries):
    large = jpeg_of(page.get(f"/image/{key(galleries[0], 'large.jpg')}?size=large"))
    assert large.size == (1600, 1200)
    assert jpeg_of(page.get(f"/image/{key(galleries[0], '00.png')}?size=large")).size == (96, 80)
    assert page.get(f"/image/{key(galleries[0], '00.png')}?size=huge").status_code == 400


def test_both_sides_of_an_elongated_image_are_limited(tmp_path):
    noise(0, (3000, 40)).save(tmp_path / "wide.png")
    one = view("ready-made", [str(tmp_path / "wide.png")], root=str(tmp_path))
    page = client([one])
    wide, high = jpeg_of(page.get(f"/image/{one.gallery.keys[0]}")).size
    assert high == 21 and 1500 < wide <= 1600


def test_a_browser_that_has_a_picture_is_told_so(folder):
    root, paths = folder
    one = view("ready-made", paths, root=root)
    page, address = client([one]), f"/image/{key(one, '03.png')}"
    first = page.get(address)
    assert "private" in first.headers["cache-control"] and "max-age" in first.headers["cache-control"]
    again = page.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == first.headers["etag"]
    large = page.get(address + "?size=large", headers={"If-None-Match": first.headers["etag"]})
    assert large.status_code == 200 and large.headers["etag"] != first.headers["etag"]

    noise(99).save(os.path.join(root, "03.png"))
    changed = page.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200 and changed.headers["etag"] != first.headers["etag"]
    assert changed.content != first.content


def test_an_image_that_only_the_second_gallery_has(drawn):
    root, paths = drawn
    page = client([view("ready-made", paths[:3], root=root), more := view("trained", paths, root=root)])
    assert jpeg_of(page.get(f"/image/{key(more, '05.png')}"))
    answer = page.get("/api/0/search", params={"image": key(more, "05.png")})
    assert answer.status_code == 404 and "ready-made" in answer.json()["error"]


def test_nothing_is_written_into_the_folder(folder):
    root, paths = folder
    state = lambda: sorted((d, f, os.stat(os.path.join(d, f)).st_mtime_ns) for d, _, files in os.walk(root) for f in files)
    before = state()
    one = view("ready-made", paths, root=root)
    page = client([one])
    for number, name in enumerate(one.gallery.keys):
        page.get(f"/image/{name}")
        page.get(f"/image/{name}?size=large")
        if number < 3:
            page.post("/api/upload", content=open(one.gallery.paths[number], "rb").read())
    for path in ("clusters", "duplicates", "map"):
        made(page, f"/api/0/{path}")
    page.post("/api/0/not_duplicate", json={"keys": one.gallery.keys[:2]})
    assert state() == before


def test_pictures_in_memory_are_bounded(drawn):
    root, paths = drawn
    page = pictures_file.Pictures(memory=5000)
    first = [page.jpeg(path, None, root).data for path in paths[:12]]
    assert sum(map(len, first)) > 5000 >= sum(map(len, page._kept._kept.values())) == page._kept._used
    assert [page.jpeg(path, None, root).data for path in paths[:12]] == first


# ---- files that were replaced ----------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "private.png"
    noise(77, (64, 64)).save(path)
    return str(path)


def refused(page, one, name):
    answer = page.get(f"/image/{key(one, name)}")
    assert answer.status_code == 404 and answer.json()["error"].endswith(".")
    return answer.json()["error"]


def test_links_that_leave_the_folder(folder, outside, tmp_path):
    root, paths = folder
    one = view("ready-made", paths, root=root)
    page = client([one])
    assert page.get(f"/image/{key(one, '01.png')}").status_code == 200  # now it is in memory; this must not be used below
    os.makedirs(tmp_path / "photos-too")
    beside = str(tmp_path / "photos-too" / "x.png")  # its folder's name begins with the root's name
    noise(78).save(beside)
    os.symlink(outside, os.path.join(root, "step.png"))
    for number, target in enumerate(
        (outside, beside, "../private.png", "step.png", "/dev/zero", "/etc/passwd", "/proc/self/mem"), 1
    ):
        path = os.path.join(root, f"0{number}.png")
        os.remove(path)
        os.symlink(target, path)
        refused(page, one, f"0{number}.png")
    os.remove(os.path.join(root, "08.png"))
    os.symlink("09.png", os.path.join(root, "08.png"))  # this link stays inside
    assert page.get(f"/image/{key(one, '08.png')}").status_code == 200


def test_a_folder_that_is_a_link_now(folder, tmp_path):
    root, paths = folder
    one = view("ready-made", paths, root=root)
    page = client([one])
    os.rename(os.path.join(root, "odd"), tmp_path / "moved")
    os.symlink(tmp_path / "moved", os.path.join(root, "odd"))
    refused(page, one, "copy of it.png")
    os.rename(root, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root)  # the whole folder is a link now
    refused(page, one, "01.png")


def test_a_root_that_was_a_link_from_the_start(folder, tmp_path):
    root, paths = folder
    link = str(tmp_path / "link")
    os.symlink(root, link)
    one = view("ready-made", [path.replace(root, link, 1) for path in paths], root=link)
    assert client([one]).get(f"/image/{key(one, '01.png')}").status_code == 200


def test_of_a_list_no_link_is_followed(folder, outside):
    root, paths = folder
    one = view("ready-made", paths)
    page = client([one])
    assert page.get(f"/image/{key(one, '01.png')}").status_code == 200
    os.remove(os.path.join(root, "01.png"))
    os.symlink(outside, os.path.join(root, "01.png"))
    refused(page, one, "01.png")


def test_where_real_paths_are_recorded_a_name_must_still_lead_there(folder, outside, tmp_path):
    """Also out of the folder: an album of links shows the photos that it was made of, and no others."""
    root, paths = folder
    other = str(tmp_path / "other.png")
    noise(78).save(other)
    album = os.path.join(root, "album.png")
    os.symlink(outside, album)
    one = view("ready-made", [*paths, album], root=root)
    one.gallery.details = [Detail(1, 2, 3, os.path.realpath(path)) for path in one.gallery.paths]
    page = client([one])
    assert page.get(f"/image/{key(one, 'album.png')}").status_code == 200
    assert page.get(f"/image/{key(one, '01.png')}").status_code == 200
    os.remove(album)
    os.symlink(other, album)  # another photo, by the same name
    os.remove(os.path.join(root, "01.png"))
    os.symlink("02.png", os.path.join(root, "01.png"))  # inside the folder
    os.remove(outside)
    for name in ("album.png", "01.png"):
        refused(page, one, name)
    os.remove(album)
    os.symlink(outside, album)
    assert "gone" in refused(page, one, "album.png")
    os.rename(other, outside)  # what it leads to has changed, but not where
    assert page.get(f"/image/{key(one, 'album.png')}").status_code == 200


def test_a_recorded_path_is_compared_with_the_open_file(folder, outside, monkeypatch):
    root, _ = folder
    path = os.path.join(root, "01.png")
    with opened(path, path) as file:
        assert file.read() == open(path, "rb").read()
    for real in (outside, path + "/", os.path.join(root, ".", "01.png"), root):
        with pytest.raises(InputError, match="leads to another file"):
            opened(path, real)
    open_file = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest: open_file(outside, *rest))
    with pytest.raises(InputError, match="leads to another file"):
        opened(path, path)


def test_what_is_no_file_any_more(folder, monkeypatch):
    root, paths = folder
    one = view("ready-made", paths, root=root)
    page = client([one])
    for number, replace in enumerate((lambda path: None, os.mkdir, os.mkfifo, lambda path: open(path, "w").close())):
        path = os.path.join(root, f"0{number}.png")
        os.remove(path)
        replace(path)
        refused(page, one, f"0{number}.png")  # this must not wait for someone to write into the pipe
        if number < 3:
            with pytest.raises(InputError):
                opened(path, None, root)
    with socket.socket(socket.AF_UNIX) as listener:
        os.remove(path)
        monkeypatch.chdir(root)  # a socket's name must be short
        listener.bind("03.png")
        refused(page, one, "03.png")


def test_a_file_that_is_replaced_while_it_is_opened(folder, outside, monkeypatch):
    root, _ = folder
    path = os.path.join(root, "01.png")
    open_file = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest: open_file(outside, *rest))  # opened outside, looked at inside
    with pytest.raises(InputError, match="leads to another file"):
        opened(path, None, root)
    monkeypatch.undo()
    with opened(path, None, root) as file:
        assert file.read() == open(path, "rb").read()


def test_a_name_with_nul(folder):
    with pytest.raises(InputError):
        opened(folder[0] + "/a\0b.png", None, folder[0])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_refused_files_stay_closed(folder, outside):
    root, _ = folder
    path = os.path.join(root, "01.png")
    os.remove(path)
    os.symlink(outside, path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(InputError):
            opened(path, None, root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_kept_thumbnails_are_shown_also_while_the_photos_are_away(folder, tmp_path):
    """And the list of all that is not shown: remarks, and files left out."""
    root, paths = folder
    gallery = real_gallery(str(tmp_path / "gallery"), "ready-made", paths, by_colour, root)
    row = gallery.row_of_path[os.path.join(root, "large.jpg")]
    page, address = (
        client([GalleryView(gallery, FakeIndex(gallery.embeddings), by_colour, 64)]),
        f"/image/{gallery.keys[row]}",
    )
    assert jpeg_of(page.get(address)).size in ((267, 200), (266, 200))  # none is kept, so the file is decoded
    thumbnail = thumbnail_of(np.zeros((1500, 2000, 3), np.uint8))
    content = Content(Facts(2000, 1500, "JPEG", None, None, 1, None), ())
    gallery.contents.put([Entry(gallery.hashes[row].tobytes(), content, thumbnail)])
    os.rename(root, f"{root} away")
    shown = page.get(address)
    assert shown.content == thumbnail and page.get(f"{address}?size=large").status_code == 404
    assert page.get(address, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    replace_left_out(gallery.place.table, [LeftOut(os.path.join(root, "film.mp4"), "not read", ".mp4")])
    page = client([GalleryView(Gallery(gallery.folder), FakeIndex(gallery.embeddings), by_colour, 64)])
    answer = page.get("/api/0/bad").json()
    assert answer["left_out"] == [{"path": "film.mp4", "reason": "not read: .mp4"}]
    assert [item["path"] for item in answer["items"]] == ["no <b>picture.jpg"]
