"""Splits a training list by class, to choose settings on held-out classes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.dataset import read_test, read_train
from data.held_out import hold_out
from thumbnails import make_image_folder
from utils.errors import InputError

ROOT = Path(__file__).parents[2]


def test_every_second_class_is_held_out_and_the_test_list_is_not_read(tmp_path):
    data = tmp_path / "set"
    make_image_folder(data, train_classes=4, per_class=2)
    names = [line.rsplit(" ", 1)[0] for line in (data / "train.txt").read_text().splitlines()]
    labels = [7, 7, 2, 2, 2, 30, 30, 9]
    (data / "train.txt").write_text("".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)))
    (data / "test.txt").write_text("no list of images")
    hold_out(str(data), str(tmp_path / "half"))
    train, test = read_train(str(tmp_path / "half")), read_test(str(tmp_path / "half"))[0]
    where = [str(data / name) for name in names]
    assert list(train.paths) == where[2:5] + where[7:] and train.labels.tolist() == [2, 2, 2, 9]
    assert list(test.paths) == where[:2] + where[5:7] and test.labels.tolist() == [7, 7, 30, 30]


def test_lists_without_two_classes_or_without_labels(tmp_path):
    make_image_folder(tmp_path, train_classes=1)
    with pytest.raises(InputError, match="one class; at least two are needed"):
        hold_out(str(tmp_path), str(tmp_path / "half"))
    (tmp_path / "train.txt").write_text((tmp_path / "train.txt").read_text().replace("0.jpg 0\n", "0.jpg\n"))
    with pytest.raises(InputError, match="lines without a label"):
        hold_out(str(tmp_path), str(tmp_path / "half"))
    assert not (tmp_path / "half").exists()


def test_lists_that_are_there_stay(tmp_path):
    make_image_folder(tmp_path / "set")
    lists = {name: (tmp_path / "set" / name).read_bytes() for name in ("train.txt", "test.txt")}
    with pytest.raises(InputError, match="set/train.txt: is another list; give another folder"):
        hold_out(str(tmp_path / "set"), str(tmp_path / "set"))
    assert lists == {name: (tmp_path / "set" / name).read_bytes() for name in lists}
    for _ in range(2):  # writing the same lists again is allowed
        hold_out(str(tmp_path / "set"), str(tmp_path / "half"))
    assert sorted(os.listdir(tmp_path / "half")) == ["test.txt", "train.txt"]
    with pytest.raises(InputError, match="cannot be written"):
        hold_out(str(tmp_path / "set"), str(tmp_path / "half" / "train.txt"))


def test_the_command_ends_with_one_line_for_what_is_not_there(tmp_path):
    command = [sys.executable, "-m", "data.held_out", tmp_path / "none", tmp_path / "half"]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
