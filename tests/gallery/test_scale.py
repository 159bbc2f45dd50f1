"""How high a similarity is in a gallery: the scale, compared with counting; and when nothing is like a query."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import galleries
from galleries import files_named, make
from gallery import scale, smoothing
from gallery.scale import UNKNOWN, Scale, measured
from gallery.search import Query, look_alikes, open_gallery, query_of_row
from gallery.smoothing import SmoothedRows, made
from made_clusters import made as made_rows


def pairs_of(rows):
    """Return the similarities of each row and its 20 nearest, both smoothed: (n,)."""
    smoothed, similar = SmoothedRows(rows, made(rows))[:], rows @ rows.T
    np.fill_diagonal(similar, -2)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, : min(20, len(rows) - 1)]
    return np.array([smoothed[i] @ smoothed[j] for i, near in enumerate(nearest) for j in near])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 99))
def test_the_per_cent_of_neighbours_that_are_less_similar(count, seed):
    rows, _ = made_rows(1, count, 0.5, d=8, seed=seed)
    neighbours, asked = pairs_of(rows), np.linspace(-1, 1, 50, dtype=np.float32)
    counted = np.array([100 * (neighbours < value).mean() for value in asked])
    more = Scale(measured(rows, made(rows))).closer_than(asked) - counted
    one = 100 / len(neighbours)
    assert (-1 - one <= more).all() and (more <= one).all()  # never exaggerated


def test_a_large_gallery_is_measured_on_a_sample(monkeypatch):
    """The images lie in order of their folders, so the sample is spread over all."""
    rows = np.concatenate([made_rows(1, 300, spread)[0] for spread in (0.05, 0.3)])
    whole = measured(rows, made(rows))
    monkeypatch.setattr(scale, "SAMPLE", 60)
    asked = []
    monkeypatch.setattr(
        scale, "smoothed_twice", lambda e, t, own, n: asked.append(len(own)) or smoothing.smoothed_twice(e, t, own, n)
    )
    sampled = measured(rows, made(rows))
    assert asked[0] < len(rows) and abs(sampled - whole).max() < 0.1 and sampled[25] < sampled[75] - 0.1


def test_a_single_image_has_no_scale():
    rows, _ = made_rows(1, 1)
    assert Scale(measured(rows, made(rows))).closer_than(np.ones(2, np.float32)) == [None, None]
    assert UNKNOWN.closer_than(np.ones(1, np.float32)) == [None]


def test_copies_are_no_neighbours():
    rows, _ = made_rows(2, 150, 0.4)
    assert measured(np.repeat(rows, 2, axis=0), made(np.repeat(rows, 2, axis=0)))[-1] < 0.99


@pytest.fixture
def opened(tmp_path):
    make(tmp_path, files_named(*(f"{i:02}.jpg" for i in range(60))))
    return open_gallery(str(tmp_path))


def test_results_stand_lower_and_lower_on_the_scale(opened, monkeypatch):
    gallery, index = opened
    smoothed = SmoothedRows(gallery.embeddings, index.neighbours)[:]
    for shortlist in (200, 30):  # beyond the shortlist, results come in the order of the rows as they are
        monkeypatch.setattr(smoothing, "SHORTLIST", shortlist)
        answer = look_alikes(gallery, index, [query_of_row(gallery, 5)], 0, 50)
        expected = index.scale.closer_than(smoothed[answer.rows] @ smoothed[5])
        assert np.allclose(answer.closer_than, expected, atol=1) and max(answer.closer_than[30:]) > 1
        first = answer.closer_than[:shortlist]
        assert first == sorted(first, reverse=True) and first[0] > first[-1] and len(answer.closer_than) == 50
    pages = [look_alikes(gallery, index, [query_of_row(gallery, 5)], start, 5).closer_than for start in range(0, 50, 5)]
    assert sum(pages, []) == answer.closer_than


def test_the_scale_is_kept_and_renewed_with_the_gallery(opened, tmp_path, monkeypatch):
    again = open_gallery(str(tmp_path))[1].scale.percents
    assert np.array_equal(again, opened[1].scale.percents)
    monkeypatch.setattr(scale, "measured", lambda *_: np.full(100, 0.5, np.float32))
    assert np.array_equal(open_gallery(str(tmp_path))[1].scale.percents, again)
    make(tmp_path, files_named("new.jpg"))
    assert (open_gallery(str(tmp_path))[1].scale.percents == 0.5).all()


# ---- nothing is like the query ---------------------------------------------------------------------------------------


@pytest.fixture
def clusters(tmp_path, monkeypatch):
    """A gallery of 200 images around 10 directions, and its index."""
    rows, _ = made_rows(10, 200, 0.12, d=8)
    numbered = {f"/photos/{i:03}.jpg": row for i, row in enumerate(rows)}
    as_drawn = galleries.drawn
    monkeypatch.setattr(galleries, "drawn", lambda file: (numbered[file.path], *as_drawn(file)[1:]))
    make(tmp_path, files_named(*(f"{i:03}.jpg" for i in range(200))))
    return open_gallery(str(tmp_path))


def asked_of(opened, rows):
    """Search with rows from elsewhere. Returns [nothing_like_it]."""
    return [look_alikes(*opened, [Query(row.astype(np.float32), b"0" * 16)], 0, 5).nothing_like_it for row in rows]


def test_nothing_is_like_a_query_whose_nearest_lie_further_than_those_of_the_images(clusters):
    gallery, index = clusters
    similar = np.asarray(gallery.embeddings) @ np.asarray(gallery.embeddings).T
    np.fill_diagonal(similar, -2)
    nearest = -np.sort(-similar, axis=1)[:, :10]
    mean, limit = nearest.mean(1), np.quantile(nearest.mean(1), 0.03)
    said = [look_alikes(gallery, index, [query_of_row(gallery, row)], 0, 5).nothing_like_it for row in range(200)]
    assert said == ((mean < limit) & (nearest[:, 0] < np.median(nearest[:, 0]))).tolist() and sum(said) == 6
    directions = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0]
    apart = directions[(directions @ np.asarray(gallery.embeddings).T).max(1) < 0.7]
    assert len(apart) and all(asked_of(clusters, apart))


def test_one_look_alike_is_enough(clusters):
    """A picture that is in the folder once, in another size, has no ten neighbours."""
    gallery, index = clusters
    row = next(row for row in range(200) if look_alikes(gallery, index, [query_of_row(gallery, row)], 0, 1).nothing_like_it)
    nearly = np.asarray(gallery.embeddings[row]) + np.random.default_rng(0).normal(scale=0.01, size=8)
    assert asked_of(clusters, [nearly / np.linalg.norm(nearly)]) == [False]
    of_photos = Scale(UNKNOWN.percents, usual=0.5, far=0.4)
    for nearest, nothing in ((0.98, False), (0.3, True)):
        assert of_photos.nothing_like(np.array([nearest] + [0.1] * 50, np.float32)) is nothing


def test_the_same_answer_on_each_page_and_for_the_same_bytes(clusters):
    gallery, index = clusters
    far = Query(-np.asarray(gallery.embeddings[0]), b"0" * 16)
    pages = [look_alikes(gallery, index, [far], start, 60) for start in (0, 60, 180)]
    assert [page.nothing_like_it for page in pages] == [pages[0].nothing_like_it] * 3
    same_bytes = far._replace(hashed=gallery.hashes[3].tobytes())
    assert not look_alikes(gallery, index, [same_bytes], 0, 1).nothing_like_it
    assert not look_alikes(gallery, index, [same_bytes], 0, 60).nothing_like_it


def test_few_images_cannot_tell(opened):
    gallery, index = opened
    assert len(gallery) < scale.FEWEST and asked_of(opened, -np.asarray(gallery.embeddings)) == [False] * 60
