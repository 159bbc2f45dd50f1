"""The first order of the closed form as a head that learns: roots of the pooled features, minus a mean, projected."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.closed_form import Covariance, projection
from models.embedder import full_precision


def roots(pooled: Tensor) -> Tensor:
    """Return square roots of pooled features (m, feature_dim), with their signs: float32 (m, feature_dim) of length one.
    This is the first order of the closed form, with a gradient also at 0."""
    with full_precision(pooled):
        pooled = pooled.float()
        least = 1e-3 * pooled.detach().abs().mean(1, keepdim=True)
        return F.normalize(pooled * (pooled.abs() + least + 1e-12).rsqrt(), dim=1)


class FirstOrder(nn.Module):
    """Projects roots (m, feature_dim), minus their mean, to float32 (m, dim) of length one."""

    mean: Tensor

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.projection = nn.Parameter(torch.zeros(feature_dim, dim))

    def forward(self, rows: Tensor) -> Tensor:
        with full_precision(rows):
            return F.normalize((rows - self.mean) @ self.projection, dim=1, eps=1e-6)

    @torch.no_grad()
    def start_at(self, covariance: Covariance) -> None:
        """Start at the projection that the closed form has for roots with this covariance."""
        size, dim = self.projection.shape
        self.mean.copy_(covariance.mean)
        self.projection.copy_(projection(covariance, torch.ones(size, dtype=torch.float64), dim))
