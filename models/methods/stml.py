"""STML (Kim, Kim, Cho, Kwak 2022, arXiv 2205.01903): a slow copy of the net says how similar images are, without clusters.

A batch holds queries and their nearest neighbours, two views of each. The teacher, a moving average of the net, gives every
pair of views a soft similarity (`losses/stml.py`). Two heads fit their distances to these similarities: g, which is large
and dropped in the end, and f, the embedding, which also learns from g. Details that the paper leaves open follow the
official code (tjddus9597/STML-CVPR22).
"""

import argparse
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from data.lists import ImageList
from data.sampler import Draw
from data.views import Batch
from losses.pairs import similarities
from losses.stml import contextual_similarity, distillation, relative_distances, relaxed_contrastive
from models.embedder import Embedder, full_precision
from models.methods.method import Method, fill, move
from utils import flags
from utils.clustering import reciprocal
from utils.errors import InputError
from utils.features import Look

VIEWS = 2  # of each image in a batch


class STML(Method):
    """Holds the student, the teacher, and each image's nearest neighbours, from which batches are drawn."""

    neighbours: Tensor  # int64 (N, num_neighbours), each image its own first; -1 for unreadable images

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        k = settings.num_neighbours
        self.check(len(images))
        if settings.batch_size % k:
            what = f"{settings.batch_size} is not a multiple of num_neighbours {k}; a batch is queries x {k} images"
            raise InputError(what, setting="batch_size")
        self.head = nn.Linear(embedder.feature_dim, settings.g_dim, bias=False)  # g; a bias would not change a distance
        nn.init.orthogonal_(self.head.weight)
        # With free lengths, f's bias changes no distance: its gradient is rounding error, and Adam would make steps of it.
        embedder.classifier.linear.bias.requires_grad_(settings.student_norm)
        self.teacher, self.teacher_head = copy.deepcopy(embedder), copy.deepcopy(self.head)
        for module in (self.teacher, self.teacher_head):
            module.requires_grad_(False)
        self.register_buffer("neighbours", torch.full((len(images), k), -1))

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "images per query in a step, the query and its nearest; 2 if classes have few images (products)"
        add("--num_neighbours", type=flags.number(int, 2), default=5, help=about)
        add("--up_step", type=flags.positive_int, default=1, help="epochs between searches for neighbours; more saves time")
        about = "pca: the embedding starts at the PCA of the features; better if the frozen net is good already"
        add("--init", choices=("random", "pca"), default="random", help=about)
        add("--g_dim", type=flags.positive_int, default=1024, help="size of g; about the size of the pooled features")
        about = "of the teacher; 0.9 for large sets, or the teacher falls behind"
        add("--momentum", type=flags.number(float, 0, most=1), default=0.999, help=about)
        about = "distance at which images count as similar; less if all images look alike"
        add("--sigma", type=flags.positive_float, default=3, help=about)
        about = "how far dissimilar images are pushed; 1 is the mean distance"
        add("--delta", type=flags.positive_float, default=1, help=about)
        about = f"nearest views in a batch that are compared (default: {VIEWS} x num_neighbours)"
        add("--context_k", type=flags.positive_int, default=None, help=about)
        about = "True: the loss takes embeddings of length one, as tests do; False: of any length, as in the official code"
        add("--student_norm", type=flags.boolean, default=False, help=about)
        add("--head_lr", type=flags.positive_float, default=None, help="learning rate of f and g (default: as --lr)")
        parser.set_defaults(batch_size=120, lr=1e-4, epochs=90)

    def check(self, readable: int) -> None:
        """Raise InputError if there are fewer images than a query needs."""
        if (k := self.settings.num_neighbours) > readable:
            what = f"{k} (a query and its {k - 1} nearest) is more than the {readable} images of {self.source}"
            raise InputError(what, setting="num_neighbours")

    # ---- neighbours --------------------------------------------------------------------------------------------------

    def looks(self, epoch: int) -> Look | None:
        if self.neighbours.max() < 0:
            return Look("pooled")  # the backbone is trained already; the embedding starts at random
        return Look("embedding") if (epoch - 1) % self.settings.up_step == 0 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        self.check(len(rows))
        last = self.neighbours.cpu().numpy()[rows]
        if self.neighbours.max() < 0 and self.settings.init == "pca":
            self.embedder.start_embedding_at(features)
            self.teacher.classifier.load_state_dict(self.embedder.classifier.state_dict())
        new = rows[reciprocal.nearest(features, self.settings.num_neighbours, self.neighbours.device)]
        fill(self.neighbours, rows, new, -1)
        line = f"found the {new.shape[1] - 1} nearest neighbours of {len(rows)} images"
        if last.max() >= 0:
            line += f", {(new[:, :, None] == last[:, None]).any(2)[:, 1:].mean():.1%} as last time"
        if self.true_labels is not None:  # for the log only
            line += f", {(self.true_labels[new[:, 1:]] == self.true_labels[rows, None]).mean():.1%} with the true label"
        return line

    def draws(self, epoch: int) -> "NeighbourBatches":
        return NeighbourBatches(self.neighbours.cpu().numpy(), self.settings.batch_size, self.settings.seed, epoch)

    # ---- a step ------------------------------------------------------------------------------------------------------

    def param_groups(self) -> list[dict]:
        heads = [*self.embedder.classifier.parameters(), *self.head.parameters()]
        lr = self.settings.head_lr or self.settings.lr
        return [{"params": list(self.embedder.features.parameters())}, {"params": heads, "lr": lr}]

    def train(self, mode: bool = True) -> "STML":
        """As in torch, except that the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        pooled = self.embedder.pool(images)  # (m, feature_dim)
        with full_precision(pooled):
            out = {"f": self.embedder.classifier(pooled), "g": self.head(pooled)}  # (m, dim), (m, g_dim)
        with torch.no_grad():
            pooled = self.teacher.pool(images)  # (m, feature_dim)
            with full_precision(pooled):
                out["teacher"] = normalize(self.teacher_head(pooled), dim=1, eps=1e-6)  # (m, g_dim)
        return out

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        settings, f, g = self.settings, out["f"], out["g"]  # f: (m, dim), g: (m, g_dim)
        if settings.student_norm:
            f, g = (normalize(rows, dim=1, eps=1e-6) for rows in (f, g))
        k = settings.context_k or VIEWS * settings.num_neighbours
        similarity = contextual_similarity(out["teacher"], batch.index.to(f.device), settings.sigma, k)  # (m, m)
        of_f, of_g = relative_distances(f), relative_distances(g)  # (m, m) each
        terms = [relaxed_contrastive(relative, similarity, settings.delta) for relative in (of_f, of_g)]
        contrastive, distilled = torch.stack(terms).mean(), distillation(of_f, of_g)
        loss = contrastive + distilled
        with torch.no_grad():
            shown = similarities(normalize(out["f"], dim=1, eps=1e-6), batch.label.to(f.device))
        return loss, {"loss": loss, "contrastive": contrastive, "distillation": distilled, **shown}

    @torch.no_grad()
    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        move(self.teacher, self.embedder, 1 - self.settings.momentum)
        move(self.teacher_head, self.head, 1 - self.settings.momentum)


class NeighbourBatches:
    """The batches of one epoch: queries with their nearest neighbours, two crops of each image.

    neighbours: int64 (N, k), each image its own first; an image whose row is negative is no query.
    batch_size: images of a step, queries x k; an image that is near two queries is drawn twice, with different crops.
    seed, epoch: they decide every draw, together with the neighbours, so that resuming needs no generator's state.

    As in the official code, an epoch has as many steps as the images fill batches, at least one. Queries are drawn at
    random, here at most once per epoch. If a step has room for more queries than there are images, all images are queries.
    """

    def __init__(self, neighbours: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
        self.neighbours, self.batch_size, self.seed, self.epoch = neighbours, batch_size, seed, epoch
        self.readable = np.flatnonzero(neighbours[:, 0] >= 0)

    def __len__(self) -> int:
        return max(1, len(self.readable) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        k = self.neighbours.shape[1]
        size = self.batch_size // k
        order = rng.permutation(self.readable)
        for step in range(len(self)):
            queries = order[step * size :][:size]
            images, seeds = self.neighbours[queries].ravel(), rng.integers(2**62, size=len(queries) * k)
            rows = zip(images.tolist(), queries.repeat(k).tolist(), seeds.tolist())
            yield [Draw(index, query, seed, crop=crop) for index, query, seed in rows for crop in range(VIEWS)]
