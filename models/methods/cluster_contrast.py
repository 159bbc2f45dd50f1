"""Cluster Contrast (Dai et al. 2021, arXiv 2103.11568): DBSCAN pseudo-labels, and a memory that holds a vector per cluster.

Before each epoch DBSCAN clusters the features of all images by their shared neighbours (`utils/clustering/reciprocal.py`)
and leaves out outliers. Each image of a batch learns to find its cluster's vector among all vectors; this vector then moves
towards the image. Details that the paper leaves open follow the official code (alibaba/cluster-contrast-reid).
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
    """Learns from labels by DBSCAN or k-means, and holds the cluster memory, whose length is the number of clusters."""

    labels: Tensor  # int64 (N,), the cluster of each image; -1 for outliers and unreadable images
    memory: Tensor  # float32 (clusters, dim), rows of length 1

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        check_pk(settings.batch_size, settings.num_instances, metric=False)  # a lone image has its cluster as positive
        if settings.grouping == "kmeans" and not 2 <= settings.num_clusters <= len(images):
            what = f"{settings.num_clusters} is not between 2 and the {len(images)} images of {images.source}"
            raise InputError(what, setting="num_clusters")
        if settings.k2 > settings.k1:
            raise InputError(f"{settings.k2} is more than k1, {settings.k1}", setting="k2")
        self.register_buffer("labels", torch.full((len(images),), -1))
        self.memory = torch.empty(0, embedder.dim)

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "dbscan finds the number of clusters and leaves out outliers; kmeans if dbscan leaves out too many images"
        add("--grouping", choices=("dbscan", "kmeans"), default="dbscan", help=about)
        about = "kmeans: about the number of classes you expect, or a few times more; too few merge similar classes"
        add("--num_clusters", type=flags.positive_int, default=100, help=about)
        about = "dbscan: largest distance between neighbours, below 1; 0.5 or 0.4 if clusters merge classes"
        add("--eps", type=flags.number(float, 0, above=True, most=0.99), default=0.6, help=about)
        about = "dbscan: neighbours, itself included, that an image needs to start a cluster; fewer if classes are small"
        add("--min_samples", type=flags.positive_int, default=4, help=about)
        about = "dbscan: nearest images that decide a distance; about the number of images per class, if that is fewer"
        add("--k1", type=flags.positive_int, default=30, help=about)
        about = "dbscan: nearest images to average each image with; fewer if classes are small, or to get more outliers"
        add("--k2", type=flags.positive_int, default=6, help=about)
        about = "epochs between clusterings; more if epochs are short: the original makes 200 to 400 steps between two"
        add("--up_step", type=flags.positive_int, default=1, help=about)
        about = "pca: the embedding starts at the PCA of the features; better if the frozen net is good already"
        add("--init", choices=("random", "pca"), default="random", help=about)
        about = "K: images of each cluster in a step; more for large clusters (the original: 16 in a batch of 256)"
        add("--num_instances", type=flags.positive_int, default=5, help=about)
        about = "softmax temperature; higher if many images are in a wrong cluster, lower for finer differences"
        add("--temperature", type=flags.positive_float, default=0.05, help=about)
        about = "share of a cluster's vector that stays at each image; nearer to 1 if clusters hold several classes"
        add("--momentum", type=flags.number(float, 0, most=1), default=0.1, help=about)
        parser.set_defaults(lr=1e-4)

    # ---- clusters ----------------------------------------------------------------------------------------------------

    def looks(self, epoch: int) -> Look | None:
        if self.labels.max() < 0:
            return Look("pooled")  # the backbone is trained already; the embedding starts at random
        return Look("embedding") if (epoch - 1) % self.settings.up_step == 0 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        first = bool(self.labels.max() < 0)
        if first and self.settings.init == "pca":
            self.embedder.start_embedding_at(features)
        last = None if first else self.labels.cpu().numpy()[rows]
        clusters = self.group(features, last)
        inside = np.flatnonzero(clusters.labels >= 0)
        k = int(clusters.labels.max()) + 1

        fill(self.labels, rows, clusters.labels, -1)
        means = kmeans.cluster_means(self.project(features) if first else features, clusters.labels, k)  # (k, dim)
        self.memory = normalize(torch.from_numpy(means)).to(self.labels.device)

        true_labels = None if self.true_labels is None else self.true_labels[rows][inside]
        last = None if last is None else last[inside]
        about = kmeans.describe(clusters._replace(labels=clusters.labels[inside]), k, last, true_labels)
        if self.settings.grouping == "kmeans":
            return f"clustered {len(rows)} images into {k}: {about}"
        return f"{k} clusters of {len(inside)} images: {about}; outliers: {len(rows) - len(inside)} other images"

    def group(self, features: np.ndarray, last: np.ndarray | None) -> kmeans.Clusters:
        """Cluster float32 (n, d) features. Returns labels, int64 (n,): 0 to k - 1 with k at least 2, and -1 for outliers.

        last: int64 (n,), the previous labels, which stay if DBSCAN finds fewer than two clusters; InputError if None then.
        """
        settings = self.settings
        if settings.grouping == "kmeans":
            warm = None if last is None or last.max() >= settings.num_clusters else last  # resumed with fewer clusters
            clusters = kmeans.kmeans(features, settings.num_clusters, warm, settings.seed)
            health.watch_clusters(clusters.labels, settings.num_clusters)
            return clusters
        numbers = (settings.k1, settings.k2, settings.eps, settings.min_samples)
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
        """Return the previous labels, int64 (n,), renumbered, and warn. `labels` (n,) have fewer than two clusters."""
        kept = np.full_like(labels, -1)
        if last is not None:
            kept[last >= 0] = np.unique(last[last >= 0], return_inverse=True)[1]
        result, remedy = "one cluster alone", "a smaller one, or a smaller k1"
        if labels.max() < 0:
            result, remedy = "no cluster", "a larger one, or a smaller min_samples"
        what = f"{self.settings.eps}: DBSCAN finds {result} in {len(labels)} images"
        if kept.max() < 1:
            raise InputError(f"{what}, so there is nothing to tell apart; give {remedy}, or group by kmeans", setting="eps")
        log.warn(f"warning: --eps {what}; the previous clusters stay. Give {remedy}")
        return kept

    @torch.no_grad()
    def project(self, features: np.ndarray) -> np.ndarray:
        """Apply the present embedding head to pooled features (n, feature_dim) of length 1: float32 (n, dim).

        The features' own lengths would not matter: the bias starts at 0.
        """
        blocks = (torch.from_numpy(features[i : i + FEATURES_AT_ONCE]) for i in range(0, len(features), FEATURES_AT_ONCE))
        return np.concatenate([self.embedder.project(block.to(self.labels.device)).cpu().numpy() for block in blocks])

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the memory. It is not a buffer, because a buffer cannot change its length from checkpoint to checkpoint."""
        return {"memory": self.memory.cpu()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"].to(self.labels.device, copy=True)

    # ---- a step ------------------------------------------------------------------------------------------------------

    def draws(self, epoch: int) -> PKBatches:
        settings = self.settings
        labels = self.labels.cpu().numpy()
        return PKBatches(labels, settings.batch_size, settings.num_instances, self.views, settings.seed, epoch)

    def views(self, picks: list[Pick]) -> list[Draw]:
        return [Draw(pick.index, pick.label, pick.seed) for pick in picks]

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"embedding": self.embedder.project(self.embedder.pool(images))}  # (m, dim)

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of each image's own cluster among all, by similarity to the clusters' vectors."""
        embeddings = out["embedding"]  # (m, dim)
        labels = batch.label.to(embeddings.device)  # (m,)
        loss = cross_entropy(embeddings @ self.memory.to(embeddings).T / self.settings.temperature, labels)  # (m, clusters)
        return loss, {"loss": loss, **similarities(embeddings, labels)}

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        """Move the memory by the images of the batch, one after another, in a random order.

        The order depends only on the seed and the batch's content, because several processes deliver rows in another order.
        """
        embeddings = out["embedding"].detach()
        by_image = np.lexsort((embeddings[:, 0].cpu().numpy(), batch.index.numpy()))  # two views of an image differ
        rng = np.random.default_rng([self.settings.seed, *batch.index.numpy()[by_image]])
        order = torch.from_numpy(rng.permutation(by_image))
        labels = batch.label[order].to(self.memory.device)
        update_memory(self.memory, embeddings[order.to(embeddings.device)].to(self.memory), labels, self.settings.momentum)


def update_memory(memory: Tensor, embeddings: Tensor, labels: Tensor, momentum: float) -> None:
    """Set memory[y] to momentum * memory[y] + (1 - momentum) * x, scaled to length 1, for each row x with label y in turn.

    memory: (clusters, dim), changed in place. embeddings: (m, dim). labels: int64 (m,).

    Rows go one by one, as in the official code (clustercontrast/models/cm.py). Clusters are independent, so the first rows
    of all clusters go at once, then the second rows, ...
    """
    order = labels.argsort(stable=True)
    counts = labels[order].unique_consecutive(return_counts=True)[1]
    turns = torch.arange(len(order), device=labels.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    for turn in range(int(counts.max())):
        rows = order[turns == turn]
        cluster = labels[rows]
        memory[cluster] = normalize(momentum * memory[cluster] + (1 - momentum) * embeddings[rows])
