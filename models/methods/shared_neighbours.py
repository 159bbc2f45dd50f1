"""Shared neighbours: images that have the same neighbours belong together.

1. Before the first step, the frozen net looks at each image once. If the run's crops are small, they are enlarged, so that
   it sees more (`models/enlarge.py`). A closed form embeds the images. Pairs whose k-reciprocal neighbours have a Jaccard
   distance (`utils/clustering/reciprocal.py`) below `near` are positive, and from `far` on negative. Pairs between are left
   out. There are no clusters: their number would have to be known, and their borders are often wrong.
2. A step takes some images, each with a few of its positives, and a contrastive loss of their first-order features.
3. The moving average of the weights smooths the training. The result lies between the start and this average, by default
   half-way: that keeps most of what training gains, and most of what the net knew before (Wortsman et al. 2022, arXiv
   2109.01903). The closed form reads the result out.
"""

import argparse
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.lists import ImageList
from data.sampler import Draw, PositiveBatches, check_pk
from data.views import Batch
from losses.masked_contrast import masked_contrast
from models.closed_form import moments_of, projection
from models.embedder import Embedder
from models.enlarge import best_width
from models.first_order import FirstOrder, roots
from models.methods.method import Method, fill, move, shift
from utils import flags
from utils.clustering import reciprocal
from utils.errors import InputError
from utils.features import Look

WEIGHTS = (1.0, 1.5, 0.5)  # of a description's parts: first order, second order of the middle and of the last stage
PLACES = 1024  # numbers that place an image; with this many, the result hardly depends on WEIGHTS
STEPS = 10  # steps of an epoch
MOMENTUM = 0.98  # of the moving average
ROWS_AT_ONCE = 2**14  # descriptions that are projected at once


def blocks(rows: np.ndarray) -> Iterator[Tensor]:
    """Yield the rows of an array in blocks of ROWS_AT_ONCE."""
    return (torch.from_numpy(rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE))


class SharedNeighbours(Method):
    """Holds the trained net, its moving average, the result, and for each image its neighbours."""

    of_look = ("neighbours", "distance")
    neighbours: Tensor  # int32 (N, reciprocal.MOST * k1), nearest first; -1 after an image's last neighbour
    distance: Tensor  # float32 (N, reciprocal.MOST * k1), Jaccard distances, 1 where there is no neighbour
    steps: Tensor  # int64, the number of steps made

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        check_pk(settings.batch_size, settings.num_instances)
        if settings.near > settings.far:
            raise InputError(f"{settings.near} is more than far, {settings.far}", setting="near")
        embedder.classifier.requires_grad_(False)
        self.head = FirstOrder(embedder.feature_dim, embedder.dim)
        self.average = copy.deepcopy(embedder.features).requires_grad_(False)
        self.result = copy.deepcopy(embedder).requires_grad_(False)
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("neighbours", torch.full((len(images), reciprocal.MOST * settings.k1), -1, dtype=torch.int32))
        self.register_buffer("distance", torch.ones(self.neighbours.shape))

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "nearest images that decide a distance; about the number of images per class, if that is fewer"
        add("--k1", type=flags.positive_int, default=30, help=about)
        about = "Jaccard distance below which two images belong together; less if classes get mixed up"
        add("--near", type=flags.number(float, 0, above=True, most=0.95), default=0.7, help=about)
        about = "Jaccard distance from which on two images do not belong together; pairs between near and far are left out"
        add("--far", type=flags.number(float, 0, above=True, most=0.95), default=0.9, help=about)
        add("--num_instances", type=flags.positive_int, default=4, help="K: one image plus K - 1 of its positives")
        add("--temperature", type=flags.positive_float, default=0.1, help="of the loss; if lower, only hard negatives count")
        about = (
            "how far the result lies on the way from the start to the moving average, above 0 to 1; less if training harms"
        )
        add("--way", type=flags.number(float, 0, above=True, most=1), default=0.5, help=about)
        parser.set_defaults(lr=3e-4, epochs=20, readout="closed_form", train_from="middle")

    # ---- pairs -------------------------------------------------------------------------------------------------------

    def looks(self, epoch: int) -> Look | None:
        return Look("description", enlarged=best_width(self.result)) if int(self.neighbours.max()) < 0 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        form = self.result.closed_form
        assert form is not None
        self.start_heads(features)

        k1, most, device = self.settings.k1, self.neighbours.shape[1], self.neighbours.device
        scales = form.scales(torch.tensor(WEIGHTS[: len(form.sizes)]))
        weights = reciprocal.weights_of(self.place(features, scales), k1, max(1, k1 // 5), device)  # then forgets the places
        near, distance = reciprocal.nearest_first(reciprocal.jaccard(weights, self.settings.far, most), most)
        named = np.where(near >= 0, rows[near], -1)
        fill(self.neighbours, rows, named, -1)
        fill(self.distance, rows, distance, 1)

        positive = distance < self.settings.near
        if not positive.any():
            what = f"{self.settings.near}: no two images of {self.source} have that many neighbours in common"
            raise InputError(f"{what}; give a larger one, or a smaller k1", setting="near")
        line = f"seen at {best_width(self.embedder)} pixels: {positive.sum() / len(rows):.1f} positives per image, "
        line += f"{positive.any(1).mean():.1%} of {len(rows)} have at least one"
        if self.true_labels is not None:  # for the log only
            right = self.true_labels[named] == self.true_labels[rows, None]
            line += f", {right[positive].mean():.1%} of the pairs with the true label"
        return line

    def place(self, features: np.ndarray, scales: Tensor) -> np.ndarray:
        """Return the closed form, float32 (n, PLACES) of length one, of descriptions (n, P). scales: (P,), weights."""
        covariance = moments_of(blocks(features), features.shape[1])
        matrix, mean = projection(covariance, scales.cpu().double(), PLACES).float(), covariance.mean.float()
        placed = np.empty((len(features), PLACES), np.float32)  # a list of blocks, joined, would take twice the memory
        for start, block in zip(range(0, len(features), ROWS_AT_ONCE), blocks(features)):
            placed[start : start + len(block)] = F.normalize((block - mean) @ matrix, dim=1, eps=1e-6)
        return placed

    @torch.no_grad()
    def start_heads(self, features: np.ndarray) -> None:
        """Start the trained head at the closed form of the first order, and the Embedder's own head at the PCA."""
        size = self.embedder.feature_dim
        first = (F.normalize(block, dim=1) for block in blocks(features[:, :size]))
        self.head.start_at(moments_of(first, size))
        sample = torch.from_numpy(features[:: -(-len(features) // ROWS_AT_ONCE), :size])  # lists are often sorted by class
        for embedder in (self.embedder, self.result):
            embedder.start_embedding_at(F.normalize(sample.sign() * sample.square(), dim=1))

    # ---- a step ------------------------------------------------------------------------------------------------------

    def draws(self, epoch: int) -> Iterable[list[Draw]]:
        positives = np.where(self.distance.cpu().numpy() < self.settings.near, self.neighbours.cpu().numpy(), -1)
        settings = self.settings
        return PositiveBatches(positives, settings.batch_size, settings.num_instances, STEPS, settings.seed, epoch)

    def param_groups(self) -> list[dict]:
        return [{"params": list(self.embedder.features.parameters())}, {"params": [self.head.projection]}]

    def train(self, mode: bool = True) -> "SharedNeighbours":
        """As in torch, except that the average and the result stay in evaluation mode."""
        super().train(mode)
        self.average.eval()
        self.result.eval()
        return self

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"embedding": self.head(roots(self.embedder.pool(images)))}  # (m, dim)

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        embeddings = out["embedding"]  # (m, dim)
        distance = self.distances_of(batch.index.to(self.neighbours.device)).to(embeddings.device)  # (m, m)
        similarity = embeddings @ embeddings.T  # (m, m)
        positive, negative = distance < self.settings.near, distance >= self.settings.far  # (m, m) each
        positive.fill_diagonal_(False)
        loss = masked_contrast(similarity, positive, negative, self.settings.temperature)
        shown = {"positive": similarity[positive].mean(), "negative": similarity[negative].mean()}
        return loss, {"loss": loss, **{name: value.detach() for name, value in shown.items()}, "lowest": similarity.amin()}

    def distances_of(self, index: Tensor) -> Tensor:
        """Return Jaccard distances of all pairs, float32 (m, m); 1 if neither image lists the other. index: int64 (m,)."""
        images, place = index.unique(return_inverse=True)
        listed = self.neighbours[index].long()
        column = torch.searchsorted(images, listed).clamp(max=len(images) - 1)
        column[images[column] != listed] = len(images)  # not in the batch
        of_images = torch.ones(len(index), len(images) + 1, device=index.device).scatter_(1, column, self.distance[index])
        one_way = of_images[:, place]
        return torch.minimum(one_way, one_way.T).masked_fill_(index[:, None] == index, 0)

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        self.steps += 1
        keep = min(MOMENTUM, int(self.steps) / (int(self.steps) + 9))  # a shorter memory for the first steps
        shift(self.result.features, self.average, self.embedder.features, self.settings.way * (1 - keep))
        move(self.average, self.embedder.features, 1 - keep)

    def trained(self) -> Embedder:
        return self.result
