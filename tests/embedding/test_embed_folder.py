"""embed.py in use: repeated runs on a folder that changes; other folders, lists and formats."""

import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
from made_galleries import at_put, holds, refusal, same_rows
from PIL import Image

import embed as program
import models
from galleries import photo, photos, snapshot
from gallery.folder import PLACES
from gallery.store import Gallery
from utils.errors import Interrupted


def test_only_the_flags_that_were_given_are_not_the_defaults(monkeypatch):
    monkeypatch.setattr("sys.argv", ["embed.py", "--images", "photos", "--out", "gallery"])
    settings, _, changed = program.parse_args()
    assert changed == {"images": ["photos"], "out": "gallery"} and settings.net == "EfficientNet-Lite0"


def test_each_row_is_what_its_image_gives_alone_and_the_folder_stays_as_it_is(embed, folder, tmp_path):
    for i, name in enumerate([b"caf\xe9.jpg", b"new\nline.jpg", b"<img src=x onerror=alert(1)>.jpg", b" 7.jpg"]):
        os.rename(photo(folder / "x.jpg", 10 + i), os.fsencode(folder) + b"/" + name)
    photo(tmp_path / "elsewhere.jpg", 20)
    (folder / "out.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "in.jpg").symlink_to("000.jpg")
    for name in (".hidden.jpg", ".cache/a.jpg"):
        photo(folder / name)
    before = snapshot(folder)
    gallery = embed("--net", "EfficientNet-Lite0")
    assert snapshot(folder) == before
    net = models.create("EfficientNet-Lite0", width=32, origin_width=36)
    expected = [str(folder / "000.jpg"), *(os.path.join(here, name) for here, _, names in os.walk(folder) for name in names)]
    # in.jpg is another name of 000.jpg, and out.jpg leads to a photo elsewhere
    expected = sorted({path for path in expected if "/." not in path and not path.endswith("in.jpg")})
    assert len(expected) == 10 and holds(gallery, net, expected)
    assert np.allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, atol=1e-5) and gallery.embeddings.dtype == np.float32
    assert (gallery.name, gallery.root, gallery.bad) == ("ready-made", str(folder), [])
    about = json.loads((tmp_path / "gallery" / "about.json").read_text())
    assert about["images"] == 10 and about["net"] == "EfficientNet-Lite0" and about["kind"] == "pooled"
    assert sorted(os.listdir(tmp_path / "gallery")) == sorted([*PLACES, "contents.sqlite", "run.lock"])


def test_a_second_call_embeds_what_is_new_or_changed_and_forgets_what_is_gone(embed, folder, net):
    def current():
        return sorted(map(str, folder.rglob("*.jpg")))

    embed()
    assert sorted(embed.taken) == ["000.jpg", "002.jpg", "004.jpg", "deep/001.jpg", "deep/003.jpg"]
    stamp = embed().stamp
    assert embed.taken == [] and embed().stamp == stamp

    photo(folder / "001.jpg", 50)
    assert holds(embed(), net, current()) and embed.taken == ["001.jpg"]

    photo(folder / "000.jpg", 51)  # another picture with the same name
    os.utime(folder / "000.jpg", ns=(1, 1))
    assert holds(embed(), net, current()) and embed.taken == ["000.jpg"]

    os.rename(folder / "002.jpg", folder / "zzz.jpg")
    assert holds(embed(), net, current()) and embed.taken == []  # its bytes are known

    os.rename(folder / "004.jpg", folder / "000.jpg")  # in the place of another, with its own time
    assert holds(embed(), net, current()) and embed.taken == []

    (folder / "zzz.jpg").unlink()
    shutil.rmtree(folder / "deep")
    gallery = embed()
    assert holds(gallery, net, current()) and embed.taken == [] and len(gallery) == 2
    assert gallery.stamp != stamp


def test_the_rows_are_those_of_a_gallery_made_from_scratch(embed, folder, tmp_path):
    embed()
    for i, name in enumerate(("000.jpg", "zz.jpg", "a/b.jpg")):
        photo(folder / name, 60 + i)
    (folder / "002.jpg").unlink()
    grown, scratch = embed(), embed(out=tmp_path / "scratch")
    assert len(embed.taken) == 6 and same_rows(grown, scratch, tolerance=1e-6)
    assert grown.about["model"] == scratch.about["model"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("head", ["auto", "pooled", "closed_form"])
def test_one_image_or_two(embed, tmp_path, net, count, head):
    paths = photos(tmp_path / "photos", count)
    gallery = embed("--head", head)
    assert len(gallery) == count and list(gallery.paths) == paths
    assert np.allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, atol=1e-4)
    assert gallery.about["kind"] == ("closed_form" if head == "closed_form" else "pooled")
    assert head == "closed_form" or holds(gallery, net, paths)


def test_float16(embed, folder, tmp_path):
    halves = embed("--dtype", "float16")
    whole = embed(out=tmp_path / "whole")
    assert halves.embeddings.dtype == np.float16
    assert np.array_equal(halves.embeddings, whole.embeddings.astype(np.float16))
    photo(folder / "new.jpg", 50)
    assert len(embed("--dtype", "float16")) == 6 and embed.taken == ["new.jpg"]
    assert embed().embeddings.dtype == np.float32 and len(embed.taken) == 6  # another dtype: all images again


def test_loading_processes_change_nothing(embed, folder, tmp_path):
    assert same_rows(embed("--nThreads", 2, "--batch_size", 2), embed("--batch_size", 2, out=tmp_path / "alone"))


def test_a_list(embed, folder, net, tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("photos/004.jpg 7\nphotos/gone.jpg\n\nphotos/000.jpg\nphotos/000.jpg 3\n")
    gallery = embed(images=listed)
    assert holds(gallery, net, [folder / "000.jpg", folder / "004.jpg"])
    assert gallery.root is None and gallery.about["source"] == str(listed)
    assert gallery.bad == [(f"{folder}/gone.jpg", f"{folder}/gone.jpg: No such file or directory")]
    said = capsys.readouterr().out
    assert f"unreadable: No such file or directory  1  {folder}/gone.jpg" in said and "2 images are embedded" in said
    photo(folder / "gone.jpg", 9)
    assert len(embed(images=listed)) == 3 and embed.taken == ["../photos/gone.jpg"]
    assert Gallery(tmp_path / "gallery").bad == []


def test_photos_that_have_moved_are_not_embedded_again(embed, folder, net, tmp_path, capsys):
    """Nor are marks lost. A thumbnail goes with the bytes."""
    gallery = embed()
    gallery.set_apart([0, 2])
    first = gallery.thumbnail(0)
    assert Image.open(io.BytesIO(first)).size == Image.open(gallery.paths[0]).size  # smaller than a thumbnail
    moved = tmp_path / "elsewhere" / "all of them"
    moved.parent.mkdir()
    folder.rename(moved)
    again = embed(images=moved)
    assert embed.taken == [] and "5 images have moved: their rows are found again" in capsys.readouterr().out
    assert holds(again, net, sorted(map(str, moved.rglob("*.jpg")))) and again.apart() == [[0, 2]]
    assert again.thumbnail(0) == first and again.content(0).facts.format == "JPEG"


def test_thumbnails_of_a_run_that_was_stopped(embed, folder, monkeypatch):
    """What was read before the stop is not read again, and all that is in the table at the end is there."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) < 5 and all(gallery.thumbnail(row) and gallery.content(row) for row in range(5))


def test_without_thumbnails(embed, folder):
    gallery = embed("--thumbnails", "no")
    assert gallery.thumbnail(0) is None and gallery.content(0).facts.format == "JPEG"


def test_a_picture_that_takes_more_memory_than_it_may_is_left_out(embed, folder):
    Image.new("RGB", (2000, 1500)).save(folder / "large.png")
    assert len(embed("--image_memory", 0.01)) == 5
    assert len(embed("--again")) == 6


def test_several_folders_a_list_and_a_photo(embed, folder, net, tmp_path):
    more, alone, listed = photos(tmp_path / "more", 2, first=20), photo(tmp_path / "alone.jpg", 30), tmp_path / "list.txt"
    embed.taken, gallery = [], tmp_path / "gallery"
    listed.write_text(f"{more[0]}\n{tmp_path}/clip.mp4\nREADME\n")
    several = ("--images", folder, tmp_path / "more", folder / "deep", alone, listed)
    expected = sorted([*map(str, folder.rglob("*.jpg")), *more, str(alone)])
    roots = [str(folder), str(tmp_path / "more")]
    assert holds(embed(*several), net, expected)
    about = json.loads((gallery / "about.json").read_text())
    assert (about["root"], about["roots"]) == (None, roots) and Gallery(gallery).roots == roots
    assert about["source"] == f"{folder}, {tmp_path}/more, {folder}/deep and 2 more"
    less = embed(*several, "--exclude", "deep/021*", "alone*")
    assert holds(less, net, [path for path in expected if not path.endswith(("more/deep/021.jpg", "alone.jpg"))])
    assert json.loads((gallery / "about.json").read_text())["roots"] == roots
    one = embed("--images", folder)
    assert (one.root, one.roots, one.about["source"]) == (str(folder), [str(folder)], str(folder))


def test_nothing_is_written_into_any_of_the_folders(embed, folder, tmp_path):
    photos(tmp_path / "more", 1)
    message = refusal(lambda: embed("--images", folder, tmp_path / "more", out=tmp_path / "more" / "gallery"))
    assert "lies in the folder of the images" in message and os.listdir(tmp_path / "more") == ["000.jpg"]


def test_thumbnails_of_other_programs(embed, folder, net):
    hidden = photo(folder / "@eaDir" / "000.jpg" / "SYNOPHOTO_THUMB_M.jpg", 9)
    assert len(embed()) == 5
    gallery = embed("--include_excluded")
    assert len(gallery) == 6 and str(hidden) in gallery.row_of_path
