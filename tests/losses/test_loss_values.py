"""The value and the gradient of every loss, against slow loops over anchors, pairs and triplets."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from slow_losses import (
    PLAIN,
    margin,
    margin_terms,
    proxy_anchor,
    sampling_weights,
    thresholds_are_clear,
    value_and_gradients,
)
from torch.nn.functional import normalize

import losses

CLASSES, DIM = 4, 6
RENORMALISING = {"Contrastive", "NCA", "Triplet", "SemiHard", "Margin", "ProxyAnchor"}  # these normalise
some_labels = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=9)
some_spread, some_seed = st.sampled_from([0.2, 0.7, 3.0]), st.integers(0, 1000)


def embed(labels, spread, seed):
    """Return embeddings around a centre for each class: float32 (N, DIM)."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    return normalize(centres[labels] + spread * torch.randn(len(labels), DIM, generator=generator))


def assert_equal_to_slow(name, ours, slow, x, *parameters):
    """Check values and gradients of ours(x) against slow(x, *parameters). `ours` holds the same parameters."""
    x = x.clone().requires_grad_()
    value = ours(x)
    value.backward()
    found = [value.detach(), x.grad, *(p.grad for p in parameters)]
    expected = value_and_gradients(slow, x.double(), *(p.double() for p in parameters))
    if name in RENORMALISING:  # scaling removes the part of the gradient along x
        radial = (expected[1] * x.detach()).sum(1, keepdim=True)
        expected[1] = expected[1] - radial * x.detach()
    torch.testing.assert_close([f.double() for f in found], expected, rtol=1e-4, atol=3e-5)


def test_every_loss_has_a_slow_version():
    assert {*PLAIN, "Margin", "ProxyAnchor"} == set(losses.names())


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=100, deadline=None)
@given(labels=some_labels, spread=some_spread, seed=some_seed)
def test_losses_of_pairs_and_triplets(name, labels, spread, seed):
    x = embed(labels, spread, seed)
    assume(thresholds_are_clear(x.double(), labels))
    assert_equal_to_slow(name, lambda x: losses.create(name)(x, torch.tensor(labels)), lambda x: PLAIN[name](x, labels), x)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_a_batch_of_p_times_k(name, spread):
    """With 32 images, torch.cdist computes distances by matrix products."""
    labels = [0, 1, 2, 3] * 8
    x = embed(labels, spread, 0)
    assert thresholds_are_clear(x.double(), labels, 1e-6)
    assert_equal_to_slow(name, lambda x: losses.create(name)(x, torch.tensor(labels)), lambda x: PLAIN[name](x, labels), x)


@settings(max_examples=60, deadline=None)
@given(labels=some_labels, spread=some_spread, seed=some_seed)
def test_margin(labels, spread, seed):
    """The triplets are those that the miner draws. The next test checks how it draws them."""
    x, loss = embed(labels, spread, seed), losses.create("Margin", num_classes=CLASSES)
    (beta,) = loss.parameters()
    assert beta.tolist() == pytest.approx([1.2] * CLASSES)
    beta.data += torch.tensor([-0.2, 0, 0.1, 0.3])

    torch.manual_seed(seed)
    triplets = list(zip(*(index.tolist() for index in loss.miner(x, torch.tensor(labels)))))
    assume(all(abs(term) > 1e-5 for term in margin_terms(x, labels, beta.detach(), triplets)))

    def ours(x):
        torch.manual_seed(seed)
        return loss(x, torch.tensor(labels))

    assert_equal_to_slow("Margin", ours, lambda x, beta: margin(x, labels, beta, triplets), x, beta)


def test_margin_draws_by_distance():
    """The anchors have negatives from close to farther than 1.4. 10,000 draws occur as often as section 4 of the paper
    says."""
    angles = [0.0] * 100 + [0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.5, 1.54, 1.56, 2.0]
    labels = [0] * 100 + [1] * 10
    x = torch.tensor([[math.cos(angle), math.sin(angle), 0, 0, 0, 0] for angle in angles])
    torch.manual_seed(0)
    anchors, positives, negatives = losses.create("Margin", num_classes=2).miner(x, torch.tensor(labels))
    drawn = Counter(negatives[anchors < 100].tolist())
    assert drawn.total() == 10000 and not (anchors == positives).any()
    for j, weight in enumerate(sampling_weights(x.double(), labels, 0)):
        deviation = math.sqrt(weight * (1 - weight) / 10000)
        assert drawn[j] / 10000 == pytest.approx(weight, abs=4 * deviation)


@settings(max_examples=60, deadline=None)
@given(labels=some_labels, spread=some_spread, seed=some_seed)
def test_proxy_anchor(labels, spread, seed):
    torch.manual_seed(seed)
    loss = losses.create("ProxyAnchor", dim=DIM, num_classes=CLASSES)
    (proxies,) = loss.parameters()
    assert_equal_to_slow(
        "ProxyAnchor",
        lambda x: loss(x, torch.tensor(labels)),
        lambda x, proxies: proxy_anchor(x, labels, proxies),
        embed(labels, spread, seed),
        proxies,
    )
