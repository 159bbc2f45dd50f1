"""Which files embed.py takes from a folder or from a list."""

import os

import pytest

from galleries import photos
from gallery.survey import survey
from gallery.table import File
from utils import log
from utils.errors import InputError


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(log, "say", lines.append)
    return lines


def names(found, top):
    return [os.path.relpath(file.path, top) for file in found.files]


def test_a_folder_in_order_of_the_paths_with_size_and_time(tmp_path, monkeypatch):
    expected = photos(tmp_path / "photos", 5)
    (tmp_path / "photos" / "notes.txt").touch()
    os.utime(expected[2], ns=(0, -1_500_000_001))  # a time before 1970
    monkeypatch.chdir(tmp_path)
    for asked in ("photos", tmp_path / "photos", "photos/", "photos/deep/.."):
        found = survey(str(asked))
        assert found.files == [File(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in expected]
        assert found.gone == [] and found.root == str(tmp_path / "photos")
    assert found.files[2].mtime_ns == -1_500_000_001


def test_links_out_of_the_folder_are_left_out_and_named(tmp_path, said):
    folder, beside = tmp_path / "photos", tmp_path / "photos of others"  # its name begins with the folder's name
    inside, outside = photos(folder, 1)[0], photos(beside, 1, first=8)[0]
    (folder / "in.jpg").symlink_to(inside)
    (folder / "to in.jpg").symlink_to("in.jpg")
    (folder / "out.jpg").symlink_to(outside)
    (folder / "to out.jpg").symlink_to("out.jpg")
    (folder / "out and in.jpg").symlink_to("../photos/000.jpg")
    (folder / "whole folder").symlink_to(beside)
    (folder / "broken.jpg").symlink_to("nowhere")
    assert names(survey(str(folder)), folder) == ["000.jpg", "in.jpg", "out and in.jpg", "to in.jpg"]
    assert said == [f"{folder}: left out links that lead out of this folder (2): {folder}/out.jpg, {folder}/to out.jpg"]


def test_a_link_to_the_folder_is_the_folder(tmp_path, said):
    photos(tmp_path / "photos", 2)
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "photos" / "more.jpg").symlink_to("000.jpg")
    found = survey(str(tmp_path / "link"))
    assert found.root == str(tmp_path / "link")
    assert names(found, tmp_path / "link") == ["000.jpg", "deep/001.jpg", "more.jpg"] and not said


def test_a_list_each_image_once_and_what_is_not_there(tmp_path):
    one, two = photos(tmp_path / "photos", 2)
    (tmp_path / "link.jpg").symlink_to(one)  # a link counts as its target
    listed = tmp_path / "list.txt"
    listed.write_text(f"photos/deep/001.jpg 3\n\ngone.jpg\n{one}\nphotos/../photos/000.jpg\nlink.jpg\n")
    found = survey(str(listed))
    assert names(found, tmp_path) == ["photos/000.jpg", "photos/deep/001.jpg"] and found.root is None
    (gone,) = found.gone
    assert gone.file == File(str(tmp_path / "gone.jpg"), 0, 0)
    assert gone.reason == f"{tmp_path}/gone.jpg: No such file or directory"


def test_names_of_any_bytes(tmp_path):
    odd = [b"caf\xe9.jpg", b"new\nline.jpg", b"<img src=x onerror=alert(1)>.jpg", "\N{SNOWMAN}.jpg".encode()]
    folder = tmp_path / "photos"
    for name in odd:
        os.rename(photos(folder, 1)[0], os.fsencode(folder) + b"/" + name)
    found = survey(str(folder))
    assert {os.fsencode(os.path.basename(file.path)) for file in found.files} == set(odd)
    assert [file.path for file in found.files] == sorted(file.path for file in found.files)
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"photos/" + odd[0] + b"\nphotos/\xff gone.jpg\n")
    found = survey(str(listed))
    assert os.fsencode(found.files[0].path).endswith(odd[0]) and len(found.files) == 1
    assert found.gone[0].reason == f"{tmp_path}/photos/\\udcff gone.jpg: No such file or directory"  # surrogates are escaped


def test_a_pipe_in_a_list_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "list.txt").write_text("pipe.jpg\nfolder.jpg\n")
    found = survey(str(tmp_path / "list.txt"))
    assert found.files == [] and [os.path.basename(bad.file.path) for bad in found.gone] == ["folder.jpg", "pipe.jpg"]


def refusal(asked):
    with pytest.raises(InputError) as caught:
        survey(str(asked))
    assert "\n" not in caught.value.shown
    return caught.value.shown


def test_nothing_to_embed(tmp_path):
    assert refusal(tmp_path / "nowhere") == f"--images {tmp_path}/nowhere: no such folder or list"
    (tmp_path / "a.txt").touch()
    assert refusal(tmp_path).startswith(f"--images {tmp_path}: no image in it (.jpg, .jpeg, ")
    assert "a.txt: the list is empty" in refusal(tmp_path / "a.txt")
    (tmp_path / "out.jpg").symlink_to(__file__)
    assert refusal(tmp_path).startswith(f"--images {tmp_path}: no image in it (")


def test_a_folder_that_cannot_be_read_is_named_by_the_flag_of_embed(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)  # root may read everything, so this fails for root too
    assert refusal(tmp_path).removeprefix("--images ") == f"{tmp_path}: cannot read this folder (Permission denied)"
