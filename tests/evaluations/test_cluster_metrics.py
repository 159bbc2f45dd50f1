"""NMI, AMI and pairwise F1, against their definitions."""

import itertools
from math import comb, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import f1_score

from evaluations.cluster_metrics import ami, nmi, pairwise_f1

labelings = st.integers(2, 30).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2))


def entropy(names):
    return -sum(p * log(p) for p in (names.count(name) / len(names) for name in set(names)))


def chance_information(labels, clusters):
    """Return E[I] over all ways to deal the images into clusters of these sizes (Vinh, Epps and Bailey 2010, eq. 24a).

    The number of images that a label and a cluster share follows a hypergeometric distribution.
    """
    total, expected = len(labels), 0.0
    for a, b in itertools.product(*[[names.count(name) for name in set(names)] for names in (labels, clusters)]):
        for n in range(max(1, a + b - total), min(a, b) + 1):
            probability = comb(a, n) * comb(total - a, b - n) / comb(total, b)
            expected += probability * n / total * log(n * total / (a * b))
    return expected


@settings(max_examples=100, deadline=None)
@given(labelings)
def test_equals_the_definitions(both):
    labels, clusters = both
    information = entropy(labels) + entropy(clusters) - entropy(list(zip(labels, clusters)))
    h, g = entropy(labels), entropy(clusters)
    if h and g:
        assert nmi(labels, clusters) == pytest.approx(information / ((h + g) / 2), abs=1e-6)
        assert nmi(labels, clusters, "geometric") == pytest.approx(information / sqrt(h * g), abs=1e-6)
        assert nmi(labels, clusters, "geometric") >= nmi(labels, clusters) - 1e-12
    expected = chance_information(labels, clusters)
    if (h + g) / 2 - expected > 1e-9:
        assert ami(labels, clusters) == pytest.approx((information - expected) / ((h + g) / 2 - expected), abs=1e-6)

    pairs = list(itertools.combinations(range(len(labels)), 2))
    truth, found = ([names[i] == names[j] for i, j in pairs] for names in both)
    assert pairwise_f1(labels, clusters) == pytest.approx(f1_score(truth, found, zero_division=1.0), abs=1e-12)


@pytest.mark.parametrize("names", [[0, 0], [0, 1], [0] * 9, list(range(9)), [0, 0, 1, 1, 2]])
def test_the_same_clustering_is_perfect_whatever_its_names(names):
    renamed = [7 - name for name in names]
    assert [metric(names, renamed) for metric in (nmi, ami, pairwise_f1)] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("labels, clusters", [([0, 0], [0, 1]), ([0, 1], [0, 0])])
def test_two_images_clustered_wrongly(labels, clusters):
    assert nmi(labels, clusters) == 0 and pairwise_f1(labels, clusters) == 0


def test_chance_scores_nothing_in_ami_and_a_lot_in_nmi():
    """This is why AMI exists: a random clustering into many clusters gets a high NMI, but an AMI of about 0."""
    rng = np.random.default_rng(0)
    labels, blind = rng.integers(200, size=(2, 1000))
    assert nmi(labels, blind) > 0.5 and abs(ami(labels, blind)) < 0.05


@pytest.mark.parametrize("n", [60_502, 1_000_000])
def test_f1_does_not_overflow(n):
    """Two classes are in one cluster. The numbers of pairs need more than 32 bits."""
    assert n**2 > 2**31
    found, true_positive = comb(n, 2), 2 * comb(n // 2, 2)
    labels, cluster = np.arange(n) % 2, np.zeros(n, int)
    assert pairwise_f1(labels, cluster) == pytest.approx(2 * true_positive / (true_positive + found), abs=1e-12)
    assert pairwise_f1(cluster, cluster) == 1
