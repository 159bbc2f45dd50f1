"""The contrastive loss over masks of pairs: against loops over pairs, and against another library if masks come from
labels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from pytorch_metric_learning.losses import SupConLoss

from losses.masked_contrast import masked_contrast


def pairs(count, seed):
    """Return similarities of random rows and masks of random pairs, float64."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kind = rng.integers(3, size=(count, count))
    np.fill_diagonal(kind, 2)
    return torch.from_numpy(rows @ rows.T), torch.from_numpy(kind == 0), torch.from_numpy(kind == 1)


def slow(similarity, positive, negative, temperature):
    losses = []
    for i in range(len(similarity)):
        own = [j for j in range(len(similarity)) if positive[i, j]]
        seen = [j for j in range(len(similarity)) if positive[i, j] or negative[i, j]]
        if own:
            total = sum(math.exp(float(similarity[i, j]) / temperature) for j in seen)
            losses.append(-sum(math.log(math.exp(float(similarity[i, j]) / temperature) / total) for j in own) / len(own))
    return sum(losses) / len(losses) if losses else 0.0


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 100), st.sampled_from([0.05, 0.1, 1.0]))
def test_it_is_the_slow_version(count, seed, temperature):
    similarity, positive, negative = pairs(count, seed)
    found = masked_contrast(similarity, positive, negative, temperature)
    assert float(found) == pytest.approx(slow(similarity, positive, negative, temperature), rel=1e-9, abs=1e-12)


def test_with_labels_it_is_the_supervised_contrastive_loss():
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(12, 6))
    labels = torch.arange(12) % 4
    positive = labels[:, None] == labels
    negative = ~positive
    positive.fill_diagonal_(False)
    found = masked_contrast(rows @ rows.T, positive, negative, 0.1)
    torch.testing.assert_close(found, SupConLoss(temperature=0.1)(rows, labels), rtol=1e-5, atol=1e-6)


def test_pairs_of_neither_kind_have_no_part():
    similarity, positive, negative = pairs(8, 3)
    similarity.requires_grad_()
    masked_contrast(similarity, positive, negative, 0.1).backward()
    neither = ~(positive | negative)
    assert not similarity.grad[neither].any() and similarity.grad[positive].all()


def test_without_positives_it_is_zero_and_back_propagates():
    similarity = torch.zeros(3, 3, requires_grad=True)
    none = torch.zeros(3, 3, dtype=torch.bool)
    loss = masked_contrast(similarity, none, ~none, 0.1)
    loss.backward()
    assert float(loss) == 0 and torch.equal(similarity.grad, torch.zeros(3, 3))
