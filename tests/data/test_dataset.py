"""Where data sets are found and which lists are read. test_find_images.py tests folders without lists."""

import pytest

from data.dataset import Dict, locate, read_test, read_train, why_no_test
from thumbnails import make_image_folder
from utils import log
from utils.errors import InputError


def test_a_name_a_folder_or_a_path(tmp_path):
    for folder in (Dict["car"], "my photos"):
        (tmp_path / folder).mkdir()
    assert locate("car", str(tmp_path)) == str(tmp_path / "Cars196")
    assert locate("my photos", str(tmp_path)) == str(tmp_path / "my photos")
    assert locate(str(tmp_path / "my photos"), None) == str(tmp_path / "my photos")
    assert locate(str(tmp_path / "my photos"), str(tmp_path)) == str(tmp_path / "my photos")


@pytest.mark.parametrize(
    "data, root, expected",
    [
        ("cub", None, "set DATA_ROOT to the folder that holds CUB_200_2011/, or make it with scripts/prepare_data.sh cub"),
        ("demo", None, "or make it with python -m data.demo demo"),
        ("cub", "/nowhere", "--data_root /nowhere: no such folder; set DATA_ROOT"),
        ("birds", ".", "--data birds: unknown; give one of cub, car, product, shop, demo, the name of"),
        ("", None, "--data (nothing): unknown; "),
        ("file", None, "--data file: unknown; "),
        ("\n", None, "--data \\n: unknown; "),
    ],
)
def test_refuses(tmp_path, monkeypatch, data, root, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        locate(data, root)
    assert expected in caught.value.shown and "--" not in str(caught.value)


def test_test_txt_or_query_and_gallery(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    query, gallery = read_test(folder)
    assert query is gallery and len(query) == 18
    (folder / "query.txt").write_text("test/class 0/0.jpg 0\n")
    (folder / "gallery.txt").write_text("test/class 0/1.jpg 0\ntest/class 1/1.jpg 1\n")
    assert len(read_test(folder)[0]) == 18  # test.txt takes precedence
    query, gallery = read_test(folder, gallery_eq_query=False)
    assert (len(query), len(gallery)) == (1, 2)
    (folder / "test.txt").unlink()
    assert len(read_test(folder)[1]) == 2
    with pytest.raises(InputError, match="test.txt"):
        read_test(folder, gallery_eq_query=True)


def test_a_training_image_in_the_gallery_is_refused(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    (folder / "query.txt").write_text("test/class 0/0.jpg 0\n")
    (folder / "gallery.txt").write_text("train/class 0/1.jpg 0\n")
    with pytest.raises(InputError, match="gallery.txt: 1 images are also in .*train.txt"):
        read_test(folder, gallery_eq_query=False)


def test_labels_of_the_split(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    assert read_train(folder).labels.tolist() == [i // 6 for i in range(24)]


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(log, "warn", said.append)
    return said


def test_testing_needs_no_training_images(tmp_path, warnings):
    folder = make_image_folder(tmp_path / "set")
    for path in (folder / "train").rglob("*.jpg"):
        path.unlink()
    assert len(read_test(folder)[0]) == 18
    (folder / "train.txt").unlink()
    assert len(read_test(folder)[0]) == 18 and not warnings
    (folder / "train.txt").write_text("train/class 0/0.jpg one\n")
    assert len(read_test(folder)[0]) == 18
    assert len(warnings) == 1 and "train.txt:1: the label `one` is not an integer" in warnings[0]


def test_an_overlap_is_found_through_links_and_without_the_files(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    (tmp_path / "link").symlink_to(folder / "test")
    (folder / "image").symlink_to("test/class 1/0.jpg")
    (folder / "train.txt").write_text(f"gone.jpg\n{tmp_path}/link/class 0/../class 0/0.jpg\nimage 4\n")
    with pytest.raises(InputError, match="test.txt: 2 images are also in .*train.txt, first .*class 0/0.jpg"):
        read_test(folder)


def test_why_there_is_no_test(tmp_path):
    assert why_no_test(tmp_path) == "no test.txt or query.txt"
    (tmp_path / "test.txt").write_text("gone.jpg 0\n")
    assert why_no_test(tmp_path) is None
    for lines in ("a.jpg\nb.jpg\n", "a.jpg 0\nb.jpg\n"):
        (tmp_path / "test.txt").write_text(lines)
        assert why_no_test(tmp_path).startswith("test.txt has no labels")
    (tmp_path / "test.txt").write_text("a.jpg 0\nb.jpg cat\n")
    assert "test.txt:2: the label `cat` is not an integer" in why_no_test(tmp_path)
    (tmp_path / "test.txt").unlink()
    (tmp_path / "query.txt").write_text("a.jpg 0\n")
    assert "gallery.txt: cannot read the list file" in why_no_test(tmp_path)
    (tmp_path / "gallery.txt").write_text("a.jpg\n")
    assert why_no_test(tmp_path).startswith("gallery.txt has no labels")
    (tmp_path / "gallery.txt").write_text("a.jpg 7\n")
    assert why_no_test(tmp_path) is None
    assert "test.txt: cannot read" in why_no_test(tmp_path, gallery_eq_query=True)


@pytest.mark.parametrize("name", Dict.values())
def test_a_registered_set_without_its_list_is_broken(tmp_path, name):
    """Such a set holds test images too, so its folder is never used without a list."""
    folder = make_image_folder(tmp_path / name)
    (folder / "train.txt").unlink()
    with pytest.raises(InputError, match=f"{name}/train.txt: cannot read the list file"):
        read_train(folder)


def test_a_list_that_is_a_broken_link_is_not_no_list(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    for name in ("train.txt", "test.txt"):
        (folder / name).unlink()
        (folder / name).symlink_to("/nowhere")
        with pytest.raises(InputError, match=f"{name}: cannot read the list file"):
            read_train(folder)
        (folder / name).unlink()
