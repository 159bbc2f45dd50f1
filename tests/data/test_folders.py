"""What a walk through folders gives: the images, and everything else with the reason why it is left out."""

import errno
import os
import random
import socket
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from data import extensions, folders
from data.exclusions import EXCLUDED, Rules
from data.folders import contents_of
from data.pixels import taken
from utils.errors import InputError

DATE = "2024:05:01 12:30:00"


def fill(folder, *names):
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    return folder


def walked(*roots, **rules):
    """({path: image}, {path: (category, why)}) relative to the only root, absolute for several."""
    contents = contents_of([str(root) for root in roots], Rules(**rules))
    below = lambda path: os.path.relpath(path, roots[0]) if len(roots) == 1 else path
    assert contents.images == sorted(contents.images) and contents.left_out == sorted(contents.left_out)
    return {below(i.path): i for i in contents.images}, {below(e.path): (e.category, e.why) for e in contents.left_out}


# ---- every file is told ------------------------------------------------------------------------------------------------


def test_an_image_as_the_disk_knows_it(tmp_path):
    fill(tmp_path, "a.jpg", "b/c.PNG")
    os.utime(tmp_path / "a.jpg", ns=(0, -1_500_000_001))
    images, left_out = walked(tmp_path)
    for name, image in images.items():
        status = os.stat(tmp_path / name)
        assert image[:4] == (str(tmp_path / name), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        assert image[4:] == (status.st_ino, status.st_dev, os.path.realpath(tmp_path / name), 1, False)
    assert list(images) == ["a.jpg", "b/c.PNG"] and not left_out


def test_a_year_beyond_64_bits_of_nanoseconds(tmp_path):
    fill(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(0, 2**63 + 10**9))
    assert walked(tmp_path)[0]["a.jpg"].mtime_ns == min(os.stat(tmp_path / "a.jpg").st_mtime_ns, 2**63 - 1)


def test_everything_else_by_category(tmp_path, monkeypatch):
    monkeypatch.setattr(extensions, "installed", lambda package: package != "rawpy")
    fill(
        tmp_path,
        "a.jpg",
        "clip.mp4",
        "a.jpg.xmp",
        "x.svg",
        "x.pdf",
        "x.docx",
        "README",
        "raw.NEF",
        "x.jxl",
        ".x.jpg",
        ".c/a",
    )
    fill(tmp_path, "run/a.jpg", "run/metrics.jsonl")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "to pipe.jpg").symlink_to("pipe.jpg")
    (tmp_path / "to null").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        images, left_out = walked(tmp_path)
    assert list(images) == ["a.jpg", "x.jxl"]
    hidden = ("hidden", "its name begins with a dot")
    assert left_out == {
        ".c": hidden,
        ".x.jpg": hidden,
        "README": ("not read", "no extension"),
        "a.jpg.xmp": ("not read", "sidecar"),
        "clip.mp4": ("not read", "video"),
        "pipe.jpg": ("pipe, socket or device", "a pipe"),
        "raw.NEF": ("not read", "camera raw, which needs: pip install rawpy"),
        "run": ("folder of a training run", "holds metrics.jsonl"),
        "socket": ("pipe, socket or device", "a socket"),
        "to null": ("pipe, socket or device", "a device"),
        "to pipe.jpg": ("pipe, socket or device", "a pipe"),
        "x.docx": ("not read", ".docx"),
        "x.pdf": ("not read", "PDF"),
        "x.svg": ("not read", "SVG"),
    }


def test_any_name(tmp_path):
    names = [
        b"caf\xe9.jpg",
        b"new\nline.jpg",
        b"\xff\xfe.PNG",
        b" .gif",
        b"-.jpg",
        "\N{SNOWMAN}.webp".encode(),
        b"\r/\n/x.jpg",
    ]
    fill(tmp_path, *names, b"caf\xe9", b"new\nline.mov")
    images, left_out = walked(tmp_path)
    assert sorted(map(os.fsencode, images)) == sorted(names)
    assert left_out == {"caf\udce9": ("not read", "no extension"), "new\nline.mov": ("not read", "video")}


def test_a_file_that_goes_meanwhile_is_told(tmp_path, monkeypatch):
    fill(tmp_path, "a.jpg", "b.jpg")
    look_up = folders._image
    monkeypatch.setattr(
        folders, "_image", lambda path, *rest: (os.path.exists(path) and os.remove(path), look_up(path, *rest))[1]
    )
    assert walked(tmp_path) == ({}, dict.fromkeys(("a.jpg", "b.jpg"), ("gone", "No such file or directory")))


def test_the_order_of_the_disk_changes_nothing(tmp_path, monkeypatch):
    fill(tmp_path / "a", *(f"{i % 3}/{i}.jpg" for i in range(12)), "x.mp4", "1/@eaDir/x.jpg")
    for i in range(4):
        os.link(tmp_path / f"a/{i % 3}/{i}.jpg", tmp_path / f"a/{i}.jpg")
        (tmp_path / f"a/link{i}").symlink_to(f"{i % 3}" if i else "..")
        (tmp_path / f"a/{i % 3}/l{i}.jpg").symlink_to(f"{i}.jpg")
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/c/one").symlink_to("../../a/1")
    (tmp_path / "a/out").symlink_to("../b/c")
    (tmp_path / "a/0/out").symlink_to("../../b")
    expected, scandir, rng = contents_of([str(tmp_path / "a")]), os.scandir, random.Random(0)

    class Shuffled:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            with scandir(self.path) as entries:
                return iter(sorted(entries, key=lambda _: rng.random()))

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert all(contents_of([str(tmp_path / "a")]) == expected for _ in range(20)) and len(expected.images) == 12


def test_only_images_and_folders_are_looked_up(tmp_path, monkeypatch):
    """With a million files, a system call for each would be felt."""
    fill(tmp_path, *(f"{i}.txt" for i in range(50)), *(f"{i}.jpg" for i in range(5)), "a/b/c.xmp", "a/.d/e.jpg")
    looked, stat = Counter(), os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: (looked.update([str(path)]), stat(path, **more))[1])
    assert len(walked(tmp_path)[0]) == 5
    assert sorted(looked) == sorted(
        [str(tmp_path), *(f"{tmp_path}/{name}" for name in ("a", "a/b", *(f"{i}.jpg" for i in range(5))))]
    )
    assert max(looked.values()) == 1


# ---- exclusions --------------------------------------------------------------------------------------------------------

OF_OTHER_PROGRAMS = {
    "@eaDir": ["@eaDir", "@EADIR", "@eadir"],
    "#recycle": ["#recycle", "#Recycle"],
    "#snapshot": ["#snapshot"],
    "$RECYCLE.BIN": ["$RECYCLE.BIN", "$Recycle.Bin"],
    "System Volume Information": ["System Volume Information", "SYSTEM VOLUME INFORMATION"],
    ".Trash*": [".Trash", ".Trash-1000", ".trashes"],
    ".thumbnails": [".thumbnails"],
    "lost+found": ["lost+found", "Lost+Found"],
    "._*": ["._IMG_1.jpg", "._x"],
    "Thumbs.db": ["Thumbs.db", "thumbs.DB"],
}


@pytest.mark.parametrize("rule", OF_OTHER_PROGRAMS)
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_other_programs_keep(tmp_path, rule, is_folder):
    assert sorted(EXCLUDED) == sorted(OF_OTHER_PROGRAMS)
    for i, name in enumerate(OF_OTHER_PROGRAMS[rule]):
        fill(tmp_path / f"{i}", name + "/x.jpg" if is_folder else name, f"{name} too.jpg", f"x{name}/y.jpg")
    images, left_out = walked(tmp_path)
    for i, name in enumerate(OF_OTHER_PROGRAMS[rule]):
        assert left_out.pop(f"{i}/{name}") == ("excluded", rule)
        assert f"{i}/x{name}/y.jpg" in images
        assert f"{i}/{name} too.jpg" in images or name[0] == "."
    read, still_out = walked(tmp_path, include_excluded=True)
    for i, name in enumerate(OF_OTHER_PROGRAMS[rule]):
        if name[0] == ".":
            assert still_out[f"{i}/{name}"][0] == "hidden"
        elif is_folder:
            assert f"{i}/{name}/x.jpg" in read
        else:
            assert still_out[f"{i}/{name}"][0] == "not read"


def test_globs_fit_a_name_or_a_path_below_the_root(tmp_path):
    fill(
        tmp_path, "old.jpg", "a/old.jpg", "a/Old.jpg", "a/b/x.jpg", "a/b/x.png", "trips/2020/x.jpg", "trips/x.jpg", "b/x.jpg"
    )
    images, left_out = walked(tmp_path, globs=["old*", "a/b/*.png", "trips/20*/", "b/x*"])
    assert list(images) == ["a/Old.jpg", "a/b/x.jpg", "trips/x.jpg"]
    assert left_out == {
        "a/b/x.png": ("excluded", "a/b/*.png"),
        "a/old.jpg": ("excluded", "old*"),
        "b/x.jpg": ("excluded", "b/x*"),
        "old.jpg": ("excluded", "old*"),
        "trips/2020": ("excluded", "trips/20*"),
    }


def test_a_root_is_read_whatever_its_name(tmp_path):
    for name in (".hidden", "@eaDir", "run", "old"):
        root = fill(tmp_path / name, "a.jpg", "run.lock" if name == "run" else "b.jpg", ".c.jpg")
        assert "a.jpg" in walked(root, globs=["old"])[0]


# ---- links -------------------------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed_and_each_folder_is_read_once(tmp_path):
    fill(tmp_path / "photos", "a/1.jpg", "z/2.jpg")
    fill(tmp_path / "elsewhere", "3.jpg", "deep/4.jpg")
    (tmp_path / "photos/a link").symlink_to("z")  # sorts before the folder itself
    (tmp_path / "photos/out").symlink_to("../elsewhere")
    (tmp_path / "photos/out again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/a/deep").symlink_to("../../elsewhere/deep")
    images, left_out = walked(tmp_path / "photos")
    assert {name: os.path.relpath(image.real, tmp_path) for name, image in images.items()} == {
        "a/1.jpg": "photos/a/1.jpg",
        "out/3.jpg": "elsewhere/3.jpg",
        "out/deep/4.jpg": "elsewhere/deep/4.jpg",
        "z/2.jpg": "photos/z/2.jpg",
    }
    other = "another name of the same file or folder"
    assert left_out == {
        "a link": (other, f"of {tmp_path}/photos/z"),
        "a/deep": (other, f"of {tmp_path}/photos/out/deep"),
        "out again": (other, f"of {tmp_path}/photos/out"),
    }


def test_loops_end(tmp_path):
    top = fill(tmp_path / "photos", "a/b/1.jpg")
    fill(tmp_path, "private.jpg")
    fill(tmp_path / "elsewhere", "2.jpg", "deep/3.jpg")
    links = {
        "self": "self",
        "here": ".",
        "a/up": "..",
        "a/b/up": "..",
        "above": "..",
        "root": "/",
        "out": "../elsewhere/deep",
    }
    for name, target in links.items():
        (top / name).symlink_to(target)
    (tmp_path / "elsewhere/deep/up").symlink_to("..")  # nobody named the folder above
    (tmp_path / "elsewhere/deep/back").symlink_to(top / "a")
    images, left_out = walked(top)
    assert list(images) == ["a/b/1.jpg", "out/3.jpg"]
    loop = "link to a folder above it"
    assert left_out == {
        "a/b/up": (loop, f"leads to {top}/a"),
        "a/up": (loop, f"leads to {top}"),
        "above": (loop, f"leads to {tmp_path}"),
        "here": (loop, f"leads to {top}"),
        "out/back": ("another name of the same file or folder", f"of {top}/a"),
        "out/up": (loop, f"leads to {tmp_path}/elsewhere"),
        "root": (loop, "leads to /"),
        "self": ("link that leads nowhere", os.strerror(errno.ELOOP)),
    }


def test_links_to_files(tmp_path):
    top = fill(tmp_path / "photos", "m.jpg")
    fill(tmp_path, "out.jpg", "clip.mp4")
    links = {"a.jpg": "m.jpg", "b.jpg": "../out.jpg", "c.jpg": "../out.jpg", "d.jpg": "nowhere", "e.mp4": "../clip.mp4"}
    for name, target in {**links, "f.jpg": "b.jpg", ".g.jpg": "m.jpg", "h": "m.jpg"}.items():
        (top / name).symlink_to(target)
    images, left_out = walked(top)
    assert {name: image.real for name, image in images.items()} == {"b.jpg": f"{tmp_path}/out.jpg", "m.jpg": f"{top}/m.jpg"}
    other = "another name of the same file or folder"
    assert left_out == {
        ".g.jpg": ("hidden", "its name begins with a dot"),
        "a.jpg": (other, f"of {top}/m.jpg"),  # the real name comes first
        "c.jpg": (other, f"of {top}/b.jpg"),
        "d.jpg": ("link that leads nowhere", "No such file or directory"),
        "e.mp4": ("not read", "video"),
        "f.jpg": (other, f"of {top}/b.jpg"),
        "h": ("not read", "no extension"),
    }


def test_a_root_that_is_a_link(tmp_path):
    fill(tmp_path / "photos", "a/1.jpg")
    (tmp_path / "photos/0.jpg").symlink_to("a/1.jpg")
    (tmp_path / "link").symlink_to("photos")
    images, left_out = walked(tmp_path / "link")
    assert list(images) == ["a/1.jpg"] and images["a/1.jpg"].real == f"{tmp_path}/photos/a/1.jpg"
    assert images["a/1.jpg"].path == f"{tmp_path}/link/a/1.jpg" and list(left_out) == ["0.jpg"]


def test_hard_links_are_one_file(tmp_path):
    top = fill(tmp_path, "b/x.jpg", "c.jpg")
    for name in ("z.jpg", "a.png", "y.txt"):
        os.link(top / "b/x.jpg", top / name)
    (top / "0.jpg").symlink_to("z.jpg")
    images, left_out = walked(top)
    assert list(images) == ["a.png", "c.jpg"]
    other = ("another name of the same file or folder", f"of {top}/a.png")
    assert left_out == {"0.jpg": other, "b/x.jpg": other, "y.txt": ("not read", ".txt"), "z.jpg": other}


# ---- several roots -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
def test_roots_that_overlap_give_each_file_once(tmp_path, order):
    top = fill(tmp_path / "a", "1.jpg", "sub/2.jpg", ".hidden/3.jpg", "sub/run/run.lock", "sub/run/4.jpg", "sub/x/5.jpg")
    (tmp_path / "link").symlink_to("a/sub")
    fill(tmp_path / "b", "6.jpg")
    (tmp_path / "b/back").symlink_to("../a")
    roots = [top, top / "sub", top / ".hidden", top / "sub/run", tmp_path / "b", tmp_path / "link"]
    images, left_out = walked(*roots[::order])
    real = sorted(os.path.relpath(image.real, tmp_path) for image in images.values())
    assert real == ["a/.hidden/3.jpg", "a/1.jpg", "a/sub/2.jpg", "a/sub/run/4.jpg", "a/sub/x/5.jpg", "b/6.jpg"]
    assert {path: why for path, (category, why) in left_out.items() if category != "not read"} == {
        f"{tmp_path}/b/back": f"of {top}"
    }


def test_named_images_beside_folders(tmp_path):
    top = fill(tmp_path / "a", "1.jpg", ".hidden.jpg", "@eaDir/2.jpg", "old.jpg")
    fill(tmp_path, "b/3.jpg", "b/any name")
    os.mkfifo(tmp_path / "pipe.jpg")
    names = [
        "a/1.jpg",
        "a/.hidden.jpg",
        "a/@eaDir/2.jpg",
        "b/3.jpg",
        "b/3.jpg",
        "b/any name",
        "a/old.jpg",
        "gone.jpg",
        "pipe.jpg",
    ]
    contents = contents_of([str(top)], Rules(["old*"]), [str(tmp_path / name) for name in names])
    assert [os.path.relpath(image.path, tmp_path) for image in contents.images] == [
        "a/.hidden.jpg", "a/1.jpg", "a/@eaDir/2.jpg", "b/3.jpg", "b/any name",
    ]  # fmt: skip
    assert [(os.path.relpath(path, tmp_path), *more) for path, *more in contents.left_out] == [
        ("a/@eaDir", "excluded", "@eaDir"),
        ("a/old.jpg", "excluded", "old*"),
        ("gone.jpg", "gone", "No such file or directory"),
        ("pipe.jpg", "gone", "not a file"),
    ]


# ---- folders that cannot be read ---------------------------------------------------------------------------------------


def fail(monkeypatch, folder, number):
    """Reading of `folder` fails, for root too."""
    scandir = os.scandir

    def failing(path):
        if str(path) == str(folder):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    fill(tmp_path, "a.jpg", "closed/b.jpg")
    fail(monkeypatch, tmp_path / "closed", errno.EACCES)
    images, left_out = walked(tmp_path)
    assert list(images) == ["a.jpg"] and left_out == {"closed": ("folder that may not be read", "Permission denied")}


@pytest.mark.parametrize("name, number", [("", errno.EACCES), ("", errno.EIO), ("b", errno.EIO), ("link", errno.ESTALE)])
def test_a_folder_that_fails_is_refused(tmp_path, monkeypatch, name, number):
    fill(tmp_path / "a", "a.jpg", "b/b.jpg")
    fill(tmp_path / "elsewhere", "c.jpg")
    (tmp_path / "a/link").symlink_to("../elsewhere")
    fail(monkeypatch, tmp_path / "a" / name, number)
    with pytest.raises(InputError, match=f"cannot read this folder .{os.strerror(number)}"):
        contents_of([str(tmp_path / "a")])


# ---- a raw file or a HEIC beside a JPEG --------------------------------------------------------------------------------


def write(path, date=DATE):
    """Write a photo in the format of its extension. A raw file is a TIFF, as most are."""
    picture = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))
    exif, tags, end = Image.Exif(), ImageFileDirectory_v2(), path.suffix.lower()
    if date:
        exif.get_ifd(0x8769)[0x9003], tags[0x8769] = date, {0x9003: date}
    path.parent.mkdir(parents=True, exist_ok=True)
    if end == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_pillow(picture).save(path, format="HEIF", exif=exif.tobytes() if date else None)
        return path
    with open(path, "wb") as file:
        if end in (".jpg", ".jpeg", ".jfif"):
            picture.save(file, "JPEG", exif=exif)
        else:
            picture.save(file, "TIFF", tiffinfo=tags)
    return path


@pytest.mark.parametrize("raw_is_read", [True, False])
def test_a_jpeg_stands_for_the_raw_file_of_the_same_photo(tmp_path, monkeypatch, raw_is_read):
    monkeypatch.setattr(extensions, "installed", lambda package: raw_is_read or package != "rawpy")
    for name in ("a/1.jpg", "a/1.NEF", "a/2.JPG", "a/2.heic", "a/IMG.jfif", "a/img.dng", "a/3.cr2", "b/3.jpg", "b/4.heic"):
        write(tmp_path / name)
    write(tmp_path / "c/5.jpg"), write(tmp_path / "c/5.arw", "2024:05:01 12:30:01")  # another date
    write(tmp_path / "c/6.jpg", None), write(tmp_path / "c/6.arw")  # without a date in one, in the other, in both
    write(tmp_path / "c/7.jpg"), write(tmp_path / "c/7.heic", None)
    write(tmp_path / "c/8.jpg", None), write(tmp_path / "c/8.pef", None)
    write(tmp_path / "c/9.jpg", "0000:00:00 00:00:00"), write(tmp_path / "c/9.nef", "0000:00:00 00:00:00")
    write(tmp_path / "c/x.jpg", "2020:01:01 00:00:00"), write(tmp_path / "c/x.jpeg"), write(tmp_path / "c/x.nef")
    write(tmp_path / "c/y.png"), write(tmp_path / "c/y.nef")
    images, left_out = walked(tmp_path)
    companions = {name: why for name, (category, why) in left_out.items() if category == "the same photo as a JPEG"}
    assert companions == {
        "a/1.NEF": f"as {tmp_path}/a/1.jpg",
        "a/2.heic": f"as {tmp_path}/a/2.JPG",
        "a/img.dng": f"as {tmp_path}/a/IMG.jfif",
        "c/x.nef": f"as {tmp_path}/c/x.jpeg",
    }
    everything = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    raw = {name for name in everything - {*companions} if name[-3:] in ("nef", "arw", "cr2", "pef")}
    assert {*images} == everything - {*companions} - (set() if raw_is_read else raw)
    assert all(left_out[name][1] == "camera raw, which needs: pip install rawpy" for name in raw if not raw_is_read)


def test_headers_are_read_of_pairs_alone(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(folders, "taken", lambda path: read.append(os.path.relpath(path, tmp_path)))
    fill(tmp_path, "a.jpg", "a.heic", "b.jpg", "c.heic", "d/a.jpg", "a.png", "e.jpg", "e.jpeg")
    walked(tmp_path)
    assert set(read) == {"a.heic"}  # it says no date, so the JPEG need not be asked


def dng(path, magic=b"II*\0"):
    """Write a raw file that LibRaw knows. magic: of its makers; Olympus writes IIRO."""
    values = np.random.default_rng(0).integers(0, 4000, (64, 64), dtype=np.uint16)
    tags = ImageFileDirectory_v2()
    for tag, value, sort in (
        (50706, bytes([1, 4, 0, 0]), 1), (50708, "Test Cam", 2), (271, "Test", 2), (272, "Cam", 2), (306, DATE, 2),
        (33421, (2, 2), 3), (33422, bytes([0, 1, 1, 2]), 1), (50721, (1, 0, 0, 0, 1, 0, 0, 0, 1), 10),
    ):  # fmt: skip
        tags.tagtype[tag], tags[tag] = sort, value
    with open(path, "wb") as file:
        Image.fromarray(values).save(file, "TIFF", tiffinfo=tags)
    data = bytearray(path.read_bytes())
    for entry in range(struct.unpack("<H", data[8:10])[0]):
        place = 10 + 12 * entry
        if struct.unpack("<H", data[place : place + 2]) == (262,):  # how to see the values: as those of a sensor
            data[place + 8 : place + 10] = struct.pack("<H", 32803)
    path.write_bytes(magic + data[4:])
    return str(path)


def test_when_a_photo_was_taken(tmp_path):
    pytest.importorskip("rawpy")
    expected = "2024-05-01 12:30:00"
    assert [taken(str(write(tmp_path / f"a.{end}"))) for end in ("jpg", "heic", "nef", "tif")] == [expected] * 4
    assert taken(dng(tmp_path / "a.orf", b"IIRO")) == expected  # no TIFF for Pillow: LibRaw says it
    for name in ("none.jpg", "none.nef", "none.heic"):
        assert taken(str(write(tmp_path / name, None))) is None
    (tmp_path / "bad.jpg").write_text("no picture")
    (tmp_path / "bad.cr3").write_bytes(b"\0\0\0\x18ftypcrx ")
    os.mkfifo(tmp_path / "pipe.nef")
    assert [taken(str(tmp_path / name)) for name in ("bad.jpg", "bad.cr3", "pipe.nef", "gone.jpg", "gone.nef")] == [None] * 5


def test_no_pixels_are_read(tmp_path, monkeypatch):
    def load(self):
        raise AssertionError("the pixels were read")

    paths = [str(write(tmp_path / name)) for name in ("a.jpg", "a.heic", "a.nef")]
    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert all(map(taken, paths))
    assert Path(paths[0]).exists()
