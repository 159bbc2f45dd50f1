"""Which files embed.py takes: of folders, lists and photos. The walk itself: tests/data/test_folders.py."""

import os
import subprocess

import pytest

from data import extensions
from galleries import photo, photos
from gallery.survey import summary, survey
from gallery.table import Detail, File, LeftOut
from utils.errors import InputError


def names(surveyed, top):
    return [os.path.relpath(file.path, top) for file in surveyed.files]


def left_out(surveyed, top):
    return [(os.path.relpath(entry.path, top), entry.category, entry.why) for entry in surveyed.left_out]


# ---- a folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_in_order_of_the_paths_with_size_and_time(tmp_path, monkeypatch):
    expected = photos(tmp_path / "photos", 5)
    (tmp_path / "photos" / "notes.txt").touch()
    os.utime(expected[2], ns=(0, -1_500_000_001))  # a time before 1970
    monkeypatch.chdir(tmp_path)
    for path in ("photos", tmp_path / "photos", "photos/", "photos/deep/.."):
        surveyed, stats = survey([str(path)]), list(map(os.stat, expected))
        assert surveyed.files == [File(path, s.st_size, s.st_mtime_ns) for path, s in zip(expected, stats)]
        assert surveyed.details == [Detail(s.st_ctime_ns, s.st_ino, s.st_dev, path) for path, s in zip(expected, stats)]
        assert surveyed.gone == [] and surveyed.roots == [str(tmp_path / "photos")] and surveyed.root == surveyed.roots[0]
        assert surveyed.left_out == [LeftOut(str(tmp_path / "photos/notes.txt"), "not read", ".txt")]
    assert surveyed.files[2].mtime_ns == -1_500_000_001


def test_an_album_of_links_gives_the_photos(tmp_path):
    folder, beside = tmp_path / "album", tmp_path / "photos of others"
    folder.mkdir()
    one, two = photos(beside, 2)
    (folder / "one.jpg").symlink_to(one)
    (folder / "whole").symlink_to(beside / "deep")
    (folder / "broken.jpg").symlink_to("nowhere")
    surveyed = survey([str(folder)])
    assert names(surveyed, folder) == ["one.jpg", "whole/001.jpg"] and [d.real for d in surveyed.details] == [one, two]
    assert left_out(surveyed, folder) == [("broken.jpg", "link that leads nowhere", "No such file or directory")]


def test_a_link_to_the_folder_is_the_folder(tmp_path):
    expected = photos(tmp_path / "photos", 2)
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "photos" / "more.jpg").symlink_to("000.jpg")
    surveyed = survey([str(tmp_path / "link")])
    assert surveyed.roots == [str(tmp_path / "link")]
    assert names(surveyed, tmp_path / "link") == ["000.jpg", "deep/001.jpg"]
    assert [detail.real for detail in surveyed.details] == expected
    why = f"of {tmp_path}/link/000.jpg"
    assert left_out(surveyed, tmp_path / "link") == [("more.jpg", "another name of the same file or folder", why)]


def test_exclusions(tmp_path):
    photos(tmp_path, 4)
    photo(tmp_path / "@eaDir" / "x.jpg")
    assert names(survey([str(tmp_path)]), tmp_path) == ["000.jpg", "002.jpg", "deep/001.jpg", "deep/003.jpg"]
    surveyed = survey([str(tmp_path)], ["deep/*1.jpg", "002*"], include_excluded=True)
    assert names(surveyed, tmp_path) == ["000.jpg", "@eaDir/x.jpg", "deep/003.jpg"]
    assert left_out(surveyed, tmp_path) == [("002.jpg", "excluded", "002*"), ("deep/001.jpg", "excluded", "deep/*1.jpg")]


# ---- lists -------------------------------------------------------------------------------------------------------------


def test_a_list_each_image_once_and_what_is_not_there(tmp_path):
    one, two = photos(tmp_path / "photos", 2)
    (tmp_path / "link.jpg").symlink_to(one)  # a link counts as its target
    listed = tmp_path / "list.txt"
    listed.write_text(f"photos/deep/001.jpg 3\n\ngone.jpg\n{one}\nphotos/../photos/000.jpg\nlink.jpg\n")
    surveyed = survey([str(listed)])
    assert names(surveyed, tmp_path) == ["photos/000.jpg", "photos/deep/001.jpg"]
    assert surveyed.roots == [] and surveyed.root is None and surveyed.left_out == []
    (gone,) = surveyed.gone
    assert gone.file == File(str(tmp_path / "gone.jpg"), 0, 0)
    assert gone.reason == f"{tmp_path}/gone.jpg: No such file or directory"


def test_what_find_writes_is_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(extensions, "installed", lambda package: package != "rawpy")
    expected = photos(tmp_path / "photos", 3)
    for name in ("clip.mp4", "notes 2", "a b.docx", "raw.nef", "caf\udce9 7", "README", "IMG 5", "-3"):
        (tmp_path / "photos" / name).touch()
    with open(tmp_path / "list.txt", "wb") as file:
        subprocess.run(["find", tmp_path / "photos"], stdout=file, check=True)  # folders too, without -type f
        file.write(b"photos/labelled 3\n5\n")
    surveyed = survey([str(tmp_path / "list.txt")])
    assert [file.path for file in surveyed.files] == expected
    assert [gone.file.path for gone in surveyed.gone] == [f"{tmp_path}/photos/labelled"]
    assert sorted(left_out(surveyed, tmp_path)) == [
        ("5", "not read", "no extension"),
        ("photos", "not read", "no extension"),
        ("photos/-3", "not read", "no extension"),
        ("photos/IMG 5", "not read", "no extension"),
        ("photos/README", "not read", "no extension"),
        ("photos/a b.docx", "not read", ".docx"),
        ("photos/caf\udce9 7", "not read", "no extension"),
        ("photos/clip.mp4", "not read", "video"),
        ("photos/deep", "not read", "no extension"),
        ("photos/notes 2", "not read", "no extension"),
        ("photos/raw.nef", "not read", "camera raw, which needs: pip install rawpy"),
    ]


def test_names_of_any_bytes(tmp_path):
    odd = [b"caf\xe9.jpg", b"new\nline.jpg", b"<img src=x onerror=alert(1)>.jpg", "\N{SNOWMAN}.jpg".encode()]
    folder = tmp_path / "photos"
    for name in odd:
        os.rename(photos(folder, 1)[0], os.fsencode(folder) + b"/" + name)
    surveyed = survey([str(folder)])
    assert {os.fsencode(os.path.basename(file.path)) for file in surveyed.files} == set(odd)
    assert [file.path for file in surveyed.files] == sorted(file.path for file in surveyed.files)
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"photos/" + odd[0] + b"\nphotos/\xff gone.jpg\n")
    surveyed = survey([str(listed)])
    assert os.fsencode(surveyed.files[0].path).endswith(odd[0]) and len(surveyed.files) == 1
    assert (
        surveyed.gone[0].reason == f"{tmp_path}/photos/\\udcff gone.jpg: No such file or directory"
    )  # as text goes anywhere


def test_a_pipe_in_a_list_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "list.txt").write_text("pipe.jpg\nfolder.jpg\n")
    surveyed = survey([str(tmp_path / "list.txt")])
    assert surveyed.files == [] and [os.path.basename(bad.file.path) for bad in surveyed.gone] == ["folder.jpg", "pipe.jpg"]


# ---- several -----------------------------------------------------------------------------------------------------------


def test_folders_lists_and_photos_at_once(tmp_path, monkeypatch):
    (one, two), (three,), (four,) = (photos(tmp_path / name, n, first=8 * n) for name, n in (("a", 2), ("b", 1), ("c", 1)))
    (tmp_path / "list.txt").write_text(f"{one}\n{three}\nclip.mov\n")
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    surveyed = survey(["a", "list.txt", "c/008.jpg", "clip.mp4", "a/deep"])
    assert [file.path for file in surveyed.files] == sorted([one, two, three, four])
    assert surveyed.roots == [str(tmp_path / "a")]
    assert left_out(surveyed, tmp_path) == [("clip.mov", "not read", "video"), ("clip.mp4", "not read", "video")]
    assert survey(["c/008.jpg"]).roots == [] and names(survey(["c/008.jpg"]), tmp_path) == ["c/008.jpg"]
    assert names(survey("c/008.jpg"), tmp_path) == ["c/008.jpg"]  # a slip


def test_the_roots(tmp_path):
    for name in ("a/sub/deep", "ab", "b"):
        photo(tmp_path / name / "x.jpg")
    (tmp_path / "a/out").symlink_to("../b")
    (tmp_path / "link").symlink_to("a")

    def roots(*folders):
        surveyed = survey([str(tmp_path / name) for name in folders])
        assert surveyed.root == (surveyed.roots[0] if len(surveyed.roots) == 1 else None)
        return [os.path.relpath(root, tmp_path) for root in surveyed.roots]

    assert roots("ab", "a") == ["ab", "a"]
    assert roots("a/sub", "a", "a/sub/deep", "a") == ["a"]
    assert roots("link", "a", "a/sub") == ["link"]  # two names of one folder
    assert roots("a/out", "a") == ["a/out", "a"]  # it lies elsewhere


# ---- what is told ------------------------------------------------------------------------------------------------------


def test_the_summary_counts_by_category():
    others = (".c", ".txt", ".txt", ".h", "no extension", ".md", ".py")
    rows = [
        *(("not read", "video", f"{i}.mp4") for i in range(4)),
        *(("not read", why, f"{i}{why}") for i, why in enumerate(others)),
        ("not read", "camera raw, which needs: pip install rawpy", "x.nef"),
        ("excluded", "@eaDir", "z/@eaDir"),
        ("excluded", "@eaDir", "a/@eaDir"),
        ("excluded", "*.tmp", "x.tmp"),
        ("hidden", "its name begins with a dot", ".x"),
        ("the same photo as a JPEG", "as 1.jpg", "1.nef"),
        ("the same photo as a JPEG", "as 2.jpg", "2.nef"),
    ]
    given = [LeftOut(path, category, why) for category, why, path in rows]
    expected = [
        ("excluded: *.tmp", 1, ["x.tmp"]),
        ("excluded: @eaDir", 2, ["a/@eaDir", "z/@eaDir"]),
        ("hidden", 1, [".x"]),
        ("not read: camera raw, which needs: pip install rawpy", 1, ["x.nef"]),
        ("not read: other files (.txt, .c, .h, .md, .py, ...)", 7, ["0.c", "1.txt", "2.txt"]),
        ("not read: video", 4, ["0.mp4", "1.mp4", "2.mp4"]),
        ("the same photo as a JPEG", 2, ["1.nef", "2.nef"]),
    ]
    assert summary(given) == summary(given[::-1]) == expected
    assert summary([]) == []


def refusal(*images):
    with pytest.raises(InputError) as caught:
        survey([str(path) for path in images])
    assert "\n" not in caught.value.shown
    return caught.value.shown


def test_nothing_to_embed(tmp_path):
    assert refusal(tmp_path / "nowhere") == f"--images {tmp_path}/nowhere: no such folder or list"
    (tmp_path / "a.txt").touch()
    assert refusal(tmp_path).startswith(f"--images {tmp_path}: no image in it (.jpg, .jpeg, ")
    assert refusal(tmp_path).endswith(f"); left out: not read: other files (.txt) (1): {tmp_path}/a.txt")
    assert "a.txt: the list is empty" in refusal(tmp_path / "a.txt")
    (tmp_path / "clip.mov").write_bytes(b"\0")
    assert refusal(tmp_path / "clip.mov").endswith(f"); left out: not read: video (1): {tmp_path}/clip.mov")
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", tmp_path / "clip.mov").startswith(
        f"--images {tmp_path}/empty, {tmp_path}/clip.mov: no"
    )
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: cannot read the list file (not a file)" in refusal(tmp_path / "pipe")


def test_a_folder_that_cannot_be_read_is_named_by_the_flag_of_embed(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)  # root may read everything, so this fails for root too
    assert refusal(tmp_path).removeprefix("--images ") == f"{tmp_path}: cannot read this folder (Permission denied)"
