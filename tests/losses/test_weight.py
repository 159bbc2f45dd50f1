"""The Weight loss against a slow loop over anchors and against pytorch-metric-learning."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from slow_losses import weight

import losses
from losses.orthogonal import orthogonal_penalty

ALPHA, BETA, BASE, MARGIN = 40.0, 2.0, 0.5, 0.1


def slow_loss(embeddings, labels):
    return weight(embeddings, labels.tolist(), ALPHA, BETA, BASE, MARGIN)


def peer_loss(embeddings, labels):
    """Return pytorch-metric-learning's loss. None if each sort of pairs has only one pair: it then returns 0, unlike eq.
    13."""
    pairs = MultiSimilarityMiner(MARGIN)(embeddings, labels)
    if {len(indices) for indices in pairs} == {1}:
        return None
    return MultiSimilarityLoss(alpha=BETA, beta=ALPHA, base=BASE)(embeddings, labels, pairs)


def our_loss(embeddings, labels):
    return losses.create("Weight", alpha=ALPHA, beta=BETA, base=BASE, margin=MARGIN)(embeddings, labels)


def value_and_gradient(function, raw, labels):
    raw = raw.clone().requires_grad_()
    loss = function(torch.nn.functional.normalize(raw), labels)
    loss.backward()
    return loss.item(), raw.grad


def random_batch(classes, per_class, spread, seed, dim=16):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_class)
    centres = torch.randn(classes, dim, generator=generator)
    return centres[labels] + spread * torch.randn(len(labels), dim, generator=generator), labels


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.sampled_from([0.0, 0.05, 0.5, 2.0]), st.integers(0, 1000))
def test_value_and_gradient_equal_the_loop_and_the_peer(classes, per_class, spread, seed):
    raw, labels = random_batch(classes, per_class, spread, seed)
    ours, our_gradient = value_and_gradient(our_loss, raw, labels)
    others = [slow_loss] if peer_loss(torch.nn.functional.normalize(raw), labels) is None else [slow_loss, peer_loss]
    for other in others:
        value, gradient = value_and_gradient(other, raw, labels)
        assert ours == pytest.approx(value, abs=1e-5)
        assert torch.allclose(our_gradient, gradient, atol=1e-5)


def test_no_pair_survives():
    """Two tight classes are far apart, so no pair is mined. The loss is 0 and still back-propagates, as in the other
    library."""
    raw, labels = torch.eye(4)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
    value, gradient = value_and_gradient(our_loss, raw, labels)
    assert value == pytest.approx(peer_loss(raw, labels).item(), abs=1e-7) and value == 0
    assert torch.equal(gradient, torch.zeros_like(raw))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_class_or_no_positives(labels):
    raw = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(our_loss, raw, torch.tensor(labels))
    assert value == 0 and torch.equal(gradient, torch.zeros_like(raw))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=7),
    st.integers(1, 3),
    st.sampled_from(["same", "zero", "signs", "any"]),
    st.integers(0, 1000),
)
def test_any_small_batch_equals_the_loop(labels, dim, kind, seed):
    """Value and gradient are finite also for one image, one class, and embeddings of one number, of length zero, or all
    equal."""
    x = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed))
    x = {"same": x[:1].expand(len(labels), dim), "zero": 0 * x, "signs": x.sign(), "any": x}[kind]
    x, labels = torch.nn.functional.normalize(x), torch.tensor(labels)
    found = []
    for function in (our_loss, slow_loss):
        leaf = x.clone().requires_grad_()
        loss = function(leaf, labels)
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    assert all(value.isfinite().all() for value in found[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_equal_images_are_positives_of_each_other():
    """The original drops positives of similarity 1, because they look like the anchor. Here only the anchor itself is
    left out."""
    raw, labels = torch.tensor([[1.0, 0], [1, 0], [1, 0.1]]), torch.tensor([0, 0, 1])
    assert our_loss(torch.nn.functional.normalize(raw), labels).item() == pytest.approx(
        slow_loss(torch.nn.functional.normalize(raw), labels).item(), abs=1e-5
    )


def test_steep_alpha_does_not_overflow():
    raw, labels = random_batch(3, 3, 0.1, 0)
    loss = losses.create("Weight", alpha=1e4)(torch.nn.functional.normalize(raw), labels)
    assert math.isfinite(loss)


def test_orthogonal_penalty():
    layer = torch.nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    model = torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Linear(2, 1))  # a layer with a single row costs nothing
    assert orthogonal_penalty(model).item() == pytest.approx((11**2 + 11**2) / 4)
    layer.weight.data = torch.eye(2)
    assert orthogonal_penalty(model).item() == 0
