"""The table of neighbours beside a gallery, and answers from smoothed rows."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from galleries import files_named, make
from gallery import derived, index as indexes, smoothing
from gallery.search import look_alikes, open_gallery, query_of_row
from gallery.smoothing import SmoothedRows, made, names_of, neighbours_of, renewed
from gallery.store import Gallery
from made_clusters import made as made_rows
from utils.clustering import grouping, layout, smooth
from utils.clustering.smooth import Neighbours, neighbours_among, smoothed_twice


def same(table, other):
    """Check that two tables hold the same neighbours. Equally similar ones may change places."""
    np.testing.assert_allclose(table.similarities, other.similarities, atol=1e-6)
    assert [set(row) for row in table.rows.tolist()] == [set(row) for row in other.rows.tolist()]


def named(numbers):
    return np.array(numbers, ">u4").view(np.uint8).reshape(-1, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(0, 30), st.integers(0, 30), st.integers(0, 999))
def test_a_renewed_table_is_a_new_one(stay, leave, come, seed):
    """Some images stay, some leave, some come, and all may have another row than before."""
    rows, _ = made_rows(1, stay + leave + come, 0.5, d=8, seed=seed)
    rng = np.random.default_rng(seed)
    before, after = rng.permutation(stay + leave), rng.permutation([*range(stay), *range(stay + leave, len(rows))])
    if not len(before) or not len(after):
        return
    table = renewed(rows[after], named(after), made(rows[before]), named(before))
    same(table, neighbours_among(rows[after], rows[after], np.arange(len(after))))


def test_a_moved_photo_keeps_its_name_and_copies_have_different_ones():
    hashes = np.array([[0, 7], [1, 0], [0, 7], [0, 0]], np.uint8)
    names = [bytes(name) for name in names_of(hashes)]
    assert len(set(names)) == 4 and [name[:2] for name in names] == [bytes(row) for row in hashes]
    assert {bytes(name) for name in names_of(hashes[[2, 1, 3, 0]])} == set(names)


def test_one_new_image_searches_for_few_rows(monkeypatch):
    rows, _ = made_rows(30, 1001, 0.2)
    before = made(rows[:1000])
    searched = []
    monkeypatch.setattr(smoothing, "_searched", lambda _, table, todo: searched.extend(todo.tolist()) or table)
    renewed(rows, named(range(1001)), before, named(range(1000)))
    assert searched == [1000]


def test_an_inverted_file_finds_nearly_the_same(monkeypatch):
    rows, _ = made_rows(40, 3000, 0.15)
    exact = made(rows)
    monkeypatch.setattr(smoothing, "EXACT", 100)
    table = made(rows)
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(table.rows.tolist(), exact.rows.tolist())]) > 0.9
    assert table.rows.dtype == exact.rows.dtype == np.int32


def test_blocks_change_nothing(monkeypatch):
    rows, _ = made_rows(5, 200, 0.4, d=8)
    whole = made(rows)
    monkeypatch.setattr("utils.arrays.ROWS", 30)
    same(made(rows), whole)
    same(renewed(rows, named(range(200)), made(rows[:150]), named(range(150))), whole)


@pytest.fixture
def names():
    return [f"{number:02}.jpg" for number in range(40)]


def test_a_table_is_kept_and_renewed_with_the_gallery(tmp_path, names, monkeypatch):
    make(tmp_path, files_named(*names[:30]))
    first = neighbours_of(Gallery(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(smoothing, "made", None)
        same(neighbours_of(Gallery(tmp_path)), first)
        make(tmp_path, files_named(*names[3:]))
        gallery = Gallery(tmp_path)
        rows = np.asarray(gallery.embeddings)
        same(neighbours_of(gallery), neighbours_among(rows, rows, np.arange(37)))
    make(tmp_path, files_named(*names[3:]), model="another")
    with monkeypatch.context() as patch:
        patch.setattr(smoothing, "renewed", None)
        neighbours_of(Gallery(tmp_path))


def test_smoothed_rows_are_computed_when_read():
    rows, _ = made_rows(4, 60, 0.3)
    table = made(rows)
    whole = smoothed_twice(rows, table, rows, table)
    lazy = SmoothedRows(rows, table)
    assert len(lazy) == 60 and lazy.shape == rows.shape
    np.testing.assert_allclose(lazy[:], whole, atol=1e-6)
    np.testing.assert_allclose(lazy[np.array([7, 3])], whole[[7, 3]], atol=1e-6)


def test_look_alikes_come_in_the_order_of_smoothed_rows(tmp_path, names, monkeypatch):
    make(tmp_path, files_named(*names))
    gallery, index = open_gallery(str(tmp_path))
    rows = np.asarray(gallery.embeddings)
    smoothed = SmoothedRows(rows, made(rows))[:]
    query = query_of_row(gallery, 5)
    answer = look_alikes(gallery, index, [query], 0, 40)
    order = [row for row in np.argsort(-(smoothed @ smoothed[5]), kind="stable") if row != 5]
    assert answer.rows.tolist() == order  # the query's neighbours are found in the gallery: the same smoothed row
    np.testing.assert_allclose(answer.similarities, rows[order] @ rows[5], atol=1e-6)  # as they are
    index.neighbours = None
    plain = look_alikes(gallery, index, [query], 0, 40)
    assert (np.diff(plain.similarities) <= 0).all() and plain.rows.tolist() != order


def test_pages_of_results_are_stretches_of_one_order(tmp_path, names, monkeypatch):
    monkeypatch.setattr(smoothing, "SHORTLIST", 12)
    monkeypatch.setattr("gallery.search.SHORTLIST", 12)
    make(tmp_path, files_named(*names))
    gallery, index = open_gallery(str(tmp_path))
    query = query_of_row(gallery, 0)
    whole = look_alikes(gallery, index, [query], 0, 39)
    parts = [look_alikes(gallery, index, [query], start, 5) for start in range(0, 39, 5)]
    assert np.concatenate([part.rows for part in parts]).tolist() == whole.rows.tolist()
    assert sorted(whole.rows.tolist()) == list(range(1, 40))
    index.neighbours = None
    plain = look_alikes(gallery, index, [query], 0, 39)
    assert whole.rows[12:].tolist() == plain.rows[12:].tolist()  # beyond the shortlist: as they are
    assert sorted(whole.rows[:12].tolist()) == sorted(plain.rows[:12].tolist())


def test_a_damaged_table_is_made_anew(tmp_path, names):
    make(tmp_path, files_named(*names))
    gallery = Gallery(tmp_path)
    table = neighbours_of(gallery)
    with open(gallery.place.derived("neighbours"), "wb") as file:
        file.write(b"no table")
    same(neighbours_of(gallery), table)
    assert isinstance(table, Neighbours) and smooth.CANDIDATES == table.rows.shape[1]
    assert indexes.build(gallery.embeddings).neighbours is None


def test_groups_and_map_are_made_of_smoothed_rows(tmp_path, names, monkeypatch):
    make(tmp_path, files_named(*names))
    gallery = Gallery(tmp_path)
    rows = np.asarray(gallery.embeddings)
    wanted, given_rows = SmoothedRows(rows, made(rows))[:], []
    monkeypatch.setattr(layout, "layout", lambda rows: given_rows.append(rows) or np.zeros((len(rows), 2), np.float32))
    derived.layout(gallery)
    np.testing.assert_allclose(given_rows[0], wanted, atol=1e-6)
    expected = [group.tolist() for group in grouping.group(wanted, 4).order]
    assert [group.tolist() for group in derived.groups(gallery, 4)] == expected
    monkeypatch.setattr(grouping, "SAMPLE", 0)  # as in a large gallery: rows are smoothed when they are read
    assert [group.tolist() for group in derived.groups(gallery, 4)] == expected
    assert expected != [group.tolist() for group in grouping.group(rows, 4).order]
