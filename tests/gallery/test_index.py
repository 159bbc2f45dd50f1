"""Tests the index against a brute-force comparison in float64."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from gallery import index as indexes
from gallery.index import Index, Outdated, build, exact_neighbours, load, recall_at_10, save
from utils.errors import InputError

ROUNDING = 1e-6  # of a similarity in float32


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def clustered(count, dim=16, clusters=20, seed=0):
    """Return rows of length 1 around some centres: float32 (count, dim)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    return unit(centres[rng.integers(clusters, size=count)] + 0.5 * rng.normal(size=(count, dim))).astype(np.float32)


def are_nearest(rows, similarities, queries, embeddings, k):
    """Check that these are the k nearest rows, best first. If rows are equally similar, any of them may be in the result."""
    true = queries.astype(np.float64) @ embeddings.astype(np.float64).T
    k = min(k, len(embeddings))
    assert rows.shape == similarities.shape == (len(queries), k)
    assert rows.dtype == np.int64 and similarities.dtype == np.float32
    assert all(len(set(found)) == k for found in rows.tolist())  # no row twice
    found = np.take_along_axis(true, rows, 1)
    assert np.abs(found - similarities).max() < ROUNDING
    assert (np.diff(similarities, axis=1) <= 0).all()
    return np.abs(np.sort(found, axis=1) - np.sort(true, axis=1)[:, -k:]).max() < ROUNDING


# ---- exact -----------------------------------------------------------------------------------------------------------


few = st.integers(-2, 2)  # small integers, so that many rows and many similarities are equal


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(few, few, few), min_size=1, max_size=40),
    queries=st.lists(st.tuples(few, few, few), min_size=1, max_size=4),
    k=st.integers(1, 50),
)
def test_exact_search_with_ties(rows, queries, k):
    embeddings, queries = (unit(list_).astype(np.float32) for list_ in (rows, queries))
    assert are_nearest(*build(embeddings).search(queries, k), queries, embeddings, k)
    found = exact_neighbours(queries, embeddings, k)
    true = queries.astype(np.float64) @ embeddings.astype(np.float64).T
    assert are_nearest(found, np.take_along_axis(true, found, 1).astype(np.float32), queries, embeddings, k)


@pytest.mark.parametrize("queries", [1, 30])  # faiss has another method for many queries
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_search_of_many_in_blocks(tmp_path, monkeypatch, queries, dtype):
    monkeypatch.setattr(indexes, "ROWS_AT_ONCE", 7)
    np.save(tmp_path / "embeddings.npy", clustered(100).astype(dtype))
    embeddings = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    index = build(embeddings)
    assert index.about["kind"] == "exact" and index.about["images"] == len(index) == 100
    asked = clustered(queries, seed=1)
    assert are_nearest(*index.search(asked, 10), asked, embeddings, 10)
    assert are_nearest(*index.search(asked.astype(np.float64)[:, ::-1], 10), asked[:, ::-1], embeddings, 10)
    found = exact_neighbours(asked, embeddings, 10)
    assert np.array_equal(found, np.argsort(-asked.astype(np.float64) @ embeddings.astype(np.float64).T, axis=1)[:, :10])


def test_one_image():
    rows, similarities = build(clustered(1)).search(clustered(1), 10)
    assert rows.tolist() == [[0]] and similarities[0, 0] == pytest.approx(1)


# ---- by an inverted file ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inverted():
    embeddings = clustered(240, clusters=60)
    return build(embeddings, exact_up_to=0), embeddings


def slow_recall(index, embeddings, sample):
    """Return Recall@10 of searches with some of the embeddings themselves, image by image."""
    shares = []
    for row in sample:
        similar = embeddings[row].astype(np.float64) @ embeddings.astype(np.float64).T
        nearest = set(np.argsort(-similar)[:10].tolist())
        found = set(index.search(embeddings[row : row + 1], 10)[0][0].tolist())
        shares.append(len(nearest & found) / 10)
    return np.mean(shares)


def test_the_recall_that_is_reported_is_measured(inverted):
    """With only 240 embeddings, the sample that recall is measured on holds all of them."""
    index, embeddings = inverted
    about = index.about
    assert about["kind"] == "inverted file" and about["images"] == len(index) == 240
    assert about["recall"] == pytest.approx(slow_recall(index, embeddings, range(240)))
    assert indexes.RECALL <= about["recall"] and 1 < about["probes"] < about["lists"]
    index.searcher.nprobe = about["probes"] // 2  # with half as many, the recall is too low
    assert slow_recall(index, embeddings, range(240)) < indexes.RECALL
    index.searcher.nprobe = about["probes"]


def test_images_that_it_has_not_seen(inverted):
    index, embeddings = inverted
    queries = clustered(200, clusters=60, seed=0) + 0.02 * np.random.default_rng(2).normal(size=(200, 16))
    queries = unit(queries).astype(np.float32)
    rows, similarities = index.search(queries, 10)
    exact = build(embeddings).search(queries, 10)[0]
    assert recall_at_10(rows, exact) > 0.9
    true = queries.astype(np.float64) @ embeddings.astype(np.float64).T
    found = rows >= 0
    assert np.abs(np.take_along_axis(true, np.maximum(rows, 0), 1) - similarities)[found].max() < ROUNDING
    assert all(len(set(row) - {-1}) == sum(r >= 0 for r in row) for row in rows.tolist())


def test_a_sample_of_many(monkeypatch):
    """The recall measured on a sample is close to that over all images."""
    monkeypatch.setattr(indexes, "SAMPLE", 100)
    embeddings = clustered(1000, clusters=150)
    index = build(embeddings.astype(np.float16), exact_up_to=999)
    assert index.about["kind"] == "inverted file"
    assert index.about["recall"] == pytest.approx(slow_recall(index, embeddings, range(0, 1000, 3)), abs=0.04)


def test_the_same_from_run_to_run(inverted):
    index, embeddings = inverted
    again = build(embeddings, exact_up_to=0)
    assert {**again.about, "seconds": 0} == {**index.about, "seconds": 0}
    queries = clustered(50, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(index.search(queries, 10), again.search(queries, 10)))


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_an_inverted_file_of_few(count):
    index = build(clustered(count), exact_up_to=0)
    rows, _ = index.search(clustered(count), 10)
    assert rows.shape == (count, min(10, count)) and (rows[:, 0] == range(count)).all()
    assert 0 < index.about["recall"] <= 1


def test_recall_at_10():
    exact = np.arange(20).reshape(2, 10)
    found = exact.copy()
    found[0, :5] = -1
    assert recall_at_10(found, exact) == 0.75 and recall_at_10(exact[:, ::-1], exact) == 1
    assert recall_at_10(np.array([[0, -1, -1]]), np.array([[0, 1]])) == 0.5


# ---- on the disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact_up_to", [0, 1000])
def test_saved_and_loaded(tmp_path, exact_up_to):
    embeddings = clustered(240)
    index = build(embeddings, exact_up_to)
    save(index, str(tmp_path), "model", "stamp")
    held = json.loads((tmp_path / "index.json").read_text())
    assert held == {**index.about, "model": "model", "stamp": "stamp"}
    assert {path.name for path in tmp_path.iterdir()} == {"index.json"} | ({"index.faiss"} if not exact_up_to else set())
    loaded = load(str(tmp_path), embeddings, "model", "stamp")
    queries = clustered(30, seed=1)
    assert isinstance(loaded, Index) and len(loaded) == 240
    assert all(np.array_equal(a, b) for a, b in zip(index.search(queries, 10), loaded.search(queries, 10)))
    assert all(loaded.about[name] == value for name, value in index.about.items())


@pytest.fixture
def saved(tmp_path, inverted):
    index, embeddings = inverted
    save(index, str(tmp_path), "model", "stamp")
    return tmp_path, embeddings


def refusal(saved, model="model", stamp="stamp", kind=InputError):
    """Return the message of `load`. kind: Outdated if a new index can be made, InputError if the user must be told."""
    folder, embeddings = saved
    with pytest.raises(InputError) as caught:
        load(str(folder), embeddings, model, stamp)
    message = caught.value.shown
    assert type(caught.value) is kind and message.isprintable()
    assert str(folder) in message and f"search.py index {folder}" in message
    return message


def test_an_index_of_another_model_is_refused(saved):
    assert "another model" in refusal(saved, model="other")
    assert "another model" in refusal(saved, model="other", stamp="newer")


def test_an_index_of_earlier_embeddings_can_be_made_anew(saved):
    assert "older than the embeddings" in refusal(saved, stamp="newer", kind=Outdated)
    (saved[0] / "index.json").unlink()
    assert "no index yet" in refusal(saved, kind=Outdated)


@pytest.mark.parametrize("held", [b"", b"{", b"noise \xff", b"[]", b"null", b'{"model": "model", "stamp": "stamp"}'])
def test_a_damaged_description(saved, held):
    (saved[0] / "index.json").write_bytes(held)
    assert "index.json: damaged" in refusal(saved)


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "noise", "of others"])
def test_a_damaged_inverted_file_can_be_made_anew(saved, tmp_path_factory, kind):
    path = saved[0] / "index.faiss"
    whole = path.read_bytes()
    other = tmp_path_factory.mktemp("other")
    save(build(clustered(100), exact_up_to=0), str(other), "model", "stamp")
    path.unlink()
    if kind != "missing":
        noise = np.random.default_rng(0).bytes(len(whole))
        held = {"empty": b"", "cut": whole[:-100], "noise": noise, "of others": (other / "index.faiss").read_bytes()}
        path.write_bytes(held[kind])
    refusal(saved, kind=Outdated)
