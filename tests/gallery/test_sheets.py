"""Contact sheets: which files are written, which images they show, and which files they leave alone."""

import os

import numpy as np
import pytest
from PIL import Image

from data.pictures import GREY
from gallery.sheets import COLUMNS, GAP, SIDE, TITLE, write_sheets
from utils.errors import InputError, RunError

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def grouping(*groups):
    return [np.array(rows, np.int64) for rows in groups]


@pytest.fixture
def photos(tmp_path):
    """Return the paths of images in a folder: each has one colour, some are wide, some are tall."""
    (tmp_path / "photos").mkdir()
    paths = []
    for name, colour, size in [
        ("red", "red", (80, 40)),
        ("green", "green", (40, 90)),
        ("blue", "blue", (300, 200)),
        ("red too", "red", (30, 30)),
    ]:
        paths.append(str(tmp_path / "photos" / f"{name}.png"))
        Image.new("RGB", size, COLOURS[colour]).save(paths[-1])
    return paths


def squares(file, count):
    """Return the mean colour of each of the first `count` squares of a sheet."""
    pixels = np.asarray(Image.open(file)).astype(float)
    found = []
    for place in range(count):
        top, left = TITLE + place // COLUMNS * (SIDE + GAP), GAP + place % COLUMNS * (SIDE + GAP)
        found.append(pixels[top : top + SIDE, left : left + SIDE].mean((0, 1)))
    return found


def same_colours(found, expected):
    return np.abs(np.array(found) - np.array(expected)).max() < 8  # JPEG changes colours a little


def sheet(folder):
    (name,) = os.listdir(folder)
    return os.path.join(folder, name)


def test_a_sheet_for_each_cluster_in_order(photos, tmp_path):
    files = write_sheets(str(tmp_path / "out" / "sheets"), photos, grouping([3, 0], [2], [1]), [str(tmp_path / "photos")])
    assert [os.path.basename(file) for file in files] == ["001-2-red-too.jpg", "002-1-blue.jpg", "003-1-green.jpg"]
    assert sorted(files) == sorted(str(path) for path in (tmp_path / "out" / "sheets").iterdir())
    white = (255, 255, 255)
    for file, colours in zip(files, (["red", "red"], ["blue"], ["green"])):
        expected = [COLOURS[colour] for colour in colours] + [white]
        assert same_colours(squares(file, len(expected)), expected)
        title = np.asarray(Image.open(file).convert("L"))[:TITLE]
        assert title.min() < 80 and title.mean() > 200  # the title has dark letters on white


def test_the_middle_of_an_image_is_shown(tmp_path):
    """The outer thirds of a wide image are cut off."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 40:80] = COLOURS["green"]
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (file,) = write_sheets(str(tmp_path / "out"), [str(tmp_path / "wide.png")], grouping([0]))
    assert same_colours(squares(file, 1), [COLOURS["green"]])


@pytest.mark.parametrize("most, lines", [(1, 1), (9, 1), (10, 1), (11, 2), (60, 3)])
def test_a_sheet_shows_only_the_most_central(photos, tmp_path, most, lines):
    blue, red = photos[2], photos[0]
    paths = [blue] * most + [red] * (25 - most) if most < 25 else [blue] * 25
    (file,) = write_sheets(str(tmp_path / "out"), paths, grouping(range(25)), most=most)
    assert os.path.basename(file) == "001-25-blue.jpg"
    assert Image.open(file).size == (GAP + COLUMNS * (SIDE + GAP), TITLE + lines * (SIDE + GAP))
    shown = min(most, 25)
    rest = lines * COLUMNS - shown
    assert same_colours(squares(file, lines * COLUMNS), [COLOURS["blue"]] * shown + [(255, 255, 255)] * rest)


def test_an_unreadable_file_is_a_grey_square(photos, tmp_path):
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    paths = [*photos, str(tmp_path / "photos" / "broken.jpg"), str(tmp_path / "photos" / "gone.jpg")]
    (file,) = write_sheets(str(tmp_path / "out"), paths, grouping([4, 0, 5, 1, 2, 3]))
    assert os.path.basename(file) == "001-6-broken.jpg"
    assert same_colours(squares(file, 4), [3 * (GREY,), COLOURS["red"], 3 * (GREY,), COLOURS["green"]])


@pytest.mark.parametrize(
    "name, stem",
    [
        ("<img src=x onerror=alert(1)>.jpg", "img-src-x-onerror-alert-1"),
        ("Été à la mer 01.jpeg", "Ete-a-la-mer-01"),
        ("../../etc/passwd.png", "passwd"),
        ("..\\..\\boot.ini.png", "boot-ini"),
        ("花.jpg", "image"),
        ("-rf.jpg", "rf"),
        (".jpg", "jpg"),
        ("line\nbreak\0.jpg", "line-break"),
        (os.fsdecode(b"\xff\xfe photo.jpg"), "photo"),
        ("a" * 200 + ".jpg", "a" * 40),
        ("CON.jpg", "CON"),
    ],
)
def test_names_are_safe(tmp_path, name, stem):
    """The images need not exist."""
    (file,) = write_sheets(str(tmp_path / "out"), [f"/nowhere/{name}"], grouping([0]))
    assert file == str(tmp_path / "out" / f"001-1-{stem}.jpg") and sheet(tmp_path / "out") == file


def test_names_sort_by_number(tmp_path):
    """This holds for more than 999 groups too."""
    files = write_sheets(str(tmp_path / "out"), ["/nowhere/a.jpg"] * 1001, grouping(*([row] for row in range(1001))))
    assert files == sorted(files) and os.path.basename(files[-1]) == "1001-1-a.jpg"


def test_earlier_sheets_are_replaced_and_other_files_stay(photos, tmp_path):
    out = tmp_path / "out"
    write_sheets(str(out), photos, grouping([0, 3], [1], [2]))
    (out / "notes.txt").write_text("mine")
    Image.new("RGB", (8, 8)).save(out / "007-12-holiday.jpg")
    (out / "008-12-broken.jpg").write_bytes(b"")
    write_sheets(str(out), photos, grouping([2, 0, 3, 1]))
    assert sorted(os.listdir(out)) == ["001-4-blue.jpg", "007-12-holiday.jpg", "008-12-broken.jpg", "notes.txt"]


def test_a_file_of_the_same_name_is_not_overwritten(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    Image.new("RGB", (8, 8)).save(out / "002-1-blue.jpg")
    before = (out / "002-1-blue.jpg").read_bytes()
    with pytest.raises(InputError, match="002-1-blue.jpg: is there already"):
        write_sheets(str(out), photos, grouping([0, 1, 3], [2]))
    assert sheet(out) == str(out / "002-1-blue.jpg") and (out / "002-1-blue.jpg").read_bytes() == before


def test_nothing_is_written_among_the_photos(photos, tmp_path):
    folder, before = tmp_path / "photos", sorted(os.listdir(tmp_path / "photos"))
    os.symlink(folder, tmp_path / "link")
    for out in (folder, folder / "sheets", tmp_path / "link", tmp_path / "link" / "sheets", folder / "x" / ".."):
        with pytest.raises(InputError, match="holds the photos"):
            write_sheets(str(out), photos, grouping([0, 1, 2, 3]), [str(folder)])
    for out in (folder, tmp_path / "link"):  # without a root
        with pytest.raises(InputError, match="holds the photos"):
            write_sheets(str(out), photos, grouping([0, 1, 2, 3]))
    assert sorted(os.listdir(folder)) == before
    with pytest.raises(InputError, match="holds the photos"):  # in the second of several folders
        write_sheets(str(folder / "sheets"), [], [], [str(tmp_path / "elsewhere"), str(folder)])
    with pytest.raises(InputError, match="holds the photos"):  # a photo from elsewhere, beside a folder
        write_sheets(str(folder), photos, grouping([0, 1, 2, 3]), [str(tmp_path / "elsewhere")])
    assert write_sheets(str(tmp_path / "photos of sheets"), photos, grouping([0, 1, 2, 3]), [str(folder)])


def test_a_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make this folder"):
        write_sheets(str(tmp_path / "file"), photos, grouping([0, 1, 2, 3]))


def test_a_full_disk_is_said_in_a_line(photos, tmp_path, monkeypatch):
    def save(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(RunError, match="cannot be written .No space left on device.; make room"):
        write_sheets(str(tmp_path / "out"), photos, grouping([0, 1, 2, 3]))
