"""The closed form: an embedding from a backbone's features by formulas alone, without labels and without training.

Three parts describe an image; each has length one and is multiplied by a weight:

    first order            sqrt of the pooled features, with their sign
    second order, middle   X: positions x channels of a stage, reduced to r channels; (X^T D X)^(1/2)
    second order, last     the same for the last stage

D is diagonal: the share of each position in the energy of the last stage.

The embedding is their centred PCA, each direction scaled by l^p (l: its eigenvalue of the covariance), then length one.
`models/second_order.py` computes the second order, `models/readout.py` fits the closed form.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.pixels import PIXELS
from models.second_order import energy_shares, second_order
from models.taps import positions
from utils.distributed import Group
from utils.errors import InputError

POWER = -0.35  # exponent of the eigenvalues; -0.5 would whiten, and so amplify noise
REDUCED = 32  # channels of the second order; 64 take three times as long to fit and are no better on held-out classes
LEAST = 1e-6  # eigenvalues below this share of the largest are rounding errors
ROWS_AT_ONCE = 4096  # most rows whose products are summed in float32; sums over blocks are float64


class ClosedForm(nn.Module):
    """Pooled features and maps -> embedding. It holds buffers only, and is linear apart from roots and normalisation.

    reduce.<layer>: float32 (C, r). weights: float32 (parts,). mean: float32 (P,), projection: float32 (P, dim), both for the
    unweighted parts. preferred: bool, True if the Embedder gives the closed form, False if its embedding head. pixels: the
    version of the pixels (data.pixels.PIXELS) that it was fitted to. focused: bool, False if all positions count alike, as
    in closed forms of earlier versions.
    """

    weights: Tensor
    mean: Tensor
    projection: Tensor
    preferred: Tensor
    pixels: Tensor
    focused: Tensor
    is_preferred: bool  # a copy of `preferred` that is read without waiting for the device
    is_focused: bool  # the same of `focused`

    def __init__(self, feature_dim: int, layers: Mapping[str, tuple[int, int]], dim: int, prefix_tokens: int = 0) -> None:
        """feature_dim: width of the pooled features. layers: name of a stage -> (its channels, its reduced channels).
        prefix_tokens: as in `models.taps.positions`."""
        super().__init__()
        self.feature_dim, self.prefix_tokens = feature_dim, prefix_tokens
        self.reduce = nn.Module()
        self.layers = list(layers)
        for place, (name, shape) in enumerate(layers.items()):
            self.reduce.register_buffer(_key(place, name), torch.zeros(shape))
        self.sizes = [feature_dim, *(r * (r + 1) // 2 for _, r in layers.values())]
        self.register_buffer("weights", torch.ones(len(self.sizes)))
        self.register_buffer("mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("projection", torch.zeros(sum(self.sizes), dim))
        self.register_buffer("preferred", torch.tensor(True))
        self.register_buffer("pixels", torch.tensor(PIXELS))
        self.register_buffer("focused", torch.tensor(True))
        self.is_preferred = self.is_focused = True

    @classmethod
    def like(
        cls, tensors: Mapping[str, Tensor], feature_dim: int, channels: Mapping[str, int], dim: int, prefix_tokens: int = 0
    ) -> "ClosedForm":
        """Make an empty closed form with the shapes in a state_dict.

        feature_dim, channels (of each stage), dim: the net's. Raises InputError for tensors of another net, or not finite.
        """
        reduce = {key: value for key, value in tensors.items() if re.match(r"reduce\.\d+/", key) and value.ndim == 2}
        in_order = sorted(reduce, key=lambda key: int(re.findall(r"\d+", key)[0]))
        layers = {_name(key): (reduce[key].shape[0], reduce[key].shape[1]) for key in in_order}
        numbers = feature_dim + sum(r * (r + 1) // 2 for _, r in layers.values())
        projection = tensors.get("projection")
        same_stages = all(channels.get(name) == shape[0] for name, shape in layers.items())
        if projection is None or projection.shape != (numbers, dim) or not same_stages:
            raise InputError("its closed form is of another net, or of another dim")
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise InputError("its closed form is not finite")
        form = cls(feature_dim, layers, dim, prefix_tokens)
        form.pixels.copy_(tensors.get("pixels", torch.tensor(1)))  # without a number it is version 1
        form.focused.copy_(tensors.get("focused", torch.tensor(False)))
        return form

    def prefer(self, preferred: bool) -> None:
        """Choose whether the Embedder gives the closed form (True) or its embedding head (False)."""
        self.preferred.fill_(preferred)
        self.is_preferred = preferred

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.is_preferred, self.is_focused = bool(self.preferred), bool(self.focused)

    @property
    def dim(self) -> int:
        return self.projection.shape[1]

    def describe(self, pooled: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the parts side by side, each of length one, without weights: float32 (N, P).

        pooled: (N, feature_dim). maps: layer -> its output, as in `models.taps.positions`.
        """
        parts, rows = [first_order(pooled)], [positions(maps[name], self.prefix_tokens).float() for name in self.layers]
        for x, directions in zip(rows, self.reduce.buffers()):
            shares = energy_shares(rows[-1], x.shape[1]) if self.is_focused else None
            parts.append(second_order(x @ directions, shares))
        return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)

    def project(self, description: Tensor) -> Tensor:
        """Turn float32 (N, P) from `describe` into embeddings, float32 (N, dim) of length one; the mean becomes zero."""
        return F.normalize((description - self.mean) @ self.projection, dim=1, eps=1e-6)

    def forward(self, pooled: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
        return self.project(self.describe(pooled, maps))

    def scales(self, weights: Tensor) -> Tensor:
        """Repeat the weight of each part for each number of that part: (parts,) -> (P,)."""
        return weights.repeat_interleave(torch.tensor(self.sizes, device=weights.device))


def first_order(pooled: Tensor) -> Tensor:
    """Return the square roots of pooled features (N, C), with their signs."""
    pooled = pooled.float()
    return pooled.sign() * pooled.abs().sqrt()


class Moments:
    """Sums up the mean and covariance of rows that arrive in blocks, without keeping the rows.

    Products are taken around the mean of the first block, so that float32 is enough for them (Chan, Golub, LeVeque 1983).
    """

    def __init__(self, dim: int) -> None:
        self.count, self.dim = 0, dim
        self.sum = torch.zeros(dim, dtype=torch.float64)
        self.products = torch.zeros(dim, dim, dtype=torch.float64)
        self._origin: Tensor | None = None
        self._waiting: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Add rows, float32 (n, dim). Raises InputError if one is not finite."""
        if len(rows):
            self._waiting.append(rows)
        if sum(len(block) for block in self._waiting) >= ROWS_AT_ONCE // 4:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = torch.cat(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting = []
        for block in rows.split(ROWS_AT_ONCE):
            if self._origin is None:
                self._origin = block.mean(0)
            around = block - self._origin
            products = around.T @ around
            if not bool(torch.isfinite(products.diagonal()).all()):
                raise InputError("features are not finite: the weights of the net are damaged, or training has diverged")
            self.sum += around.sum(0, dtype=torch.float32).cpu()
            self.products += products.cpu()
            self.count += len(block)

    def total(self, group: Group = Group()) -> "Covariance":
        """Return the Covariance of the rows of all processes; it is the same in every process."""
        self._flush()
        origin = torch.zeros(self.dim) if self._origin is None else self._origin.cpu()
        mean = origin.double() + self.sum / max(1, self.count)
        (count,) = group.total(self.count)
        scatter = self.products - torch.outer(self.sum, self.sum) / max(1, self.count)
        overall = group.sum(mean * self.count) / max(1, count)
        scatter += self.count * torch.outer(mean - overall, mean - overall)
        return Covariance(count, overall, group.sum(scatter) / max(1, count))


def moments_of(blocks: Iterable[Tensor], dim: int) -> "Covariance":
    """Return the Covariance of all rows in blocks, float32 (n, dim)."""
    moments = Moments(dim)
    for block in blocks:
        moments.add(block)
    return moments.total()


class Covariance(NamedTuple):
    """The number of rows, their mean, float64 (d,), and their covariance matrix, float64 (d, d)."""

    rows: int
    mean: Tensor
    matrix: Tensor


def principal(covariance: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return at most `most` eigenvalues that are not 0, largest first, (k,), and their eigenvectors (d, k)."""
    # LAPACK may fail if a number is 0 in all rows. A shift of the diagonal helps, and shifts all eigenvalues alike.
    shift = 10 * torch.finfo(covariance.dtype).eps * covariance.diagonal().max()
    values, vectors = torch.linalg.eigh(covariance + shift * torch.eye(len(covariance), dtype=covariance.dtype))
    values = values - shift
    values, vectors = values.flip(0)[:most], vectors.flip(1)[:, :most]
    kept = values > LEAST * values[:1].clamp(min=torch.finfo(values.dtype).tiny)
    return values[kept], vectors[:, kept]


def projection(covariance: Covariance, scales: Tensor, dim: int, power: float = POWER) -> Tensor:
    """Return the PCA (d, dim) of rows times `scales`, each direction scaled by its eigenvalue to the `power`.

    Apply it to rows minus the mean: it includes the scales. scales: (d,), a factor for each number; the eigendecomposition
    has its dtype. n rows have n - 1 directions; all further columns are zero.
    """
    scaled = covariance.matrix.to(scales) * scales[:, None] * scales
    values, vectors = principal(scaled, max(0, min(dim, covariance.rows - 1)))
    result = torch.zeros(len(scales), dim, dtype=scales.dtype)
    result[:, : len(values)] = scales[:, None] * vectors * values**power
    return result


def _key(place: int, layer: str) -> str:
    """Name a layer's buffer, without dots and with the layer's place, because a file may not keep the order of layers."""
    return f"{place}/{layer.replace('.', '/')}"


def _name(key: str) -> str:
    """Return the layer that a buffer's key in a state_dict stands for."""
    return key.partition("/")[2].replace("/", ".")
