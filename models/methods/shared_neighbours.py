"""Shared neighbours: images that have the same neighbours belong together, and training goes as far as it can be followed.

1. Before the first step, the frozen net looks at each image, enlarged where the run's crops are small: it then sees more in
   it (`Embedder.best_width`). The closed form of that places the images. Two with a Jaccard distance of their k-reciprocal
   neighbours (`utils/reciprocal.py`) below `near` are positive, those from `far` on negative, and what lies between is left
   out: no clusters, whose number would have to be known and whose borders are often wrong.
2. A step takes some images, each with a few of its positives, and a contrastive loss of their first-order features. These
   also follow what the frozen net has seen in the enlarged image, which is worth learning of every kind, and so also serves
   those that training never shows.
3. The result lies between the net that came, which knows kinds that training never shows, and the moving average of the one
   that is trained (averages of weights before and after: Wortsman et al. 2022, arXiv 2109.01903): half way, or all the way
   where more of what it says about the images is found again in the first closed form (`utils/learnability.py`). The last
   two epochs look at both. The closed form reads the result out.
"""

import argparse
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.sampler import Draw, PositiveBatches, check_pk
from data.views import Batch
from losses.masked_contrast import masked_contrast
from models.closed_form import moments_of, projection
from models.embedder import Embedder
from models.first_order import FirstOrder, roots
from models.methods.method import Images, Method, move
from utils import flags, reciprocal
from utils.errors import InputError
from utils.learnability import fixed_space, learnability
from utils.spread import evenly

WEIGHTS = (1.0, 1.0, 0.5)  # of the parts of a description: first order, second order of the middle and of the last stage
STEPS = 10  # of an epoch
MOMENTUM = 0.98  # of the moving average
SHARES = (0.5, 1.0)  # of the way to the moving average, which the last epochs look at, one each
JUDGED = 2048  # images at most that the share is chosen by
LISTED = 4  # times k1: neighbours of an image whose distance is kept
BLOCK = 2**14  # descriptions that are projected at once


def blocks(rows: np.ndarray) -> Iterator[Tensor]:
    """The rows of an array, BLOCK at once."""
    return (torch.from_numpy(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))


class SharedNeighbours(Method):
    """The net that is trained, its start and its average, the result between the two, and each image's neighbours."""

    neighbours: Tensor  # int32 (N, LISTED * k1), the neighbours of each image, the nearest first; -1 where there are no more
    distance: Tensor  # float32 (N, LISTED * k1), Jaccard distances, 1 where there is no neighbour
    seen: Tensor  # float16 (N, feature_dim), roots of the enlarged images at the start, zero for unreadable ones; or no rows
    steps: Tensor  # int64, how many there were
    known: Tensor  # float16 (at most JUDGED, dim), the closed form at the start of some images; zero where one is unreadable
    learnable: Tensor  # float64 (2,), learnability at each of SHARES; -1 until it is known

    def __init__(self, embedder: Embedder, images: Images, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        check_pk(settings.batch_size, settings.num_instances)
        if settings.near > settings.far:
            raise InputError(f"{settings.near} is more than far, {settings.far}", setting="near")
        self.true_labels, self.source = images.labels, images.source
        self.later = 0  # epochs that come after the one that is looked for
        embedder.classifier.requires_grad_(False)
        self.head = FirstOrder(embedder.feature_dim, embedder.dim)
        self.enlarges = embedder.best_width > embedder.transforms.width  # asked before there are copies, which then know it
        self.start = copy.deepcopy(embedder).requires_grad_(False)
        self.average, self.result = copy.deepcopy(self.start), copy.deepcopy(self.start)
        seen = torch.zeros(len(images) if self.enlarges else 0, embedder.feature_dim, dtype=torch.float16)
        self.register_buffer("seen", seen, persistent=self.enlarges)
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("neighbours", torch.full((len(images), LISTED * settings.k1), -1, dtype=torch.int32))
        self.register_buffer("distance", torch.ones(self.neighbours.shape))
        self.register_buffer("known", torch.zeros(min(len(images), JUDGED), embedder.dim, dtype=torch.float16))
        self.register_buffer("learnable", torch.full((len(SHARES),), -1.0, dtype=torch.float64))

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "nearest images that tell how far apart two are; about as many as a kind has, if that is fewer"
        add("--k1", type=flags.positive_int, default=30, help=about)
        about = "Jaccard distance below which two images belong together; less where kinds are mixed up"
        add("--near", type=flags.number(float, 0, above=True, most=0.95), default=0.7, help=about)
        about = "Jaccard distance from which on they do not; what lies between the two is left out"
        add("--far", type=flags.number(float, 0, above=True, most=0.95), default=0.9, help=about)
        add("--num_instances", type=flags.positive_int, default=4, help="an image and so many less one of its positives")
        add("--temperature", type=flags.positive_float, default=0.1, help="of the loss; lower looks at hard negatives alone")
        about = (
            "weight of following what the frozen net sees in enlarged images, where crops are under 224 pixels; less for "
        )
        about += "images unlike those that it learned from"
        add("--follow", type=flags.weight, default=5.0, help=about)
        parser.set_defaults(lr=3e-4, epochs=22, readout="closed_form", train_from="middle")

    # ---- pairs -------------------------------------------------------------------------------------------------------

    def looks(self, epoch: int) -> str | None:
        self.later = self.settings.epochs - epoch  # epochs that come after it
        if int(self.neighbours.max()) < 0:
            return "enlarged"
        return None if self.trains(epoch) else "pooled"

    def trains(self, epoch: int) -> bool:
        """Whether it has steps, or only looks at what came of them. Runs of two epochs or less are too short to choose."""
        return self.settings.epochs <= len(SHARES) or epoch <= self.settings.epochs - len(SHARES)

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        if int(self.neighbours.max()) >= 0:
            return self.choose(features, rows)
        form = self.result.closed_form
        assert form is not None
        placed = self.place(features, form.scales(torch.tensor(WEIGHTS[: len(form.sizes)])))
        self.start_heads(features)
        if self.enlarges:
            for first, images in zip(blocks(features[:, : self.embedder.feature_dim]), blocks(rows)):
                self.seen[images] = F.normalize(first, dim=1).to(self.seen)
        sample, there = self.sample(rows)
        self.known[there] = torch.from_numpy(placed[sample]).to(self.known)

        k1 = self.settings.k1
        lists = reciprocal.nearest(placed, k1, self.neighbours.device)
        encoded = reciprocal.encode(placed, lists, k1, max(1, k1 // 5))
        distances = reciprocal.jaccard(encoded, self.settings.far, LISTED * k1)
        near, distance = reciprocal.nearest_first(distances, LISTED * k1)
        named = np.where(near >= 0, rows[near], -1)
        everyone = torch.full(self.neighbours.shape, -1, dtype=torch.int32)
        everyone[torch.from_numpy(rows)] = torch.from_numpy(named.astype(np.int32))
        self.neighbours.copy_(everyone)
        apart = torch.ones(self.distance.shape)
        apart[torch.from_numpy(rows)] = torch.from_numpy(distance)
        self.distance.copy_(apart)

        positive = distance < self.settings.near
        if not positive.any():
            what = f"{self.settings.near}: no two images of {self.source} have that many neighbours in common"
            raise InputError(f"{what}; give a larger one, or a smaller k1", setting="near")
        line = f"seen at {self.embedder.best_width} pixels: {positive.sum() / len(rows):.1f} positives an image, "
        line += f"{positive.any(1).mean():.1%} of {len(rows)} have some"
        if self.true_labels is not None:  # for nothing else
            right = self.true_labels[named] == self.true_labels[rows, None]
            line += f", {right[positive].mean():.1%} of the pairs with the true label"
        return line

    # ---- how far to go -----------------------------------------------------------------------------------------------

    def choose(self, features: np.ndarray, rows: np.ndarray) -> str:
        """Pooled features of the result: how learnable is its share? The next share is its turn then; after the last, the
        best one. A run that is prolonged without a step, or by one look alone, stays at what it has looked at."""
        looked = int((self.learnable >= 0).sum())
        if looked == len(SHARES):
            return "the result stays: there was no step since it was chosen"
        sample, there = self.sample(rows)
        self.learnable[looked] = learnability(fixed_space(features[sample])[0], self.known[there].float().cpu().numpy())
        line = f"learnability {self.learnable[looked]:.4f} at {SHARES[looked]:.0%} of the way"
        if looked + 1 < len(SHARES) and self.later:
            self.go(SHARES[looked + 1])
            return line
        best = SHARES[int(self.learnable.argmax())]
        self.go(best)
        return f"{line}; the result is at {best:.0%}"

    def go(self, share: float) -> None:
        """Have the result at this share of the way from the start to the average."""
        move(self.result, self.start, 1.0)
        move(self.result, self.average, share)

    def sample(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the images that the rows are of those that are judged: places among the rows, and among `known`."""
        images = evenly(len(self.neighbours), len(self.known))
        readable = np.isin(images, rows)
        return np.searchsorted(rows, images[readable]), np.flatnonzero(readable)

    def place(self, features: np.ndarray, scales: Tensor) -> np.ndarray:
        """Descriptions (n, P), and a weight for each number -> their closed form, float32 (n, dim), rows of length one."""
        covariance = moments_of(blocks(features), features.shape[1])
        matrix, mean = projection(covariance, scales.cpu().double(), self.embedder.dim).float(), covariance.mean.float()
        placed = [F.normalize((block - mean) @ matrix, dim=1, eps=1e-6).numpy() for block in blocks(features)]
        return np.concatenate(placed)

    @torch.no_grad()
    def start_heads(self, features: np.ndarray) -> None:
        """The head that is trained starts at the closed form of the first order, the Embedder's own at the PCA."""
        size = self.embedder.feature_dim
        first = (F.normalize(block, dim=1) for block in blocks(features[:, :size]))
        self.head.start_at(moments_of(first, size))
        some = torch.from_numpy(features[:: -(-len(features) // BLOCK), :size])  # lists are often in order of kinds
        for embedder in (self.embedder, self.start, self.average, self.result):
            embedder.start_embedding_at(F.normalize(some.sign() * some.square(), dim=1))

    # ---- a step ------------------------------------------------------------------------------------------------------

    def draws(self, epoch: int) -> Iterable[list[Draw]]:
        if not self.trains(epoch):
            return []
        positives = np.where(self.distance.cpu().numpy() < self.settings.near, self.neighbours.cpu().numpy(), -1)
        settings = self.settings
        return PositiveBatches(positives, settings.batch_size, settings.num_instances, STEPS, settings.seed, epoch)

    def param_groups(self) -> list[dict]:
        return [{"params": list(self.embedder.features.parameters())}, {"params": [self.head.projection]}]

    def train(self, mode: bool = True) -> "SharedNeighbours":
        """As in torch, except that what is not trained stays in evaluation mode."""
        super().train(mode)
        for embedder in (self.start, self.average, self.result):
            embedder.eval()
        return self

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        rows = roots(self.embedder.pool(images))
        return {"embedding": self.head(rows), **({"roots": rows} if self.enlarges else {})}

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        embeddings = out["embedding"]
        distance = self.distances_of(batch.index.to(self.neighbours.device)).to(embeddings.device)
        similarity = embeddings @ embeddings.T
        positive, negative = distance < self.settings.near, distance >= self.settings.far
        positive.fill_diagonal_(False)
        loss = masked_contrast(similarity, positive, negative, self.settings.temperature)
        shown = {"positive": similarity[positive].mean(), "negative": similarity[negative].mean()}
        if self.enlarges:
            seen = self.seen[batch.index.to(self.seen.device)].to(out["roots"])
            shown["followed"] = (out["roots"] * seen).sum(1).mean()
            loss = loss + self.settings.follow * (1 - shown["followed"])
        return loss, {"loss": loss, **{name: value.detach() for name, value in shown.items()}, "lowest": similarity.amin()}

    def distances_of(self, index: Tensor) -> Tensor:
        """Jaccard distances of all pairs of a batch: float32 (m, m), 1 where neither lists the other. index: int64 (m,)."""
        images, place = index.unique(return_inverse=True)
        listed = self.neighbours[index].long()
        column = torch.searchsorted(images, listed).clamp(max=len(images) - 1)
        column[images[column] != listed] = len(images)  # not in the batch
        of_images = torch.ones(len(index), len(images) + 1, device=index.device).scatter_(1, column, self.distance[index])
        one_way = of_images[:, place]
        return torch.minimum(one_way, one_way.T).masked_fill_(index[:, None] == index, 0)

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        self.steps += 1
        keep = min(MOMENTUM, int(self.steps) / (int(self.steps) + 9))  # at first the average is young
        move(self.average, self.embedder, 1 - keep)
        self.learnable.fill_(-1)
        self.go(SHARES[0])

    def trained(self) -> Embedder:
        return self.result
