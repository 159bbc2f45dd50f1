"""Where data sets are found and which lists are read."""

import pytest

from thumbnails import make_image_folder
from data.dataset import Dict, locate, read_test, read_train
from utils.errors import InputError


def test_a_name_a_folder_or_a_path(tmp_path):
    for folder in (Dict["car"], "my photos"):
        (tmp_path / folder).mkdir()
    assert locate("car", str(tmp_path)) == str(tmp_path / "Cars196")
    assert locate("my photos", str(tmp_path)) == str(tmp_path / "my photos")
    assert locate(str(tmp_path / "my photos"), None) == str(tmp_path / "my photos")
    assert locate(str(tmp_path / "my photos"), str(tmp_path)) == str(tmp_path / "my photos")


@pytest.mark.parametrize("data, root, expected", [
    ("cub", None, "set DATA_ROOT to the folder that holds CUB_200_2011"), ("demo", None, "python -m data.demo"),
    ("cub", "/nowhere", "/nowhere: no such folder"), ("birds", ".", "cub, car, product, shop, demo")])
def test_refuses(tmp_path, monkeypatch, data, root, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=expected):
        locate(data, root)


def test_test_txt_or_query_and_gallery(tmp_path):
    folder = make_image_folder(tmp_path / "set")
    query, gallery = read_test(folder)
    assert query is gallery and len(query) == 18
    (folder / "query.txt").write_text("test/class 0/0.jpg 0\n")
    (folder / "gallery.txt").write_text("test/class 0/1.jpg 0\ntest/class 1/1.jpg 1\n")
    assert len(read_test(folder)[0]) == 18  # test.txt goes first
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
