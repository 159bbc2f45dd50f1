"""What a step asks for: its draws, and the P x K sampler that many methods make them with."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from utils.errors import InputError


class Draw(NamedTuple):
    """One row of a batch: one view of one image.

    A view depends on (index, seed, crop, turn) alone. Draws with the same index and seed share one decoded image, and those
    with the same `crop` too share one crop.
    """

    index: int  # of the image, in the list
    label: int  # its (pseudo-)label
    seed: int  # of the image's random crops
    metric: bool = True  # a view for the metric loss
    turn: int = -1  # quarter turns by which it is rotated, 0 to 3, for a rotation loss; -1: no such view
    crop: int = 0  # which of the crops that come from the seed


class Pick(NamedTuple):
    """One image that the P x K sampler has picked for a step."""

    index: int
    label: int
    seed: int
    rotate: bool  # whether it is one of the `rotated` ones


class PKBatches:
    """An epoch of batches of P clusters x K images; it takes the clusters in random order, each at most once.

    labels: int64 (N,), the cluster of every image; an image with a negative one is never drawn. batch_size: P x K.
    num_instances: K. views: what a step draws of its picks. seed, epoch: of all draws, which depend on them and the labels
    alone, so that resuming needs no generator's state. rotated: images of the batch, drawn without replacement, that are
    marked to be rotated too.

    As in the original, clusters that do not fill a last batch wait for another epoch; where there are fewer than P
    clusters, one smaller batch holds them all. A cluster of fewer than K images gives some of them twice (in different
    crops).
    """

    def __init__(self, labels: np.ndarray, batch_size: int, num_instances: int,
                 views: Callable[[list[Pick]], list[Draw]], seed: int, epoch: int, rotated: int = 0) -> None:
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
            chosen = order[step * self.clusters_per_batch:(step + 1) * self.clusters_per_batch]
            indices = np.concatenate([
                rng.choice(self.clusters[c], self.num_instances, replace=len(self.clusters[c]) < self.num_instances)
                for c in chosen])
            rotate = np.zeros(len(indices), dtype=bool)
            rotate[rng.choice(len(indices), min(self.rotated, len(indices)), replace=False)] = True
            seeds = rng.integers(2**62, size=len(indices))
            yield self.views([Pick(int(i), int(self.labels[i]), int(s), bool(r))
                              for i, s, r in zip(indices, seeds, rotate)])


def check_pk(batch_size: int, num_instances: int, rotated: int = 0, metric: bool = True) -> None:
    """Raise InputError for sizes that make no P x K batch. metric: whether a metric loss needs pairs."""
    if num_instances < 1 or batch_size < 1 or batch_size % num_instances:
        raise InputError(f"{batch_size} is not a multiple of num_instances {num_instances}; a batch is P clusters x "
                         f"{num_instances} images", setting="batch_size")
    if not 0 <= rotated <= batch_size:
        raise InputError(f"{rotated} is not within 0 and the batch size {batch_size}", setting="rot_batch")
    if num_instances == 1 and metric:
        raise InputError("1 leaves the metric loss without positive pairs; give at least 2", setting="num_instances")
