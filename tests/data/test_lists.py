"""List files, good and bad."""

import os
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from data.lists import Paths, _split, read_list, refuse_overlap
from utils.errors import InputError


def write(folder, text, *images):
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / "list.txt")


def message(file, labels_required=True):
    with pytest.raises(InputError) as caught:
        read_list(file, labels_required)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_spaces_absolute_paths_and_blank_lines(tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.touch()
    file = write(tmp_path, f"a dir/b  c.jpg 3\n\n{elsewhere} 7\r\n", "a dir/b  c.jpg")
    images = read_list(file, labels_required=True)
    assert list(images.paths) == [str(tmp_path / "a dir/b  c.jpg"), str(elsewhere)]
    assert images.labels.dtype == np.int64 and images.labels.tolist() == [3, 7]


def test_labels_are_optional_in_training_lists(tmp_path):
    file = write(tmp_path, "a b.jpg\nc.JPG\n", "a b.jpg", "c.JPG")
    assert read_list(file, labels_required=False).labels is None
    assert "list.txt:1" in message(file) and "label" in message(file)


def test_names_that_are_not_utf8(tmp_path):
    name = b"caf\xe9.jpg"
    open(os.path.join(os.fsencode(tmp_path), name), "w").close()
    images = read_list(write(tmp_path, name + b" 1\n"), labels_required=True)
    assert open(images.paths[0]).read() == ""


@pytest.mark.parametrize("text, expected", [
    ("", "empty"), ("\n \n", "empty"), ("a.jpg 0\n5\n", "list.txt:2: the line `5` has no path"),
    ("a.jpg cat\n", "list.txt:1: the label `cat` is not an integer"), ("a.jpg 1.5\n", "list.txt:1: the label `1.5`"),
    ("a.jpg 99999999999999999999\n", "is not an integer")])
def test_bad_lines(tmp_path, text, expected):
    assert expected in message(write(tmp_path, text, "a.jpg"))


def test_a_label_that_is_no_integer_is_refused_in_training_lists_too(tmp_path):
    assert "`cat` is not an integer" in message(write(tmp_path, "a.jpg cat\n", "a.jpg"), labels_required=False)


def test_missing_files_are_counted_and_the_first_three_named(tmp_path):
    text = message(write(tmp_path, "".join(f"{i}.jpg 0\n" for i in range(6)), "0.jpg"))
    assert "5 of 6" in text and all(f"{i}.jpg" in text for i in (1, 2, 3)) and "4.jpg" not in text


def test_no_list(tmp_path):
    assert "nowhere.txt: cannot read" in message(str(tmp_path / "nowhere.txt"))


def test_overlap(tmp_path):
    train = read_list(write(tmp_path, "a.jpg 0\nb.jpg 1\n", "a.jpg", "b.jpg"), True)
    (tmp_path / "test").mkdir()
    test = read_list(write(tmp_path / "test", "../b.jpg 0\nc.jpg 1\n", "c.jpg"), True)
    with pytest.raises(InputError, match="1 images are also in .*first .*b.jpg"):
        refuse_overlap(train, test)
    refuse_overlap(train, replace(test, paths=test.paths[1:]))  # equal labels prove nothing


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1), st.integers(-2**63, 2**63 - 1))
def test_any_path_and_label_survive(path, label):
    line = f"{path} {label}".strip()
    try:
        assert _split(line, "x:1", True) == (f"{path} ".strip(), label)
    except InputError:
        assert not path.strip()


@given(st.lists(st.text(st.characters(exclude_categories=()), min_size=1)
                .map(lambda text: text.encode("utf-8", "replace").decode("utf-8", "surrogateescape"))
                | st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape"))))
def test_packed_paths_are_the_paths(names):
    packed = Paths(names)
    assert len(packed) == len(names) and list(packed) == names == [packed[i] for i in range(len(names))]
    assert packed[1:] == names[1:] and packed[::-1] == names[::-1] and packed[-2:] == names[-2:]
    for beyond in (len(names), -len(names) - 1):
        with pytest.raises(IndexError):
            packed[beyond]


def test_workers_share_the_paths():
    """What a spawned worker is sent does not grow with the list, and a forked one finds no strings to write to."""
    packed = Paths([f"images/{i:06d}.jpg" for i in range(10000)])
    assert len(ForkingPickler.dumps(packed)) < 2000
    assert all(torch.is_tensor(value) for value in vars(packed).values())
