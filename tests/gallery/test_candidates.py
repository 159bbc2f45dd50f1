"""Candidates: against the cosines of all pairs in float64; and the inverted file against the exact search."""

import numpy as np
import pytest

from gallery.candidates import INSET, LIKELY, NEIGHBOURS, candidates, descriptors
from gallery.thumbprints import INVERSE, SIDE, VIEWS, view_of
from made_prints import pictures


def slow_descriptor(print_, inset):
    """Compute a descriptor by scipy's cosine transform, of samples that np.interp takes."""
    from scipy.fft import dctn

    at = (inset + (np.arange(SIDE) + 0.5) / SIDE * (1 - 2 * inset)) * SIDE - 0.5
    rows = np.stack([np.interp(at, np.arange(SIDE), row) for row in print_.astype(float)])
    samples = np.stack([np.interp(at, np.arange(SIDE), column) for column in rows.T]).T
    waves = dctn(samples, norm=None)
    kept = [waves[i, j] * np.hypot(i, j) ** 0.5 for i in range(8) for j in range(8) if (i or j) and i * i + j * j <= 64]
    return np.array(kept) / np.linalg.norm(kept)


@pytest.mark.parametrize("inset", [0, INSET])
def test_descriptors_are_low_frequencies(inset):
    prints = pictures(range(12))
    got = descriptors(prints, inset)
    assert got.dtype == np.float32
    assert got == pytest.approx(np.stack([slow_descriptor(print_, inset) for print_ in prints]), abs=1e-5)


def slow_candidates(prints, views):
    """For each query, find its NEIGHBOURS most similar prints among all, and keep those above LIKELY."""
    whole = descriptors(prints).astype(np.float64)
    found = set()
    for view in views:
        cosines = descriptors(view_of(prints, view), INSET).astype(np.float64) @ whole.T
        for i, row in enumerate(cosines):
            for j in np.argsort(-row)[: NEIGHBOURS + 1]:
                if j != i and row[j] >= LIKELY:
                    found.add((i, j, view) if i < j else (j, i, INVERSE[view]))
    return found


def some_prints():
    """Return 300 pictures, and crops and turns of the first ones."""
    parts = [pictures(range(300)), pictures(range(60), 0.05, 0.05, 0.05, 0.05), pictures(range(60), 0.04, noise=2)]
    return np.concatenate([*parts, *(view_of(pictures(range(20), noise=1), view) for view in range(1, VIEWS))])


@pytest.mark.parametrize("views", [(0,), range(VIEWS)])
def test_equals_all_pairs(views):
    prints = some_prints()
    got = candidates(prints, views)
    triples = list(zip(*(part.tolist() for part in got)))
    assert len(set(triples)) == len(triples) and triples == sorted(triples)
    expected = slow_candidates(prints, views)
    assert len(expected ^ set(triples)) <= 2  # rounding may decide at LIKELY
    assert (got.first < got.second).all()


def test_the_view_turns_the_first_into_the_second():
    prints = np.concatenate([pictures(range(5)), *(view_of(pictures(range(5), noise=1), view) for view in range(1, VIEWS))])
    got = candidates(prints, range(VIEWS))
    assert len(got.view) == 5 * 28  # each pair of the 8 views of a picture
    for first, second, view in zip(*got):
        assert np.abs(view_of(prints[first], view).astype(int) - prints[second]).max() < 10


def test_queries_are_rows_whose_partners_are_wanted():
    prints = some_prints()
    every, some = (set(zip(*candidates(prints, queries=queries))) for queries in (None, np.array([3, 300])))
    assert some <= every and {(3, 303, 0), (3, 363, 0)} <= some  # the two crops of picture 3
    assert all({first, second} & {3, 300} for first, second, _ in some)


def test_the_inverted_file_finds_the_copies_that_the_exact_search_finds():
    prints = np.concatenate([pictures(range(2000)), pictures(range(100), 0.05, 0.05, 0.05, 0.05, noise=1)])
    exact, inverted = (set(zip(*candidates(prints, exact_up_to=most))) for most in (2100, 0))
    copies = {(row, 2000 + row, 0) for row in range(100)}
    assert copies <= exact and copies <= inverted
    assert len(exact & inverted) >= 0.9 * len(exact)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_prints(count):
    got = candidates(np.repeat(pictures([0]), count, 0), range(VIEWS))
    assert list(zip(*got))[:1] == ([(0, 1, 0)] if count == 2 else [])
