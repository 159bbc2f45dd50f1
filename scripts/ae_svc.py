"""AE-SVC on frozen features: a baseline of the closed form's table (`closed_form_table.py`). The code is our own.

Autoencoders with strong variance constraints, Omama, Li, Chinchali, ICLR 2025 (arXiv 2410.07022): an autoencoder of the
pooled features, whose latents are pushed to mean 0, variance 1 and covariance 0. The latents are the embedding. The weights
of the loss follow the paper (appendix A.6). Our choices: hidden width, batch, mean and scale of the features, and the
settings that `search` varies.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluations.recall import recall_at_k

RECONSTRUCTION, COVARIANCE, VARIANCE, MEAN = 25.0, 1.0, 15.0, 1.0
HIDDEN = 1024
BATCH = 512
RATES = (1e-3, 1e-4, 3e-5)
EPOCHS = (5, 20, 40)


class Settings(NamedTuple):
    """Settings that the search varies. The defaults are for training without a search."""

    rate: float = 1e-3  # learning rate of Adam
    epochs: int = 30
    covariance: str = "sum"  # the loss takes the "sum" or the "mean" of squared covariances

    def __str__(self) -> str:
        return f"rate {self.rate:g}, {self.epochs} epochs, {self.covariance} of covariances"


def search(features: np.ndarray, labels: np.ndarray, dim: int) -> tuple[Settings, dict[str, float]]:
    """Return the best settings, and the R@1 of all. Trains on every second class and scores on the others.

    features: float32 (n, d) of the training images, L2-normalised. labels: int64 (n,), for the split and the scores only.
    """
    classes = np.unique(labels)
    held_out = np.isin(labels, classes[1::2])
    recalls: dict[Settings, float] = {}
    for rate in RATES:
        for covariance in ("sum", "mean"):
            for epoch, encoder in _epochs(features[~held_out], dim, Settings(rate, max(EPOCHS), covariance)):
                if epoch in EPOCHS:
                    rows = torch.from_numpy(encode(encoder, features[held_out]))
                    recalls[Settings(rate, epoch, covariance)] = recall_at_k(rows, labels[held_out], ks=[1]).at_k[1]
    return max(recalls, key=lambda settings: recalls[settings]), {str(each): share for each, share in recalls.items()}


def train(features: np.ndarray, dim: int, settings: Settings = Settings()) -> nn.Module:
    """Return an encoder, trained on L2-normalised features, float32 (n, d)."""
    *_, (_, encoder) = _epochs(features, dim, settings)
    return encoder


@torch.inference_mode()
def encode(encoder: nn.Module, features: np.ndarray) -> np.ndarray:
    """Return the latents of features (n, d): float32 (n, dim), rows of length 1."""
    return F.normalize(encoder(torch.from_numpy(features)), dim=1).numpy()


def loss(x: Tensor, latent: Tensor, decoded: Tensor, covariance: str) -> Tensor:
    """Return the paper's loss of a batch: features (n, d), latents (n, dim), and the decoded features (n, d)."""
    centred = latent - latent.mean(0)
    matrix = centred.T @ centred / (len(x) - 1)
    variances = matrix.diagonal()
    off_diagonal = matrix.square().sum() - variances.square().sum()
    if covariance == "mean":
        off_diagonal = off_diagonal / (matrix.numel() - len(matrix))
    return (
        RECONSTRUCTION * F.mse_loss(decoded, x)
        + COVARIANCE * off_diagonal
        + VARIANCE * (variances - 1).square().mean()
        + MEAN * latent.mean(0).square().mean()
    )


class Standardise(nn.Module):
    """(features - mean) * factor."""

    def __init__(self, mean: Tensor, factor: float) -> None:
        super().__init__()
        self.mean, self.factor = mean, factor

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.factor


def _epochs(features: np.ndarray, dim: int, settings: Settings) -> Iterator[tuple[int, nn.Module]]:
    """Yield (number, encoder) after each epoch of training; always the same encoder."""
    # One mean and one factor give variance 1: else the reconstruction weighs nothing and training falls apart.
    standardise = Standardise(torch.from_numpy(features.mean(0)), float(features.var(0).mean() ** -0.5))
    x = standardise(torch.from_numpy(features))
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = _layers(x.shape[1], dim), _layers(dim, x.shape[1])
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=settings.rate)
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(x), generator=generator)
        for rows in order.tensor_split(max(1, round(len(x) / BATCH))):
            latent = encoder(x[rows])
            value = loss(x[rows], latent, decoder(latent), settings.covariance)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        yield epoch, nn.Sequential(standardise, encoder)


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    """Return three linear layers with ReLU between them."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )
