"""Duplicates: against all pairs and a plain union of sets; planted copies in every view; pairs marked as "not
duplicates"."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from gallery import candidates, duplicates
from gallery.derived import KINDS, duplicates as duplicates_of
from gallery.duplicates import COPY, MOVED, alike, identical
from gallery.groups import Group, Links, joined, leaders
from gallery.not_duplicates import Mark
from gallery.thumbprint_similarity import compare
from gallery.thumbprints import SIDE, VIEWS, view_of
from made_prints import pictures, with_thing


def near(*prints, **more):
    """Return the groups of copies."""
    return duplicates.near(*prints, **more).copies


def rows_of(groups):
    return [group.rows for group in groups]


def assert_partition(groups, count):
    """Check that no row is in two groups, groups have two rows or more, rows ascend, and the most similar group comes
    first."""
    rows = [row for group in groups for row in group.rows]
    assert len(set(rows)) == len(rows) and set(rows) <= set(range(count))
    for group in groups:
        assert isinstance(group.similarity, float) and 0 <= group.similarity <= 1.0001
        assert len(group.rows) >= 2 and group.rows == sorted(group.rows)
        assert all(type(row) is int for row in group.rows)
    assert groups == sorted(groups, key=lambda group: (-group.similarity, group.rows))


def assert_apart(groups, apart):
    for group in groups:
        assert all(len(set(group.rows) & set(line)) <= 1 for line in apart)


def moved(groups, order):
    """Return the groups of rows[order] as a set: the rows, numbered as in `rows`, and the similarity."""
    return {(tuple(sorted(order[row] for row in group.rows)), group.similarity) for group in groups}


def unmoved(groups):
    return moved(groups, range(10**6))


# ---- identical files -------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=20))
def test_identical_are_the_same_bytes(values):
    hashes = np.zeros((len(values), 16), np.uint8)  # the hashes also end in zeros
    hashes[:, 3] = values
    groups = identical(hashes)
    assert_partition(groups, len(values))
    expected = [[row for row, other in enumerate(values) if other == value] for value in set(values)]
    assert sorted(rows_of(groups)) == sorted(rows for rows in expected if len(rows) > 1)


def test_identical_files_that_the_user_took_apart():
    groups = identical(np.zeros((4, 16), np.uint8), apart=[[1, 3]])
    assert_apart(groups, [[1, 3]])
    assert rows_of(groups) == [[0, 1, 2]]


# ---- copies ----------------------------------------------------------------------------------------------------------


def slow_near(prints, turned, threshold=COPY):
    """Compare each print with each other print in every view, and merge sets that share a row."""
    sets = [{row} for row in range(len(prints))]
    for i in range(len(prints)):
        for j in range(i + 1, len(prints)):
            views = np.stack([view_of(prints[i], view) for view in range(VIEWS if turned else 1)])
            same = (prints[i] == prints[j]).all()
            similarity, _, change = compare(views, np.repeat(prints[j : j + 1], len(views), 0))
            if same or ((similarity >= threshold) & (change <= MOVED)).any():
                together = sets[i] | sets[j]
                for row in together:
                    sets[row] = together
    return sorted({tuple(sorted(rows)) for rows in sets if len(rows) > 1})


WAYS = {  # ways to copy a picture
    "noisy": lambda seed: pictures([seed], noise=2),
    "cropped": lambda seed: pictures([seed], 0.05, 0.05, 0.05, 0.05, noise=1),
    "cropped at a corner": lambda seed: pictures([seed], 0.05, 0.05, noise=1),
    "paler": lambda seed: (40 + 0.8 * pictures([seed], noise=1)).astype(np.uint8),
    "the same": lambda seed: pictures([seed]),
    "turned": lambda seed: view_of(pictures([seed], noise=2), 1 + seed % 7),
}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(sorted(WAYS))), max_size=12), st.booleans(), st.randoms())
def test_near_equals_all_pairs_in_any_order(made, turned, random):
    prints = np.concatenate([pictures(range(4)), *(WAYS[way](seed) for seed, way in made)])
    groups = near(prints, turned=turned)
    assert_partition(groups, len(prints))
    assert sorted(map(tuple, rows_of(groups))) == slow_near(prints, turned)
    order = list(range(len(prints)))
    random.shuffle(order)
    assert moved(near(prints[order], turned=turned), order) == unmoved(groups)


@pytest.mark.parametrize("view", range(VIEWS))
def test_every_view_is_recognised(view):
    prints = np.concatenate([pictures(range(30)), view_of(pictures(range(10), noise=2), view), pictures(range(90, 99))])
    expected = [[row, 30 + row] for row in range(10)]
    assert sorted(rows_of(near(prints, turned=True))) == expected
    assert sorted(rows_of(near(prints))) == (expected if view == 0 else [])


def test_the_share_that_is_done_grows(monkeypatch):
    """With blocks of 8 prints and pairs: 24 pictures in 8 views are 24 blocks, told in the first half."""
    for module in (duplicates, candidates):
        monkeypatch.setattr(module, "PRINTS_AT_ONCE", 8)
    prints = np.concatenate([pictures(range(12)), pictures(range(12), noise=2)])
    told = []
    groups = near(prints, turned=True, tell=told.append)
    assert groups == near(prints, turned=True)
    assert told[:24] == [block / 48 for block in range(24)] and 0.5 in told
    assert told == sorted(told) and 0.5 < told[-1] < 1


def test_all_eight_views_are_one_group():
    prints = np.concatenate([view_of(pictures([0, 1], 0.02 * (view % 2)), view) for view in range(VIEWS)])
    assert sorted(rows_of(near(prints, turned=True))) == [list(range(0, 16, 2)), list(range(1, 16, 2))]


def test_the_similarity_of_a_group_is_that_of_its_weakest_link():
    prints = np.concatenate([pictures([0]), pictures([0], noise=1), pictures([0], 0.05, 0.05, noise=2), pictures([5])])
    (group,) = near(prints)
    each = [[compare(prints[i : i + 1], prints[j : j + 1]).similarity[0] for j in range(3)] for i in range(3)]
    assert group.rows == [0, 1, 2]
    assert each[0][1] > 0.97 > group.similarity == pytest.approx(max(each[0][2], each[1][2]), abs=0.02)


def test_more_copies_than_neighbours_of_two_sorts_are_one_group():
    """40 prints are cropped at the left or at the right. The 16 nearest neighbours of each are cropped at the same side."""
    sorts = [pictures([0] * 20, left=0.04), pictures([0] * 20, right=0.04)]
    for prints in sorts:
        for row, print_ in enumerate(prints):
            print_[row % SIDE, row // SIDE] ^= 1  # different, by the smallest amount
    prints = np.concatenate([*sorts, pictures(range(1, 50))])
    assert rows_of(near(prints)) == [list(range(40))]
    assert rows_of(near(prints, exact_up_to=0)) == [list(range(40))]


def test_blank_pictures_are_copies_only_where_their_prints_are_the_same():
    rng = np.random.default_rng(0)
    blank = np.full((6, SIDE, SIDE), 200, np.uint8)
    blank[3:] = (200 + rng.normal(0, 0.7, (3, SIDE, SIDE))).round()
    assert rows_of(near(np.concatenate([blank, pictures(range(3))]), turned=True)) == [[0, 1, 2]]


def test_only_the_first_of_identical_files_takes_part_in_near():
    prints = np.concatenate([pictures([0, 1]), pictures([0, 1]), pictures([1], noise=2)])
    hashes = np.zeros((5, 16), np.uint8)
    hashes[:, 0] = [0, 1, 0, 3, 4]  # rows 0 and 2 are identical files
    assert rows_of(near(prints, hashes)) == [[1, 3, 4]]
    assert sorted(rows_of(near(prints))) == [[0, 2], [1, 3, 4]]
    # A link to the second of two identical files is a link to the first.
    prints = np.concatenate([prints, pictures([0], noise=1)])
    hashes = np.concatenate([hashes, np.full((1, 16), 9, np.uint8)])
    assert [0, 5] in rows_of(near(prints, hashes))
    assert rows_of(near(prints, hashes, apart=[[2, 5]])) == [[1, 3, 4]]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images(count):
    prints, hashes = np.repeat(pictures([0]), count, 0), np.zeros((count, 16), np.uint8)
    hashes[:, 0] = range(count)
    embeddings = np.ones((count, 1), np.float32)
    both = [[0, 1]] if count == 2 else []
    assert identical(hashes) == []
    assert rows_of(near(prints)) == rows_of(near(prints, hashes, turned=True)) == both
    assert rows_of(alike(embeddings, exact_search(embeddings), 0.9)) == both


def test_the_same_groups_every_time():
    prints = np.concatenate([pictures(range(800)), pictures(range(80), 0.04, 0.03, noise=2)])
    inverted = [near(prints, exact_up_to=0) for _ in range(2)]
    assert inverted[0] == inverted[1] == near(prints)
    order = np.random.default_rng(0).permutation(len(prints)).tolist()
    assert moved(near(prints[order], exact_up_to=0), order) == unmoved(inverted[0])


# ---- scenes ----------------------------------------------------------------------------------------------------------


def noisy(prints):
    return (prints + np.random.default_rng(0).normal(0, 1.5, prints.shape)).clip(0, 255).astype(np.uint8)


def test_a_moved_thing_makes_scenes_and_no_copies():
    one, other = with_thing(pictures(range(10)), 5, 6), with_thing(pictures(range(10)), 20, 18)
    copies, scenes = duplicates.near(np.concatenate([one, other, noisy(one), noisy(other)]))
    assert sorted(rows_of(copies)) == [[row, row + 20] for row in range(20)]
    pairs = {frozenset(pair) for pair in zip(scenes.first.tolist(), scenes.second.tolist())}
    assert pairs == {frozenset((a, b)) for row in range(10) for a in (row, row + 20) for b in (row + 10, row + 30)}
    assert scenes.similarity.min() >= COPY


def test_scenes_are_not_joined_through_a_picture_between():
    """A thing fades in: the middle picture is a copy of the first and of the last, which are no copies of each other."""
    base = pictures(range(10)).astype(np.float64)
    thing = with_thing(pictures(range(10)), 5, 6) - base
    states = [(base + share * thing).round().astype(np.uint8) for share in (0, 0.2, 0.4)]
    copies, scenes = duplicates.near(np.concatenate(states))
    apart = set(zip(scenes.first.tolist(), scenes.second.tolist()))
    assert {frozenset(pair) for pair in apart} >= {frozenset((row, row + 20)) for row in range(10)}
    assert len(copies) == 10 and not any({row, row + 20} <= set(group.rows) for row in range(10) for group in copies)


def test_a_copy_in_one_view_is_no_scene_in_another():
    """Symmetric pictures, with a thing at one side: mirrored, it seems to have moved."""
    halves = pictures(range(10)) // 2
    prints = with_thing(halves + halves[:, :, ::-1], 14, 5)
    mirrored = compare(prints, prints[:, :, ::-1])
    assert mirrored.median.min() >= COPY and mirrored.change.min() > MOVED
    copies, scenes = duplicates.near(np.concatenate([prints, noisy(prints)]), turned=True)
    assert sorted(rows_of(copies)) == [[row, row + 10] for row in range(10)] and not len(scenes.first)


# ---- look-alikes -----------------------------------------------------------------------------------------------------


def exact_search(embeddings):
    def search(queries, k):
        similarities = queries @ np.asarray(embeddings, np.float32).T
        rows = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return rows, np.take_along_axis(similarities, rows, 1)

    return search


def slow_alike(embeddings, threshold):
    """Return the star-shaped groups, from all similarities in float64."""
    similarities = embeddings.astype(np.float64) @ embeddings.T.astype(np.float64)
    np.fill_diagonal(similarities, -1)
    near_by = similarities >= threshold
    order = sorted(range(len(embeddings)), key=lambda i: (-near_by[i].sum(), -similarities[i][near_by[i]].sum(), i))
    free, stars = set(range(len(embeddings))), []
    for centre in order:
        star = {int(row) for row in np.flatnonzero(near_by[centre])} & free
        if centre in free and star:
            stars.append(tuple(sorted(star | {centre})))
            free -= star | {centre}
    return sorted(stars)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.sampled_from([2, 3, 5]), st.floats(0.3, 0.99), st.integers(0, 10**6), st.randoms())
def test_alike_equals_all_pairs_in_any_order(count, dim, threshold, seed, random):
    x = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    groups = alike(x, exact_search(x), threshold)
    assert_partition(groups, count)
    assert all(group.similarity >= threshold for group in groups)
    assert sorted(map(tuple, rows_of(groups))) == slow_alike(x, threshold)
    order = list(range(count))
    random.shuffle(order)
    again = moved(alike(x[order], exact_search(x[order]), threshold), order)
    assert {rows for rows, _ in again} == set(map(tuple, rows_of(groups)))  # similarities round in any way


def test_similarity_is_not_transitive():
    """Each of these is similar to the next, but the two ends of the chain have nothing in common."""
    angles = np.arange(7) * 0.4
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = alike(x, exact_search(x), np.cos(0.41))
    assert max(map(len, rows_of(groups))) == 3
    for group in groups:
        assert (np.sort(x[group.rows] @ x[group.rows].T, axis=0)[0] >= np.cos(0.41)).any()  # one row is similar to all


def test_half_precision_and_rows_that_an_index_does_not_find():
    x = np.eye(4, dtype=np.float16)[[0, 1, 0, 2, 0]]

    def search(queries, k):
        assert queries.dtype == np.float32
        rows, similarities = exact_search(x)(queries, k)
        return np.where(similarities < 0.5, -1, rows), np.where(similarities < 0.5, -3e38, similarities)

    assert alike(x, search, 0.9) == [Group([0, 2, 4], 1.0)]


def test_large_groups(monkeypatch):
    """Rows with more neighbours than FEW are searched again. So is the centre of a group of more than MANY."""
    monkeypatch.setattr(duplicates, "FEW", 3)
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(3, 8, dtype=np.float32), [9, 2, 5], 0) + 0.01 * rng.normal(size=(16, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    asked = []

    def search(queries, k):
        asked.append((len(queries), k))
        return exact_search(x)(queries, k)

    assert sorted(rows_of(alike(x, search, 0.9))) == [list(range(9)), [9, 10], list(range(11, 16))]
    assert asked == [(16, 4), (14, 16)]
    asked.clear()
    monkeypatch.setattr(duplicates, "MANY", 5)
    assert sorted(rows_of(alike(x, search, 0.9))) == [list(range(9)), [9, 10], list(range(11, 16))]
    assert asked == [(16, 4), (14, 6), (1, 16)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.integers(0, 10**6))
def test_only_the_first_image_of_a_known_group_takes_part_in_alike(labels, seed):
    """The result is the same as without the other rows."""
    x = np.random.default_rng(seed).normal(size=(len(labels), 3)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    members = [[row for row, other in enumerate(labels) if other == label] for label in (0, 1)]
    known = [Group(rows, 1.0) for rows in members if len(rows) > 1]
    first = [row for row, label in enumerate(labels) if label > 1 or label not in labels[:row]]
    alone = alike(x[first], exact_search(x[first]), 0.7)
    assert rows_of(alike(x, exact_search(x), 0.7, copies=known)) == [[first[row] for row in group.rows] for group in alone]


def test_a_mark_on_an_image_holds_for_the_first_of_its_group():
    x = np.ones((6, 1), np.float32)
    known = [Group([0, 2], 1.0), Group([2, 4], 0.9)]
    assert rows_of(alike(x, exact_search(x), 0.9, copies=known)) == [[0, 1, 3, 5]]
    assert_apart(alike(x, exact_search(x), 0.9, apart=[[4, 5]], copies=known), [[0, 5]])


# ---- pairs marked as "not duplicates" --------------------------------------------------------------------------------

lines = st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=4, unique=True), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0, 1)), max_size=30), lines)
def test_joined_strongest_first_and_never_what_stands_apart(made, apart):
    made = [link for link in made if link[0] != link[1]]
    links = Links(*(np.array(part) for part in zip(*made)) if made else (np.empty(0, int), np.empty(0, int), np.empty(0)))
    groups = joined(links, apart)
    assert_partition(groups, 12)
    assert_apart(groups, apart)
    # The slow way: sets that are merged link by link.
    sets, least = [{row} for row in range(12)], {}
    for first, second, value in sorted(made, key=lambda link: -link[2]):
        together = sets[first] | sets[second]
        if sets[first] is not sets[second] and all(len(together & set(line)) <= 1 for line in apart):
            least[frozenset(together)] = value
            for row in together:
                sets[row] = together
    expected = {frozenset(rows) for rows in sets if len(rows) > 1}
    assert {frozenset(group.rows) for group in groups} == expected
    assert all(group.similarity == least[frozenset(group.rows)] for group in groups)


class FakeGallery(SimpleNamespace):
    def __len__(self):
        return len(self.embeddings)


@settings(max_examples=30, deadline=None)
@given(lines, st.integers(0, 10**6))
def test_every_kind_respects_what_the_user_said(apart, seed):
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 3, 12)
    prints = pictures(seeds)
    prints[:, 0, 0] = rng.integers(0, 3, 12)
    hashes = np.zeros((12, 16), np.uint8)
    hashes[:, 0], hashes[:, 1] = seeds, prints[:, 0, 0]
    x = np.eye(3, dtype=np.float32)[seeds]

    marks = [Mark(str(number), [rows]) for number, rows in enumerate(apart)]
    gallery = FakeGallery(
        embeddings=x,
        prints=prints,
        hashes=hashes,
        apart=lambda: apart,
        marks=lambda: marks,
        kept=lambda name, make, rules: make(),
        contents_of=lambda rows: {},
    )
    index = SimpleNamespace(search=exact_search(x))
    found = {}
    for kind in KINDS:
        groups = duplicates_of(gallery, index, kind, 0.9, False)
        found[kind] = [Group(rows.tolist(), s) for rows, s in zip(groups.rows, groups.similarities.tolist())]
        assert_partition(found[kind], 12)
        assert_apart(found[kind], apart)
    # No two rows are together in two groups.
    pairs = [(a, b) for groups in found.values() for group in groups for a in group.rows for b in group.rows if a < b]
    assert len(set(pairs)) == len(pairs)
    if not apart:
        assert found["alike"] == []  # all look-alikes here are copies already


def test_leaders_of_chains():
    assert leaders(6, [Group([2, 4], 1.0), Group([1, 2], 0.9), Group([0, 5], 0.9)]).tolist() == [0, 1, 1, 3, 1, 0]
