"""Cluster Contrast (Dai et al. 2021, arXiv 2103.11568): DBSCAN pseudo-labels, and a memory that holds one vector a cluster.

Before each epoch DBSCAN groups the features of all images by their shared neighbours (`utils/clustering/reciprocal.py`);
images that belong nowhere are left out. Each image of a batch learns to find its cluster among the vectors of all of them,
which then move towards it. What the paper leaves open is as in the official code (alibaba/cluster-contrast-reid).
"""

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from data.lists import ImageList
from data.sampler import Draw, Pick, PKBatches, check_pk
from data.views import Batch
from losses.pairs import similarities
from models.embedder import Embedder
from models.methods.method import Method, fill
from utils import flags, health, log
from utils.clustering import kmeans, reciprocal
from utils.errors import InputError
from utils.features import Look

FEATURES_AT_ONCE = 2**16  # features that the embedding head takes at once


class ClusterContrast(Method):
    """Labels by DBSCAN or k-means, and the cluster memory, whose length changes with the number of clusters."""

    labels: Tensor  # int64 (N,), the cluster of each image; -1 for outliers and unreadable images
    memory: Tensor  # float32 (clusters, dim), rows of length 1

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        check_pk(settings.batch_size, settings.num_instances, metric=False)  # one image has a positive too: its cluster
        if settings.grouping == "kmeans" and not 2 <= settings.num_clusters <= len(images):
            what = f"{settings.num_clusters} is not within 2 and the {len(images)} images of {images.source}"
            raise InputError(what, setting="num_clusters")
        if settings.k2 > settings.k1:
            raise InputError(f"{settings.k2} is more than k1, {settings.k1}", setting="k2")
        self.register_buffer("labels", torch.full((len(images),), -1))
        self.memory = torch.empty(0, embedder.dim)

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "dbscan finds the number of clusters, and outliers, which are left out; kmeans where it leaves out too many"
        add("--grouping", choices=("dbscan", "kmeans"), default="dbscan", help=about)
        about = "of kmeans: about the number of kinds you expect, or a few times more; too few merge look-alikes"
        add("--num_clusters", type=flags.positive_int, default=100, help=about)
        about = "of dbscan: distance up to which images are neighbours, below 1; 0.5 or 0.4 where clusters merge kinds"
        add("--eps", type=flags.number(float, 0, above=True, most=0.99), default=0.6, help=about)
        about = "of dbscan: neighbours, itself included, by which an image begins a cluster; fewer for kinds of few images"
        add("--min_samples", type=flags.positive_int, default=4, help=about)
        about = "of dbscan: nearest images that tell how far apart two are; about as many as a kind has, if that is fewer"
        add("--k1", type=flags.positive_int, default=30, help=about)
        about = "of dbscan: nearest images that each is averaged with; fewer for kinds of few images, or more outliers"
        add("--k2", type=flags.positive_int, default=6, help=about)
        about = "epochs between groupings; more where epochs are short: the original makes 200 to 400 steps between two"
        add("--up_step", type=flags.positive_int, default=1, help=about)
        about = "pca: the embedding starts at the PCA of the features; better where the frozen net is good already"
        add("--init", choices=("random", "pca"), default="random", help=about)
        about = "K, images of each cluster in a step; more for large clusters (the original: 16 in a batch of 256)"
        add("--num_instances", type=flags.positive_int, default=5, help=about)
        about = "of the softmax over clusters; higher where many images are in a wrong one, lower for finer differences"
        add("--temperature", type=flags.positive_float, default=0.05, help=about)
        about = "how much of a cluster's vector stays when it meets an image; nearer to 1 where clusters hold several kinds"
        add("--momentum", type=flags.number(float, 0, most=1), default=0.1, help=about)
        parser.set_defaults(lr=1e-4)

    # ---- clusters ----------------------------------------------------------------------------------------------------

    def looks(self, epoch: int) -> Look | None:
        if self.labels.max() < 0:
            return Look("pooled")  # what the backbone knows already; the embedding starts at random
        return Look("embedding") if (epoch - 1) % self.settings.up_step == 0 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        first = bool(self.labels.max() < 0)
        if first and self.settings.init == "pca":
            self.embedder.start_embedding_at(features)
        last = None if first else self.labels.cpu().numpy()[rows]
        found = self.group(features, last)
        inside = np.flatnonzero(found.labels >= 0)
        k = int(found.labels.max()) + 1

        fill(self.labels, rows, found.labels, -1)
        means = kmeans.cluster_means(self.project(features) if first else features, found.labels, k)
        self.memory = normalize(torch.from_numpy(means)).to(self.labels.device)

        true_labels = None if self.true_labels is None else self.true_labels[rows][inside]
        last = None if last is None else last[inside]
        about = kmeans.describe(found._replace(labels=found.labels[inside]), k, last, true_labels)
        if self.settings.grouping == "kmeans":
            return f"clustered {len(rows)} images into {k}: {about}"
        return f"{k} clusters of {len(inside)} images: {about}; outliers: {len(rows) - len(inside)} other images"

    def group(self, features: np.ndarray, last: np.ndarray | None) -> kmeans.Clusters:
        """Clusters of float32 (n, d) features: labels int64 (n,), 0 to k - 1 for k of two or more, and -1 for outliers.

        last: int64 (n,), the labels so far, which stay where DBSCAN finds less than two clusters; InputError without.
        """
        chosen = self.settings
        if chosen.grouping == "kmeans":
            warm = None if last is None or last.max() >= chosen.num_clusters else last  # resumed with fewer clusters
            found = kmeans.kmeans(features, chosen.num_clusters, warm, chosen.seed)
            health.watch_clusters(found.labels, chosen.num_clusters)
            return found
        numbers = (chosen.k1, chosen.k2, chosen.eps, chosen.min_samples)
        labels = reciprocal.groups(features, *numbers, device=self.labels.device)
        if labels.max() < 1:
            labels = self.last_instead(labels, last)
        sizes = np.bincount(labels[labels >= 0])
        if (share := sizes.max() / sizes.sum()) > health.GIANT and len(sizes) > 2:
            log.warn(f"warning: one cluster holds {share:.0%} of the images in clusters; lower --eps or --k1")
        means = kmeans.cluster_means(features, labels, len(sizes))
        spread = sizes.sum() - sizes @ np.square(means, dtype=np.float64).sum(1)  # rows have length 1
        return kmeans.Clusters(labels, float(spread))

    def last_instead(self, labels: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        """The last labels, int64 (n,), numbered anew, with a warning. `labels` (n,) have less than two clusters."""
        kept = np.full_like(labels, -1)
        if last is not None:
            kept[last >= 0] = np.unique(last[last >= 0], return_inverse=True)[1]
        found, remedy = "one cluster alone", "a smaller one, or a smaller k1"
        if labels.max() < 0:
            found, remedy = "no cluster", "a larger one, or a smaller min_samples"
        what = f"{self.settings.eps}: DBSCAN finds {found} in {len(labels)} images"
        if kept.max() < 1:
            raise InputError(f"{what}, so there is nothing to tell apart; give {remedy}, or group by kmeans", setting="eps")
        log.warn(f"warning: --eps {what}; the clusters that they were in before stay. Give {remedy}")
        return kept

    @torch.no_grad()
    def project(self, features: np.ndarray) -> np.ndarray:
        """Pooled features (n, feature_dim) of length 1 -> what the embedding head makes of them now, float32 (n, dim).

        Their lengths, which they have lost, would not matter: the bias starts at 0.
        """
        blocks = (torch.from_numpy(features[i : i + FEATURES_AT_ONCE]) for i in range(0, len(features), FEATURES_AT_ONCE))
        return np.concatenate([self.embedder.project(block.to(self.labels.device)).cpu().numpy() for block in blocks])

    def get_extra_state(self) -> dict[str, Tensor]:
        """The memory: a buffer's length could not change from one checkpoint to the next."""
        return {"memory": self.memory.cpu()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"].to(self.labels.device, copy=True)

    # ---- a step ------------------------------------------------------------------------------------------------------

    def draws(self, epoch: int) -> PKBatches:
        chosen = self.settings
        labels = self.labels.cpu().numpy()
        return PKBatches(labels, chosen.batch_size, chosen.num_instances, self.views, chosen.seed, epoch)

    def views(self, picks: list[Pick]) -> list[Draw]:
        return [Draw(pick.index, pick.label, pick.seed) for pick in picks]

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"embedding": self.embedder.project(self.embedder.pool(images))}

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy of finding the own cluster among all, by similarity to their vectors."""
        embeddings = out["embedding"]
        labels = batch.label.to(embeddings.device)
        loss = cross_entropy(embeddings @ self.memory.to(embeddings).T / self.settings.temperature, labels)
        return loss, {"loss": loss, **similarities(embeddings, labels)}

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        """The images of a batch move the memory one after another, in an order that is drawn anew.

        It comes from the seed and what the batch holds: rows arrive in another order where several processes share them.
        """
        embeddings = out["embedding"].detach()
        by_image = np.lexsort((embeddings[:, 0].cpu().numpy(), batch.index.numpy()))  # two views of an image differ
        rng = np.random.default_rng([self.settings.seed, *batch.index.numpy()[by_image]])
        order = torch.from_numpy(rng.permutation(by_image))
        labels = batch.label[order].to(self.memory.device)
        update_memory(self.memory, embeddings[order.to(embeddings.device)].to(self.memory), labels, self.settings.momentum)


def update_memory(memory: Tensor, embeddings: Tensor, labels: Tensor, momentum: float) -> None:
    """For each row x of embeddings (m, dim), one after another, memory[y] becomes momentum * memory[y] + (1 - momentum) * x,
    then scaled to length 1; y is its label, of int64 (m,). memory: (clusters, dim), changed in place.

    Image by image, as in the official code (clustercontrast/models/cm.py). Clusters do not depend on each other: the first
    images of all are taken at once, then the second ones, ...
    """
    order = labels.argsort(stable=True)
    counts = labels[order].unique_consecutive(return_counts=True)[1]
    turns = torch.arange(len(order), device=labels.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    for turn in range(int(counts.max())):
        rows = order[turns == turn]
        cluster = labels[rows]
        memory[cluster] = normalize(momentum * memory[cluster] + (1 - momentum) * embeddings[rows])
