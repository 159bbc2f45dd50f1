"""The built-in demo set: its layout; it is the same every time; it is made whole or not at all."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data import demo
from data.creatures import SIZE
from data.demo import make_demo
from utils.errors import InputError


def small(folder, seed=0):
    """Make a set of 3 + 3 classes with 2 images each, which takes less than a second."""
    make_demo(folder, seed, classes=3, images=2)
    return folder


def listed(folder, split):
    """Return [(path, label)] of a list file."""
    lines = (folder / f"{split}.txt").read_text().splitlines()
    return [(path, int(label)) for path, label in (line.rsplit(" ", 1) for line in lines)]


def contents(folder):
    """Return {relative path: bytes} of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small(tmp_path_factory.mktemp("demo") / "set")


def test_the_lists_name_every_image_once_and_nothing_else(made):
    paths = [path for split in ("train", "test") for path, _ in listed(made, split)]
    on_disk = {name for name in contents(made) if name.endswith(".jpg")}
    assert len(paths) == len(set(paths)) == 2 * 3 * 2
    assert set(paths) == on_disk


def test_labels_run_on_from_train_to_test_and_folders_agree(made):
    train, test = listed(made, "train"), listed(made, "test")
    assert [label for _, label in train] == [0, 0, 1, 1, 2, 2]
    assert [label for _, label in test] == [3, 3, 4, 4, 5, 5]
    for split, rows in (("train", train), ("test", test)):
        for path, label in rows:
            assert path.split("/")[0] == split and int(path.split("/")[1]) == label


def test_images_are_jpegs_of_the_stated_size(made):
    for path, _ in listed(made, "train") + listed(made, "test"):
        with Image.open(made / path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))


def test_no_image_is_blank_or_repeated(made):
    images = [np.asarray(Image.open(made / path)) for path, _ in listed(made, "train") + listed(made, "test")]
    assert all(image.std() > 5 for image in images)
    assert len({image.tobytes() for image in images}) == len(images)


def test_default_size_is_at_least_40_plus_40_classes_of_15(monkeypatch, tmp_path):
    blank = Image.new("RGB", (8, 8))
    monkeypatch.setattr(demo, "snapshot", lambda r, rng: blank)
    make_demo(tmp_path / "set")
    for split in ("train", "test"):
        sizes = np.unique([label for _, label in listed(tmp_path / "set", split)], return_counts=True)[1]
        assert len(sizes) >= 40 and sizes.min() >= 15


def test_two_makes_give_identical_bytes(made, tmp_path):
    assert contents(small(tmp_path / "again")) == contents(made)


def test_another_seed_makes_other_images(made, tmp_path):
    first, other = contents(made), contents(small(tmp_path / "other", seed=1))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".jpg"))


def test_a_larger_set_begins_with_the_smaller_one(made, tmp_path):
    make_demo(tmp_path / "more", 0, classes=3, images=3)
    small_set, large_set = contents(made), contents(tmp_path / "more")
    assert all(large_set[name] == data for name, data in small_set.items() if name.endswith(".jpg"))


def test_a_second_call_draws_nothing(made, monkeypatch):
    monkeypatch.setattr(demo, "snapshot", lambda r, rng: pytest.fail("drew an image again"))
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    small(made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


@pytest.mark.parametrize("stop_after", [0, 1, 11])
def test_interrupted_it_leaves_nothing_and_can_be_made_again(made, tmp_path, monkeypatch, stop_after):
    real, drawn = demo.snapshot, []

    def interrupted(r, rng):
        if len(drawn) == stop_after:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(r, rng)

    monkeypatch.setattr(demo, "snapshot", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "set")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(demo, "snapshot", real)
    assert contents(small(tmp_path / "set")) == contents(made)


def test_an_empty_folder_is_filled(made, tmp_path):
    (tmp_path / "set").mkdir()
    assert contents(small(tmp_path / "set")) == contents(made)


def test_a_folder_with_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not this demo set; remove it"):
        small(tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_set_of_another_seed_is_refused(made):
    with pytest.raises(InputError, match="is not this demo set"):
        small(made, seed=7)


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(InputError, match="is not this demo set"):
        small(tmp_path / "set")


def test_command_line_refuses_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run = subprocess.run([sys.executable, "-m", "data.demo", str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and run.stderr.count("\n") == 1


def test_command_line_says_what_was_made(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "snapshot", lambda r, rng: Image.new("RGB", (8, 8)))
    monkeypatch.setattr(sys, "argv", ["demo", str(tmp_path / "set"), "--seed", "3"])
    demo.main()
    assert capsys.readouterr().out == f"{tmp_path / 'set'}: demo set, version 1, seed 3: 40 + 40 classes x 20 images\n"
