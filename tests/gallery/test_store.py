"""Reading a gallery: its content, results kept beside it, and the messages about damaged galleries."""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from data.formats import NOTES
from data.pixels import Facts
from galleries import ABOUT, KINDS, damage, files_named, is_drawn, make
from gallery import derived, index as indexes, not_duplicates
from gallery.folder import GalleryFolder
from gallery.store import Gallery
from gallery.table import (
    Bad,
    Content,
    Detail,
    File,
    LeftOut,
    Table,
    contents_of,
    notes_of,
    read_table,
    replace_left_out,
    write_table,
)
from utils.errors import InputError, RunError

FILES = files_named("a.jpg", "b/b.jpg", "c.jpg")
GOOD = [FILES[0], FILES[2]]
BAD = Bad(FILES[1], f"{FILES[1].path}: cannot be read\n\x1b[31m")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery of two images and one unreadable file."""
    folder = tmp_path_factory.mktemp("made") / "gallery"
    make(folder, FILES, [BAD])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the gallery, which a test may change."""
    return shutil.copytree(made, tmp_path / "gallery")


def test_what_is_in_it(folder):
    gallery = Gallery(folder)
    assert is_drawn(gallery, GOOD) and len(gallery) == 2
    assert (gallery.folder, gallery.name, gallery.root) == (str(folder), ABOUT["name"], "/photos")
    assert gallery.bad == [(BAD.file.path, f"{BAD.file.path}: cannot be read\\n\\x1b[31m")]  # control characters are escaped
    slow = [hashlib.blake2b(file.path.encode(), digest_size=8).hexdigest() for file in GOOD]
    assert gallery.keys == slow and [gallery.row_of(key) for key in slow] == [0, 1]
    assert gallery.row_of("0" * 16) is None and gallery.row_of("") is None
    assert gallery.row_of_path == {"/photos/a.jpg": 0, "/photos/c.jpg": 1}
    assert [gallery.shown(row) for row in range(2)] == ["a.jpg", "c.jpg"]


def test_embeddings_stay_on_the_disk(folder):
    gallery = Gallery(folder)
    assert isinstance(gallery.embeddings, np.memmap) and isinstance(gallery.prints, np.memmap)
    with pytest.raises(ValueError):
        gallery.embeddings[0] = 0


@pytest.mark.parametrize(
    "root, path, expected",
    [
        ("/photos", "/photos/a/b.jpg", "a/b.jpg"),
        ("/", "/a.jpg", "a.jpg"),
        ("/pho", "/photos/b.jpg", "/photos/b.jpg"),
        (None, "/photos/b.jpg", "/photos/b.jpg"),
        ("/photos", "/photos/caf\udce9 \N{SNOWMAN}.jpg", "caf\N{REPLACEMENT CHARACTER} \N{SNOWMAN}.jpg"),
        ("/caf\udce9", "/caf\udce9/b.jpg", "b.jpg"),
        ("/photos", "/photos/new\nline.jpg", "new\nline.jpg"),
    ],
)
def test_paths_as_text(folder, root, path, expected):
    make(folder, [File(path, 1, 1)])
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "root": root}))
    gallery = Gallery(folder)
    assert list(gallery.paths) == [path] and gallery.shown(0) == expected
    assert expected.encode()  # it can be encoded as UTF-8


names = st.binary(min_size=1, max_size=12).map(lambda name: "/" + os.fsdecode(name.replace(b"\0", b"\n")))
numbers = st.integers(0, 2**63 - 1)
files = st.builds(File, names, numbers, st.integers(-(2**63), 2**63 - 1))
unsigned = st.integers(0, 2**64 - 1)
details = st.builds(Detail, st.integers(-(2**63), 2**63 - 1), unsigned, unsigned, st.just("") | names)
texts = st.none() | st.text(min_size=1, max_size=9)
facts = st.builds(Facts, numbers, numbers, st.text(max_size=5), texts, texts, st.integers(1, 8), texts)
contents = st.builds(Content, facts, st.lists(st.sampled_from(sorted(NOTES)), unique=True).map(tuple))
rows_of_table = st.lists(st.tuples(files, details, st.binary(min_size=16, max_size=16), st.none() | contents), max_size=5)


@settings(max_examples=15, deadline=None)
@given(
    rows=rows_of_table,
    bad=st.lists(st.builds(Bad, files, st.text(max_size=20)), max_size=3),
    left_out=st.lists(st.builds(LeftOut, names, st.just("links"), st.just("that lead nowhere")), max_size=3),
)
def test_the_table_gives_back_what_was_written(rows, bad, left_out):
    """Names are arbitrary bytes, including ones that are not UTF-8."""
    written = Table("stamp", [r[0] for r in rows], [r[1] for r in rows], [r[2].hex() for r in rows], bad, left_out)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "images.sqlite")
        write_table(path, written, [row[3] for row in rows])
        table = read_table(path)
        assert table[:4] == written[:4] and table.left_out == left_out
        assert [entry.file for entry in table.bad] == [entry.file for entry in bad]
        for some in (range(len(rows)), range(0, len(rows), 2), [len(rows)]):
            assert contents_of(path, some) == {i: rows[i][3] for i in some if i < len(rows) and rows[i][3]}
        assert notes_of(path) == [(i, row[3].notes) for i, row in enumerate(rows) if row[3] and row[3].notes]
        replace_left_out(path, left_out[:1])
        assert read_table(path).left_out == left_out[:1]
        assert os.listdir(folder) == ["images.sqlite"]


def test_a_table_of_format_1_is_read(tmp_path):
    """As written by the versions before facts were kept."""
    with closing(sqlite3.connect(tmp_path / "images.sqlite")) as base, base:
        base.execute("CREATE TABLE images (row INTEGER PRIMARY KEY, path, size INTEGER, mtime_ns INTEGER, hash TEXT)")
        base.execute("CREATE TABLE bad (path, size INTEGER, mtime_ns INTEGER, reason TEXT)")
        base.execute("CREATE TABLE about (stamp TEXT)")
        base.execute("INSERT INTO about VALUES ('old')")
        base.execute("INSERT INTO images VALUES (0, '/a.jpg', 7, 9, '00')")
    table = read_table(tmp_path / "images.sqlite")
    assert table == Table("old", [File("/a.jpg", 7, 9)], [Detail()], ["00"], [], [])
    assert contents_of(tmp_path / "images.sqlite", [0]) == {}


def test_a_gallery_of_format_1_is_read(folder):
    """By what it has: no facts, no thumbnails, no list of what was left out, and rows of older pixels."""
    make(folder, FILES)
    rows = [tuple(file) for file in Gallery(folder).files]
    hashes = [digest.tobytes().hex() for digest in Gallery(folder).hashes]
    about = json.loads((folder / "about.json").read_text())
    del about["pixels"]
    (folder / "about.json").write_text(json.dumps({**about, "format": 1}))
    (folder / "images.sqlite").unlink()
    with closing(sqlite3.connect(folder / "images.sqlite")) as base, base:
        base.execute("CREATE TABLE images (row INTEGER PRIMARY KEY, path, size INTEGER, mtime_ns INTEGER, hash TEXT)")
        base.execute("CREATE TABLE bad (path, size INTEGER, mtime_ns INTEGER, reason TEXT)")
        base.execute("CREATE TABLE about (stamp TEXT)")
        base.execute("INSERT INTO about VALUES (?)", (about["stamp"],))
        images = [(row, *file, digest) for row, (file, digest) in enumerate(zip(rows, hashes))]
        base.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", images)
    gallery = Gallery(folder)
    assert [tuple(file) for file in gallery.files] == rows and gallery.pixels == 1 and gallery.left_out == []
    assert gallery.content(0) is None and gallery.thumbnail(0) is None and gallery.noted() == []
    (folder / "about.json").write_text(json.dumps({**about, "format": 3}))
    assert "of another version of this program" in refusal(folder)


def test_anyone_can_read_the_table(folder):
    with closing(sqlite3.connect(folder / "images.sqlite")) as base:
        found = base.execute("SELECT row, path, size, hash FROM images WHERE path LIKE '%c.jpg'").fetchall()
        assert base.execute("SELECT path FROM bad").fetchall() == [("/photos/b/b.jpg",)]
    assert found == [(1, "/photos/c.jpg", FILES[2].size, Gallery(folder).hashes[1].tobytes().hex())]


# ---- damage ----------------------------------------------------------------------------------------------------------


def refusal(folder):
    with pytest.raises(InputError) as caught:
        Gallery(folder)
    message = caught.value.shown
    assert message.isprintable() and str(folder) in message, message
    return message


def test_no_gallery(tmp_path):
    assert refusal(tmp_path / "nowhere").endswith(
        f"nowhere: no gallery; make it with embed.py --images FOLDER --out {tmp_path}/nowhere"
    )
    (tmp_path / "file").touch()
    assert "embed.py" in refusal(tmp_path / "file")


PARTS = ("about.json", "embeddings.npy", "prints.npy", "images.sqlite")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_with_a_remedy(folder, part, kind):
    damage(folder / part, kind)
    message = refusal(folder)
    assert "embed.py" in message and (part in message or "no gallery" in message)


@pytest.mark.parametrize(
    "held", ["[]", "null", "7", "{}", '{"format": 1}', '{"format": 0, "name": "x"}', '{"format": "1"}', "[" * 100_000]
)
def test_other_json(folder, held):
    (folder / "about.json").write_text(held)
    assert "embed.py with --again" in refusal(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM about",
        "DROP TABLE bad",
        "DELETE FROM images WHERE row = 0",
        "UPDATE images SET hash = NULL",
        "UPDATE images SET hash = 'xy'",
        "UPDATE images SET hash = '00'",
        "UPDATE images SET path = NULL",
        "UPDATE images SET path = 3",
    ],
)
def test_other_tables(folder, statement):
    with closing(sqlite3.connect(folder / "images.sqlite")) as base, base:
        base.execute(statement)
    assert "embed.py" in refusal(folder)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_byte_may_be_wrong(made, data):
    """Either the damage is found, or the gallery can be read. There is no other error."""
    with tempfile.TemporaryDirectory() as top:
        folder = shutil.copytree(made, os.path.join(top, "gallery"))
        part = data.draw(st.sampled_from(PARTS))
        with open(os.path.join(folder, part), "r+b") as file:
            held = bytearray(file.read())
            first = min(len(held), 4096 if part == "images.sqlite" else 256) - 1
            place = data.draw(st.integers(0, first) | st.integers(0, len(held) - 1))
            held[place] = data.draw(st.integers(0, 255))
            file.seek(0)
            file.write(held)
        try:
            gallery = Gallery(folder)
            assert len(gallery.embeddings) == len(gallery.paths) == len(gallery.hashes) == len(gallery.keys) == 2
        except InputError as error:
            assert "\n" not in str(error)


# ---- results kept beside the gallery ---------------------------------------------------------------------------------


@pytest.fixture
def counted():
    """A function that makes arrays, and counts its calls."""

    def arrays():
        arrays.calls += 1
        return {"a": np.arange(5), "b": np.array([[0.5]], np.float16), "none": np.empty((0, 2), np.int64)}

    arrays.calls = 0
    return arrays


def same(found):
    expected = {"a": np.arange(5), "b": np.array([[0.5]], np.float16), "none": np.empty((0, 2), np.int64)}
    return found.keys() == expected.keys() and all(
        np.array_equal(found[key], value) and found[key].dtype == value.dtype for key, value in expected.items()
    )


def test_what_takes_long_is_kept_until_the_gallery_changes(folder, counted):
    for _ in range(3):
        assert same(Gallery(folder).kept("map", counted))
    assert counted.calls == 1
    assert same(Gallery(folder).kept("other", counted)) and counted.calls == 2
    make(folder, FILES)
    assert same(Gallery(folder).kept("map", counted)) and counted.calls == 3
    assert same(Gallery(folder).kept("map", counted)) and counted.calls == 3
    assert not [name for name in os.listdir(folder / "derived") if "tmp" in name]


def test_what_was_made_by_other_rules_is_made_anew(folder, counted):
    for rules, calls in ((1, 1), (2, 2), (2, 2), (1, 3)):
        assert same(Gallery(folder).kept("map", counted, rules)) and counted.calls == calls
    path = folder / "derived" / "map.npz"
    with np.load(path) as stored:  # the file as it was before rules had numbers
        arrays = {name: stored[name] for name in stored.files if name != "rules"}
    np.savez(path, **arrays)
    assert same(Gallery(folder).kept("map", counted, 1)) and counted.calls == 3


def test_an_older_gallery_does_not_take_what_a_newer_one_keeps(folder, counted):
    older = Gallery(folder)
    make(folder, FILES)
    assert same(Gallery(folder).kept("map", counted)) and same(older.kept("map", counted)) and counted.calls == 2


def test_a_damaged_one_is_made_anew(folder, counted):
    gallery = Gallery(folder)
    gallery.kept("map", counted)
    path = folder / "derived" / "map.npz"
    whole = path.read_bytes()
    entry = whole.index(b"PK\1\2")  # 8 bytes after this are the entry's flags, then its compression method
    places = [0, 40, entry // 2, entry + 8, entry + 10, len(whole) - 8]
    flipped = [whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :] for place in places]
    for held in (b"", b"noise", whole[: len(whole) // 2], whole[:-1], *flipped):
        path.write_bytes(held)
        assert same(gallery.kept("map", counted))
    assert counted.calls > 5


def test_where_nothing_can_be_written_it_is_made_each_time(folder, counted):
    (folder / "derived").touch()  # even root cannot make a folder of this name
    assert same(Gallery(folder).kept("map", counted)) and same(Gallery(folder).kept("map", counted)) and counted.calls == 2


def test_what_the_user_set_apart_stays_apart(folder):
    make(folder, FILES)
    assert Gallery(folder).apart() == []
    Gallery(folder).set_apart([2, 0, 2])
    Gallery(folder).set_apart(np.array([1, 2]))
    assert Gallery(folder).apart() == [[0, 2], [1, 2]]
    make(folder, files_named("0.jpg", "a.jpg", "aa.jpg", "c.jpg"))  # b/b.jpg is gone, and there are new rows
    gallery = Gallery(folder)
    assert [[gallery.shown(row) for row in rows] for rows in gallery.apart()] == [["a.jpg", "c.jpg"]]
    make(folder, FILES)
    assert Gallery(folder).apart() == [[0, 2], [1, 2]]  # b/b.jpg is there again


def test_marks_hold_in_all_galleries_of_a_folder_and_under_other_names(folder):
    make(folder, FILES)
    Gallery(folder).set_apart([0, 2])
    beside = folder.parent / "beside"
    make(beside, FILES)
    assert Gallery(beside).apart() == [[0, 2]]
    Gallery(beside).set_apart([0, 1])
    assert Gallery(folder).apart() == [[0, 2], [0, 1]]
    gallery = Gallery(folder)
    gallery.files = gallery.paths = None  # its names do not matter
    assert gallery.apart() == [[0, 2], [0, 1]]


def test_marks_of_earlier_versions_are_read(folder):
    """They were kept by the hashes of the paths."""
    make(folder, FILES)
    gallery = Gallery(folder)
    (folder / "not_duplicates.txt").write_text(f"{gallery.keys[1]} {gallery.keys[2]}\n")
    assert gallery.apart() == [[1, 2]]


def test_images_with_the_same_bytes():
    """Rows 0 and 1 have the bytes "a": together apart from row 2, and apart from each other only if somebody said so."""
    rows = {"a": [0, 1], "b": [2], "c": [3]}
    with tempfile.TemporaryDirectory() as folder:
        place = GalleryFolder(os.path.join(folder, "gallery"))
        os.mkdir(place.path)
        not_duplicates.add(place, ["b", "a"])
        assert not_duplicates.apart(not_duplicates.marks([place], rows.get)) == [[0, 2], [1, 2]]
        not_duplicates.add(place, ["a", "a"])
        not_duplicates.add(place, ["c", "b"])
        assert not_duplicates.apart(not_duplicates.marks([place], rows.get)) == [[0, 2], [1, 2], [0, 1], [2, 3]]


def test_a_mark_is_taken_back_wherever_it_is(folder):
    make(folder, FILES)
    beside = folder.parent / "beside"
    make(beside, FILES)
    mark = Gallery(folder).set_apart([0, 2])
    other = Gallery(beside).set_apart([0, 1])
    assert Gallery(beside).set_apart([0, 2]) == mark  # the same, in another file
    assert [found.id for found in Gallery(folder).marks()] == [mark, other]
    assert Gallery(folder).unmark(mark) and not Gallery(folder).unmark(mark)
    assert Gallery(folder).apart() == Gallery(beside).apart() == [[0, 1]]
    elsewhere = folder.parent / "elsewhere" / "gallery"
    elsewhere.parent.mkdir()
    make(elsewhere, FILES)
    gallery = Gallery(elsewhere)
    assert gallery.apart() == [] and [found.id for found in gallery.marks([Gallery(folder).place])] == [other]
    assert gallery.unmark(other, [Gallery(folder).place]) and Gallery(folder).apart() == []


def test_groups_that_were_made_with_a_mark_are_made_anew_without_it(folder):
    make(folder, FILES)
    gallery = Gallery(folder)
    gallery.hashes = np.zeros_like(gallery.hashes)  # all the same file
    index = indexes.build(gallery.embeddings)
    mark = not_duplicates.add(gallery.place, [gallery.keys[0], gallery.keys[1]])
    groups = lambda: [rows.tolist() for rows in derived.duplicates(gallery, index, "identical", 0, False).rows]
    before = groups()
    assert not any({0, 1} <= set(group) for group in before)
    assert gallery.unmark(mark)
    assert groups() == [list(range(len(gallery)))]


def test_a_mark_after_one_that_a_full_disk_cut_off(folder):
    (folder / "not_duplicates.txt").write_text("12ab")
    Gallery(folder).set_apart([0, 1])
    assert Gallery(folder).apart() == [[0, 1]]


@pytest.mark.parametrize("rows", [[], [1], [1, 1]])
def test_one_image_is_not_set_apart(folder, rows):
    with pytest.raises(InputError, match="two images or more"):
        Gallery(folder).set_apart(rows)
    assert not (folder / "not_duplicates.txt").exists()


def test_set_apart_where_nothing_can_be_written(folder):
    (folder / "not_duplicates.txt").mkdir()
    with pytest.raises(RunError, match=r"not_duplicates.txt: cannot be written \(Is a directory\); make room"):
        Gallery(folder).set_apart([0, 1])


def test_a_damaged_list_of_the_user(folder):
    """Bad lines (foreign bytes, a line cut off by a full disk) are skipped; the other lines count."""
    gallery = Gallery(folder)
    gallery.set_apart([0, 1])
    held = (folder / "not_duplicates.txt").read_bytes()
    (folder / "not_duplicates.txt").write_bytes(b"caf\xe9 \0\n" + held + held[:20])
    assert gallery.apart() == [[0, 1]]
    gallery.set_apart([0, 1])
    assert gallery.apart() == [[0, 1]]
