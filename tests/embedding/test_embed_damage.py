"""embed.py and damaged galleries, full disks, wrong flags."""

import shutil
from collections import namedtuple

import numpy as np
import pytest
from made_galleries import holds, refusal, same_rows

from galleries import TINY, photo, snapshot
from gallery import model as gallery_model
from gallery.folder import PLACES
from gallery.store import Gallery
from utils.errors import InputError, RunError


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
@pytest.mark.parametrize("part", PLACES)
def test_a_damaged_gallery_comes_right(embed, folder, net, tmp_path, part, damage):
    """Either the same command repairs it, or it names the command that does."""
    embed()
    path = tmp_path / "gallery" / part
    held = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(held[: len(held) // 2] if damage == "cut" else b"")
    try:
        gallery = embed()
    except InputError as error:
        assert "--again" in error.shown and part in error.shown and error.shown.isprintable()
        gallery = embed("--again")
    paths = sorted(map(str, folder.rglob("*.jpg")))
    assert holds(gallery, net, paths)
    assert np.allclose(gallery_model.of_gallery(gallery).embed(paths), gallery.embeddings, atol=1e-5)


def test_a_disk_without_room(embed, folder, tmp_path, monkeypatch):
    old = embed()
    photo(folder / "new.jpg", 50)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
        message = refusal(embed, RunError)
    assert message.startswith(f"{tmp_path}/gallery: 6 images take ") and "make room" in message
    assert same_rows(Gallery(tmp_path / "gallery"), old) and len(embed()) == 6


@pytest.mark.parametrize("out", [".", "new", "deep", "../link/new"])
def test_nothing_is_put_among_the_photos(embed, folder, tmp_path, out):
    (tmp_path / "link").symlink_to("photos")
    before = snapshot(folder)
    message = refusal(lambda: embed(out=f"{folder}/{out}"))
    assert message.startswith("--out ") and snapshot(folder) == before


@pytest.mark.parametrize("name", ["making", "making.new", "making.old", "derived"])
def test_what_others_have_put_there_is_not_removed(embed, folder, tmp_path, name):
    """As if --out were a folder that has long held other things."""
    precious = tmp_path / "gallery" / name / "years of work.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    try:
        embed()
        photo(folder / "new.jpg", 50)
        embed()
    except InputError as error:
        assert error.shown.startswith("--out ") and str(precious.parent) in error.shown
    assert precious.read_text() == "precious"


def test_another_name(embed, folder):
    assert embed().name == "ready-made"
    assert embed("--name", "holidays").name == "holidays" and embed.taken == []


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--images", "nowhere"], "--images nowhere: no such folder or list"),
        (["--checkpoint", "nowhere.pth.tar"], "nowhere.pth.tar: cannot be read (No such file or directory)"),
        (["--checkpoint", "setup.cfg"], "setup.cfg: not a readable checkpoint"),
        (["--net", "EfficentNet-Lite0"], "did you mean EfficientNet-Lite0?"),
        (["--head", "embedding"], "--head embedding: an untrained net has a random one; give a checkpoint"),
        (["--width", 40], "--width 40 does not fit an image of origin_width 36"),
        (["--dtype", "float64"], "--dtype"),
        (["--out", "setup.cfg"], "setup.cfg: cannot make this folder"),
    ],
)
def test_slips_are_one_line(run, folder, tmp_path, monkeypatch, flags, text):
    before = snapshot(folder)
    message = refusal(lambda: run("embed", "--images", folder, "--out", tmp_path / "gallery", *TINY, *flags))
    assert text in message and snapshot(folder) == before
    assert not (tmp_path / "gallery" / "about.json").exists()
