"""The draws of a training step, and the samplers that make draws from clusters or from pairs."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from utils.errors import InputError


class Draw(NamedTuple):
    """One row of a batch: one view of one image.

    A view depends on (index, seed, crop, turn) alone. Draws with equal index and seed share one decoded image. Draws with
    equal index, seed and crop also share the crop.
    """

    index: int  # type: ignore[assignment]  # the image's place in the list; this name hides tuple.index
    label: int  # its (pseudo-)label
    seed: int  # for the image's random crops
    metric: bool = True  # a view for the metric loss
    turn: int = -1  # quarter turns by which it is rotated, 0 to 3, for a rotation loss; -1: no such view
    crop: int = 0  # number of the crop among those that the seed gives


class Pick(NamedTuple):
    """One image that the P x K sampler picked for a step."""

    index: int  # type: ignore[assignment]
    label: int
    seed: int
    rotate: bool  # whether the image also comes in four rotations


Views = Callable[[list[Pick]], list[Draw]]  # makes the rows of a batch from its picks


class PKBatches:
    """The batches of one epoch: P clusters x K images each. Clusters come in random order, each at most once.

    labels: int64 (N,), the cluster of each image; an image with a negative label is never drawn.
    batch_size: P x K. num_instances: K.
    views: makes the rows of a batch from its picks.
    seed, epoch: together with the labels they decide every draw, so that resuming needs no generator's state.
    rotated: number of images of a batch, chosen at random, that are also rotated.

    As in the original, clusters that do not fill a last batch wait for another epoch. Fewer than P clusters make one smaller
    batch. A cluster of fewer than K images repeats images, in different crops.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, num_instances: int, views: Views, seed: int, epoch: int, rotated: int = 0
    ) -> None:
        order = np.argsort(labels, kind="stable")
        order = order[labels[order] >= 0]
        self.clusters = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.labels, self.num_instances, self.views = labels, num_instances, views
        self.clusters_per_batch, self.seed, self.epoch, self.rotated = batch_size // num_instances, seed, epoch, rotated

    def __len__(self) -> int:
        return max(1, len(self.clusters) // self.clusters_per_batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.clusters))
        for step in range(len(self)):
            chosen = [self.clusters[c] for c in order[step * self.clusters_per_batch :][: self.clusters_per_batch]]
            k = self.num_instances
            indices = np.concatenate([rng.choice(cluster, k, replace=len(cluster) < k) for cluster in chosen])
            rotate = np.zeros(len(indices), dtype=bool)
            rotate[rng.choice(len(indices), min(self.rotated, len(indices)), replace=False)] = True
            seeds = rng.integers(2**62, size=len(indices))
            rows = zip(indices.tolist(), self.labels[indices].tolist(), seeds.tolist(), rotate.tolist())
            yield self.views([Pick(*row) for row in rows])


class PositiveBatches:
    """The batches of one epoch. Each step has P random images, each with K - 1 of its positives.

    positives: int (N, k), the positives of each image, then -1. An image without positives is left out. An image with too
    few positives is repeated in other crops. The label of a draw is the image whose row of positives it comes from.
    batch_size: P x K; less where fewer images have positives. num_instances: K. steps: in an epoch.
    seed, epoch: together with the positives they decide every draw.
    """

    def __init__(
        self, positives: np.ndarray, batch_size: int, num_instances: int, steps: int, seed: int, epoch: int
    ) -> None:
        self.positives, self.num_instances, self.steps = positives, num_instances, steps
        self.images_per_batch, self.seed, self.epoch = batch_size // num_instances, seed, epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        images = np.flatnonzero((self.positives >= 0).any(1))
        for _ in range(self.steps):
            step = []
            for image in rng.permutation(images)[: self.images_per_batch].tolist():
                own = self.positives[image]
                others = rng.permutation(own[own >= 0])[: self.num_instances - 1].tolist()
                seed, *seeds = rng.integers(2**62, size=1 + len(others)).tolist()
                step += [Draw(image, image, seed, crop=crop) for crop in range(self.num_instances - len(others))]
                step += [Draw(index, image, seed) for index, seed in zip(others, seeds)]
            yield step


def check_pk(batch_size: int, num_instances: int, rotated: int = 0, metric: bool = True) -> None:
    """Raise InputError for sizes that give no P x K batch. metric: whether a metric loss needs pairs."""
    if num_instances < 1 or batch_size < 1 or batch_size % num_instances:
        reason = f"a batch is P clusters x {num_instances} images"
        raise InputError(f"{batch_size} is not a multiple of num_instances {num_instances}; {reason}", setting="batch_size")
    if not 0 <= rotated <= batch_size:
        raise InputError(f"{rotated} is not within 0 and the batch size {batch_size}", setting="rot_batch")
    if num_instances == 1 and metric:
        raise InputError("1 leaves the metric loss without positive pairs; give at least 2", setting="num_instances")
