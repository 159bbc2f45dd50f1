"""Names of groups, from folders and file names."""

import numpy as np
from hypothesis import given, strategies as st

from gallery import group_names as module
from gallery.group_names import group_names


def named(*groups):
    """Name groups of paths."""
    paths, rows = [path for group in groups for path in group], iter(range(1_000_000))
    return group_names(paths, [np.array([next(rows) for _ in group]) for group in groups])


def test_a_folder_that_most_images_share():
    cats, dogs = [f"pets/cats/{i}.jpg" for i in range(5)], [f"pets/dogs/{i}.jpg" for i in range(6)]
    assert named([*cats, "pets/dogs/x.jpg"], dogs) == ["cats", "dogs"]
    assert named(cats[:3] + ["1.jpg", "2.jpg", "3.jpg"], dogs) == ["Group 1", "dogs"]  # half is not most
    assert named(cats[:3] + ["1.jpg", "2.jpg"], dogs) == ["cats", "dogs"]


def test_words_that_most_file_names_share():
    juices = [f"test_Bravo-Apple-Juice_{i:03}.jpg" for i in range(4)]
    milks = [f"test_Arla-Milk_{i:03}.jpg" for i in range(5)]
    breads = [f"test_Bread_{i:03}.jpg" for i in range(5)]
    assert named(juices, milks, breads) == ["Bravo Apple Juice", "Arla Milk", "Bread"]
    in_one_folder = [[f"a/{name}" for name in group] for group in (juices, milks, breads)]
    assert named(*in_one_folder) == ["Bravo Apple Juice", "Arla Milk", "Bread"]


def test_what_all_images_share_is_no_name():
    assert named([f"all/IMG_{i:04}.jpg" for i in range(4)], [f"all/IMG_{i:04}.jpg" for i in range(4, 8)]) == [
        "Group 1",
        "Group 2",
    ]
    assert named([f"all/IMG_{i:04}.jpg" for i in range(4)]) == ["Group 1"]
    assert named() == []


def test_the_deeper_folder_and_the_second_group_of_a_name():
    trip = [[f"2019/summer/sea/{i}.jpg" for i in range(start, start + 3)] for start in (0, 3)]
    others = [f"2020/{i}.jpg" for i in range(9)]
    assert named(*trip, others[:2], others[2:]) == ["sea", "sea (2)", "2020", "2020 (2)"]


def test_a_folder_without_a_word_is_named_with_the_folder_around_it():
    paths = [
        f"{season}/{number:02}/{image}.jpg" for season in ("summer", "winter") for number in (1, 2) for image in range(5)
    ]
    rows = np.arange(20).reshape(4, 5)
    assert group_names(paths, list(rows)) == ["summer/01", "summer/02", "winter/01", "winter/02"]
    assert group_names([path.removeprefix("summer/") for path in paths], list(rows))[:2] == ["01", "02"]


def test_a_name_may_be_anything():
    hostile = [f"<img src=x>/{i}.jpg" for i in range(3)]
    assert named(hostile, [f"\N{REPLACEMENT CHARACTER}\n/{i}" for i in range(4)])[0] == "<img src=x>"


def test_large_groups_are_read_in_part(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 10)
    asked = []
    keys_of = module.keys_of
    monkeypatch.setattr(module, "keys_of", lambda path: asked.append(path) or keys_of(path))
    assert named([f"a/{i}.jpg" for i in range(1000)], [f"b/{i}.jpg" for i in range(1100)], ["a/x.jpg"]) == [
        "a",
        "b",
        "a (2)",
    ]
    assert len(asked) == 21


@given(st.lists(st.lists(st.text("ab/ _9", max_size=9), min_size=1, max_size=5), max_size=5))
def test_each_group_has_a_name_of_its_own(groups):
    names = named(*groups) if groups else []
    assert len(set(names)) == len(names) == len(groups) and all(names)
