"""UDML-SS (Cao, Chen, Lim 2019, arXiv 1911.07072): k-means pseudo-labels, a metric loss, and a rotation loss.

Every few epochs k-means clusters the features of all images. The clusters are labels for P x K batches of a metric loss;
some images of each batch also come in four rotations, which a second head tells apart (Gidaris et al. 2018, arXiv
1803.07728).
"""

import argparse
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import losses
from data.lists import ImageList
from data.sampler import Draw, Pick, PKBatches, check_pk
from data.views import Batch
from losses.orthogonal import orthogonal_penalty
from losses.pairs import similarities
from models.embedder import Embedder, full_precision
from models.methods.method import Method, fill
from utils import flags, health
from utils.clustering import kmeans
from utils.clustering.choose_k import choose_k
from utils.errors import InputError
from utils.features import Look

ROTATIONS = 4


class RotationHead(nn.Sequential):
    """Pooled features (m, feature_dim) -> float32 (m, 4), logits for 0, 90, 180 and 270 degrees.

    The original has a ReLU after the last layer. It would cut the gradient of negative logits, so it is left out here.
    """

    def __init__(self, feature_dim: int) -> None:
        first, last = nn.Linear(feature_dim, 512), nn.Linear(512, ROTATIONS)
        super().__init__(first, nn.ReLU(inplace=True), last)
        nn.init.zeros_(first.bias)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            return super().forward(features.float())


class UDMLSS(Method):
    """Learns a metric loss from labels by k-means, and a rotation loss."""

    metric = True  # whether it trains the metric loss
    labels: Tensor  # int64 (N,), the cluster of each image; -1 for unreadable images

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder, images, settings)
        self.rotated = settings.rot_batch if settings.self_supervision_rot else 0
        check_pk(settings.batch_size, settings.num_instances, self.rotated, self.metric)
        self.check(images)
        self.rotation_head = RotationHead(embedder.feature_dim) if self.rotated else None
        self.metric_loss = losses.create(
            settings.loss,
            dim=embedder.dim,
            num_classes=self.num_classes(images),
            alpha=settings.alpha,
            beta=settings.beta,
            base=settings.loss_base,
            margin=settings.margin,
        )
        embedder.classifier.requires_grad_(self.metric)
        self.metric_loss.requires_grad_(self.metric)
        self.register_buffer("labels", self.first_labels(images))

    @staticmethod
    def flags(parser: Any) -> None:
        add = parser.add_argument
        about = "about the number of classes you expect, or a few times more; too few merge similar classes; auto: the "
        about += "number on which two halves of the images agree best, at most 2,048"
        add("--num_clusters", type=flags.number_or_auto, default=100, help=about)
        add("--up_step", type=flags.positive_int, default=5, help="epochs between clusterings; more for a slow start")
        add("--spherical", type=flags.boolean, default=False, help="k-means with centroids of length 1: clusters by cosine")
        about = "pca: the embedding starts at the PCA of the features; better if the frozen net is good already"
        add("--init", choices=("random", "pca"), default="random", help=about)
        add("--loss", default="Weight", help=f"metric loss: {', '.join(losses.names())}")
        about = "K: images of each cluster in a step; fewer give more clusters and harder negatives"
        add("--num_instances", type=flags.positive_int, default=5, help=about)
        add("--alpha", type=flags.positive_float, default=40, help="Weight: steepness for negative pairs")
        add("--beta", type=flags.positive_float, default=2, help="Weight: steepness for positive pairs")
        add("--loss_base", type=float, default=0.5, help="Weight: similarity at which a pair weighs half")
        add("--margin", type=float, default=0.1, help="Weight: margin of its mining; smaller: only harder pairs")
        add("--orth_reg", type=flags.weight, default=0, help="weight of the orthogonal regularisation of the linear layers")
        about = "weight of the rotation loss; 0 if images have no upright side (satellite, microscope)"
        add("--self_supervision_rot", type=flags.weight, default=0.1, help=about)
        add("--rot_batch", type=flags.natural, default=16, help="images of a step that also come in four rotations")
        about = "1: rotate, then crop each copy by itself; 0: rotate one crop"
        add("--rot_bt", type=flags.boolean, default=True, help=about)
        add("--rot_lr", type=flags.positive_float, default=1e-5, help="learning rate of the rotation head; as --lr")

    # ---- labels ------------------------------------------------------------------------------------------------------

    def check(self, images: ImageList) -> None:
        """Raise InputError for images that the settings do not fit."""
        if self.settings.num_clusters == "auto":
            if self.settings.loss in losses.OF_CLASSES:
                what = f"auto: --loss {self.settings.loss} learns parameters for each cluster and must know their number"
                raise InputError(what, setting="num_clusters")
        elif self.settings.num_clusters > len(images):
            what = f"{self.settings.num_clusters} is more than the {len(images)} images of {images.source}"
            remedy = "give about the number of classes you expect, or auto, which finds it"
            raise InputError(f"{what}; {remedy}", setting="num_clusters")

    def num_classes(self, images: ImageList) -> int:
        return 0 if self.settings.num_clusters == "auto" else self.settings.num_clusters

    def first_labels(self, images: ImageList) -> Tensor:
        """Return the labels at the start, int64 (N,); -1 for all images until the first clustering."""
        return torch.full((len(images),), -1)

    def looks(self, epoch: int) -> Look | None:
        if self.labels.max() < 0:
            return Look("pooled")  # the backbone is trained already; the embedding starts at random
        return Look("embedding") if (epoch - 1) % self.settings.up_step == 0 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        last, k = None, self.settings.num_clusters
        if k == "auto":  # chosen once: later clusterings start from the previous one
            k = int(self.labels.max()) + 1 or choose_k(features, self.settings.seed)
            if k < 2:
                what = f"auto: no number of clusters beats one cluster of all {len(features)} images"
                raise InputError(f"{what}; give a number", setting="num_clusters")
        if self.labels.max() >= 0:
            last = self.labels.cpu().numpy()[rows]
            last = None if last.max() >= k else last  # resumed with fewer clusters
        elif self.settings.init == "pca":
            self.embedder.start_embedding_at(features)
        clusters = kmeans.kmeans(features, k, last, self.settings.seed, self.settings.spherical)
        health.watch_clusters(clusters.labels, k)
        fill(self.labels, rows, clusters.labels, -1)
        true_labels = None if self.true_labels is None else self.true_labels[rows]
        return f"clustered {len(rows)} images into {k}: {kmeans.describe(clusters, k, last, true_labels)}"

    # ---- batches -----------------------------------------------------------------------------------------------------

    def draws(self, epoch: int) -> Iterable[list[Draw]]:
        labels, settings = self.labels.cpu().numpy(), self.settings
        return PKBatches(labels, settings.batch_size, settings.num_instances, self.views, settings.seed, epoch, self.rotated)

    def views(self, picks: list[Pick]) -> list[Draw]:
        """Return a metric view of each image, then four rotations of the images with `rotate`. With --rot_bt 1 each rotation
        has its own crop. With --rot_bt 0 all have one crop, and the metric view is its copy at 0 degrees."""
        own_crops = self.settings.rot_bt
        turned_metric = self.metric and not own_crops  # the metric view serves as the copy at 0 degrees
        rows = []
        for pick in picks if self.metric else ():
            turn = 0 if turned_metric and pick.rotate else -1
            rows.append(Draw(pick.index, pick.label, pick.seed, turn=turn))
        for pick in picks:
            for turn in range(turned_metric, ROTATIONS) if pick.rotate else ():
                crop = turn + self.metric if own_crops else 0
                rows.append(Draw(pick.index, pick.label, pick.seed, metric=False, turn=turn, crop=crop))
        return rows

    # ---- a step ------------------------------------------------------------------------------------------------------

    def param_groups(self) -> list[dict]:
        embedder = self.embedder
        groups: list[dict] = [{"params": list(part.parameters())} for part in (embedder.features, embedder.classifier)]
        if self.rotation_head is not None:
            groups.append({"params": list(self.rotation_head.parameters()), "lr": self.settings.rot_lr})
        # Proxies learn at the rate of Kim et al. 2020 (arXiv 2003.13911). Unlike theirs, they do not decay.
        if own := list(self.metric_loss.parameters()):
            groups.append({"params": own, "lr": 100 * self.settings.lr, "weight_decay": 0.0})
        return groups

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        if self.embedder.freeze_bn or batch.metric.all() or not batch.metric.any():
            features = self.embedder.pool(images)  # (m, feature_dim), one pass for all views
        else:  # rotated copies would disturb the batch statistics of the metric views
            parts = [torch.nonzero(mask)[:, 0] for mask in (batch.metric, ~batch.metric)]
            features = torch.cat([self.embedder.pool(images[rows]) for rows in parts])[torch.cat(parts).argsort()]
        out = {"embedding": self.embedder.project(features)}  # (m, dim)
        if self.rotation_head is not None:
            out["rotation"] = self.rotation_head(features)  # (m, 4)
        return out

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = 0 * torch.stack([rows.sum() for rows in out.values()]).sum()  # a gradient for both heads, in every process
        shown: dict[str, Tensor] = {}
        device = out["embedding"].device
        if batch.metric.any():
            embeddings, labels = out["embedding"][batch.metric], batch.label[batch.metric].to(device)  # (n, dim), (n,)
            metric_loss = self.metric_loss(embeddings, labels)
            loss = loss + metric_loss
            shown.update(loss=metric_loss, **similarities(embeddings, labels))
        rotated = batch.turn >= 0
        if self.rotation_head is not None and rotated.any():
            logits, quarters = out["rotation"][rotated], batch.turn[rotated].to(device)  # (r, 4), (r,)
            rotation_loss = cross_entropy(logits, quarters)
            loss = loss + self.settings.self_supervision_rot * rotation_loss
            shown.update(rotation_loss=rotation_loss, rotation_accuracy=(logits.argmax(1) == quarters).float().mean())
        if self.settings.orth_reg:
            loss = loss + self.settings.orth_reg * orthogonal_penalty(self)
        return loss, shown
