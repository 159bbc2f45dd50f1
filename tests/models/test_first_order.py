"""The head that starts at the closed form's first order."""

import torch
from torch import nn
from torch.nn import functional as F

from models.closed_form import first_order, moments_of
from models.first_order import FirstOrder, roots


def test_roots_are_the_first_order_of_length_one():
    pooled = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(roots(pooled), F.normalize(first_order(pooled), dim=1), atol=2e-2, rtol=0)
    torch.testing.assert_close(roots(1e4 * pooled), roots(pooled))


def test_a_zero_feature_has_a_finite_gradient():
    head = FirstOrder(4, 2)
    nn.init.normal_(head.projection)
    pooled = torch.tensor([[0.0, 1, 2, 0], [0, 0, 0, 0]], requires_grad=True)
    head(roots(pooled)).sum().backward()
    assert pooled.grad.isfinite().all() and head.projection.grad.isfinite().all()


def test_it_starts_at_the_closed_form():
    """The reference is the PCA by hand, with each direction scaled by l^-0.35 (l: its eigenvalue)."""
    rows = F.normalize(torch.randn(200, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    around = rows.double() - rows.double().mean(0)
    values, vectors = torch.linalg.eigh(around.T @ around / 200)
    expected = F.normalize(around @ vectors.flip(1)[:, :3] * values.flip(0)[:3] ** -0.35, dim=1).float()
    head = FirstOrder(6, 3)
    head.start_at(moments_of(rows.split(64), 6))
    found = head(rows)
    torch.testing.assert_close(found @ found.T, expected @ expected.T, atol=1e-4, rtol=1e-3)
