"""Extraction and evaluation of images, with an encoder whose output is known."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

import evaluations.retrieval
from data.images import Images
from data.lists import ImageList
from data.transforms import Transforms
from data.views import ImageBatches
from evaluations.cluster_metrics import pairwise_f1
from evaluations.recall import recall_at_k
from evaluations.retrieval import (
    METRICS,
    Found,
    columns,
    extract_lists,
    nearest,
    neighbours,
    reranked,
    result_line,
    score,
    score_lists,
    summary,
)
from made_clusters import made
from utils.clustering.kmeans import kmeans
from utils.clustering.smooth import neighbours_among, smoothed_twice
from utils.errors import InputError
from utils.features import extract


def mean_colour(images):
    return (images.float().mean((2, 3)),)


@pytest.fixture
def coloured(tmp_path):
    """Nine images: three each of red, green and blue. The fifth is damaged."""
    paths = []
    for i in range(9):
        colour = [20, 20, 20]
        colour[i // 3] = 200 + 5 * (i % 3)
        Image.new("RGB", (20, 30), tuple(colour)).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "4.png").write_bytes(b"no image")
    return ImageList(paths, np.arange(9) // 3, "test.txt")


def crops(part, workers=0):
    return ImageBatches(Images(part.paths, Transforms(16, 20)), 4, workers).crops()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mapped", [False, True])
def test_extract_keeps_order_and_reports_bad_images(coloured, workers, mapped, tmp_path, monkeypatch):
    folder = tmp_path / "features"
    folder.mkdir()
    monkeypatch.setattr("utils.features.IN_MEMORY", 107 if mapped else 108)  # bytes; 9 images take 108
    (means, doubled), good, bad = extract(
        [lambda x: (*mean_colour(x), 2 * mean_colour(x)[0])], crops(coloured, workers), 9, folder=folder
    )
    assert [item.index for item in bad] == [4] and "4.png" in bad[0].message
    assert list(good) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert means.shape == (8, 3) and means.dtype == np.float32 and means.flags.c_contiguous
    assert isinstance(means, np.memmap) == mapped and not list(folder.iterdir())  # the file disappears with the array
    assert np.allclose(doubled, means)  # both have rows of length 1
    for row, i in enumerate(good):
        colour = np.full(3, 20.0)
        colour[i // 3] = 200 + 5 * (i % 3)
        assert means[row] == pytest.approx(colour / np.linalg.norm(colour), abs=1e-6)


def test_features_that_do_not_fit_are_refused_before_they_are_made(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.features.IN_MEMORY", 0)
    with pytest.raises(InputError, match="no: cannot keep features there") as caught:
        extract([mean_colour], crops(coloured), 9, folder=tmp_path / "no")
    assert caught.value.setting == "features_dir"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=107))
    with pytest.raises(InputError, match="9 features of 3 numbers"):  # they take 108 bytes
        extract([mean_colour], crops(coloured), 9, folder=tmp_path)


def test_a_list_is_counted_and_scored(coloured):
    (result,) = score_lists(extract_lists([mean_colour], (coloured, coloured), crops, "skip"), ks=(1, 2))
    with pytest.raises(InputError, match="4.png: cannot be read as an image"):
        extract_lists([mean_colour], (coloured, coloured), crops, "stop")
    assert result["recall"] == {1: 1.0, 2: 1.0} and result["nmi"] == pytest.approx(1)
    assert (result["queries"], result["without_positive"], result["unreadable"]) == (8, 0, 1)
    assert result_line(600, result) == "Epoch-600 1.0000  1.0000  1.0000"


def test_queries_against_a_gallery(coloured):
    query = ImageList(coloured.paths[:4], coloured.labels[:4], "query.txt")
    gallery = ImageList([coloured.paths[i] for i in (5, 6, 6)], np.array([1, 0, 1]), "gallery.txt")  # two images are equal
    (result,) = score_lists(extract_lists([mean_colour], (query, gallery), crops, "skip"), ks=(1, 2, 4))
    assert result["queries"] == 4
    # Blue (6) is nearer to red than green (5) is, so the three red queries meet the tie. The green query finds green.
    assert result["recall"][1] == pytest.approx((3 * 0.5 + 1) / 4)
    assert result["recall"][2] == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(1, 8), st.integers(1, 40), st.booleans(), st.integers(0, 1000))
def test_nearest_is_a_sort_of_all_similarities(n, dim, k, same_set, seed):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.normal(size=(m, dim)).astype(np.float32) for m in (n, 2 * n))
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    indices, similarities = nearest(query, None if same_set else gallery, k)
    found = query if same_set else gallery
    all_similarities = query @ found.T
    if same_set:
        np.fill_diagonal(all_similarities, -np.inf)
    expected = -np.sort(-all_similarities, axis=1)[:, : min(k, len(found) - same_set)]
    assert similarities.shape == indices.shape == expected.shape and np.allclose(similarities, expected, atol=1e-6)
    assert np.allclose(np.take_along_axis(all_similarities, indices, 1), similarities, atol=1e-6)


def test_nearest_among_many_copies():
    """An image with many copies may be missing from its own list. It still gets k neighbours, and never itself."""
    indices, similarities = nearest(np.ones((50, 1), np.float32), k=3)
    assert indices.shape == (50, 3) and (indices != np.arange(50)[:, None]).all() and (similarities == 1).all()


def test_neighbours_are_places_in_the_lists(coloured):
    found = neighbours(extract_lists([mean_colour], (coloured, coloured), crops, "skip"))
    assert found["query"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8] and found["indices"].shape == (8, 7)  # image 4 is damaged
    assert [set(row[:2]) for row in found["indices"][:3].tolist()] == [{1, 2}, {0, 2}, {0, 1}]
    assert found["indices"][3, 0] == 5 and found["indices"][4, 0] == 3


def test_nmi_is_sklearns_on_blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 40)
    features = (rng.normal(size=(6, 16))[labels] * 2 + rng.normal(size=(240, 16))).astype(np.float32)
    expected = normalized_mutual_info_score(labels, KMeans(6, n_init=10, random_state=0).fit_predict(features))
    assert score([features], [labels], (1,), ["nmi"])["nmi"] == pytest.approx(expected, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-2, 3), min_size=1, max_size=12),
    st.integers(1, 3),
    st.sampled_from([0.0, 1.0]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_every_metric_of_any_small_set_is_a_share(names, dim, spread, same_set, seed):
    """Also for one image, one class, embeddings of one number, equal images, and K beyond N. nan only if no query counts."""
    rng, labels = np.random.default_rng(seed), np.array(names)
    features = (np.ones((len(labels), dim)) + 9 * spread * rng.normal(size=(len(labels), dim))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    sets, both = ([features], [labels]) if same_set else ([features[::2], features], [labels[::2], labels])
    got = score(sets, both, (1, 2, 1000), list(METRICS))
    recall, alone = got.pop("recall"), same_set and len(set(names)) == len(names)
    assert recall[1] <= recall[2] <= recall[1000] == 1 or alone and np.isnan(list(recall.values())).all()
    assert got.keys() == METRICS.keys() - {"recall"}
    for name, share in got.items():
        if alone and name in ("precision_at_1", "r_precision", "map_at_r"):
            assert np.isnan(share)
        else:
            assert (-1 if name == "ami" else 0) <= share <= 1 + 1e-6, name
    if len(set(names)) == 1 and not alone:
        assert list(got.values()) == [1] * len(got)


def test_metrics_come_in_the_order_asked_for_from_one_clustering(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    features = (rng.normal(size=(4, 8))[labels] + rng.normal(size=(40, 8))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    clusterings = []

    def counted(*args, **more):
        clusterings.append(kmeans(*args, **more))
        return clusterings[-1]

    monkeypatch.setattr(evaluations.retrieval, "kmeans", counted)

    everything = score([features], [labels], (2, 4), list(METRICS))
    clusters = clusterings.pop().labels
    assert not clusterings
    assert everything["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-12)
    assert everything["ami"] == pytest.approx(adjusted_mutual_info_score(labels, clusters), abs=1e-12)
    assert everything["f1"] == pairwise_f1(labels, clusters)
    assert everything["precision_at_1"] == recall_at_k(features, labels, ks=(1,)).at_k[1]
    assert list(everything["recall"]) == [2, 4]
    assert columns(everything).keys() == {"R@2", "R@4", "P@1", "RP", "MAP@R", "NMI", "AMI", "F1"}

    asked = ["map_at_r", "recall", "precision_at_1", "r_precision"]
    some = score([features], [labels], (2, 4), asked)
    assert not clusterings and list(some) == asked and all(some[name] == everything[name] for name in asked)
    geometric = score([features], [labels], (1,), ["nmi"], "geometric")["nmi"]
    assert geometric == pytest.approx(normalized_mutual_info_score(labels, clusters, average_method="geometric"), abs=1e-12)


def test_reranked_rows_are_smoothed_over_the_gallery():
    rows, labels = made(20, 600, spread=0.25, d=64)
    places = np.arange(600)
    table = neighbours_among(rows, rows, places)
    (one,) = reranked(Found([(rows,)], [labels], [places], 0)).sets
    np.testing.assert_allclose(one[0], smoothed_twice(rows, table, rows, table))
    query, gallery = rows[:100], rows[100:]
    both = Found([(query, gallery)], [labels[:100], labels[100:]], [places[:100], places[:500]], 0)
    ((queries, others),) = reranked(both).sets
    table = neighbours_among(gallery, gallery, places[:500])
    np.testing.assert_allclose(others, smoothed_twice(gallery, table, gallery, table))
    np.testing.assert_allclose(queries, smoothed_twice(gallery, table, query, neighbours_among(query, gallery)))
    before, after = (score_lists(tested, (1,), ["map_at_r"])[0]["map_at_r"] for tested in (both, reranked(both)))
    assert after > before + 0.1
    assert reranked(Found([], [], [], 0)).sets == []  # of another process than the first


def test_reranked_rows_are_marked():
    plain, after = {"recall": {1: 0.5}, "nmi": 0.25}, {"recall": {1: 0.75}, "nmi": 0.5}
    counts = {"queries": 4, "without_positive": 0, "unreadable": 0}
    said = summary([(None, "pooled"), (3, "closed_form")], 2 * [{**plain, **counts, "reranked": after}], "arithmetic")
    lines = [line.split() for line in said.splitlines()]
    assert ["frozen", "backbone,", "reranked", "75.00", "50.00"] in lines
    assert ["epoch", "3,", "closed", "form,", "reranked", "75.00", "50.00"] in lines
    assert ["epoch", "3,", "closed", "form", "50.00", "25.00"] in lines
    assert len([line for line in lines if line[0].startswith("Epoch-")]) == 2  # only plain rows are lines of the original
