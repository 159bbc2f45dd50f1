"""The P x K sampler: which images, as which views, make up each step of an epoch."""

from typing import NamedTuple

import numpy as np

from utils.errors import InputError


class Draw(NamedTuple):
    """One image of a batch and what the step needs of it."""

    index: int  # in the list of images
    label: int  # its (pseudo-)label
    seed: int  # of its random crops
    metric: bool  # a view for the metric loss
    rotate: bool  # four rotated copies for the rotation loss


class PKSampler:
    """Batches of P clusters x K images; an epoch takes the clusters in random order, each at most once.

    batch_size: P x K. num_instances: K. rot_batch: images of the batch, drawn without replacement, that also come in
    four rotations. rot_only: no metric views; only the `rot_batch` images are loaded. seed: of all draws.

    As in the original, clusters that do not fill a last batch wait for another epoch; where there are fewer than P
    clusters, one smaller batch holds them all. A cluster of fewer than K images gives some of them twice (in different
    crops). An epoch's draws depend on (seed, epoch) and the labels alone: resuming needs no generator state.

    rank, size: of several processes that each draw the same and take their share, with as many rotated images as the others.
    """

    def __init__(self, batch_size, num_instances, rot_batch=0, rot_only=False, seed=0, rank=0, size=1):
        if num_instances < 1 or batch_size < 1 or batch_size % num_instances:
            raise InputError(f"--batch_size {batch_size} is not a multiple of --num_instances {num_instances}; "
                             f"a batch is P clusters x {num_instances} images")
        if not 0 <= rot_batch <= batch_size:
            raise InputError(f"--rot_batch {rot_batch} is not within 0 and --batch_size {batch_size}")
        if num_instances == 1 and not rot_only:
            raise InputError("--num_instances 1 leaves the metric loss without positive pairs; give at least 2")
        self.clusters_per_batch, self.num_instances = batch_size // num_instances, num_instances
        self.rot_batch, self.rot_only, self.seed, self.epoch = rot_batch, rot_only, seed, 0
        self.rank, self.size = rank, size
        self.clusters, self.labels, self.done = [], None, 0

    def set_labels(self, labels, epoch, done=0):
        """labels: int64 (N,), the cluster of every image; an image with a negative one is never drawn. done: steps of the
        epoch that have been made already, and are left out."""
        order = np.argsort(labels, kind="stable")
        order = order[labels[order] >= 0]
        self.clusters = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.labels, self.epoch, self.done = labels, epoch, done

    def __len__(self):
        return max(1, len(self.clusters) // self.clusters_per_batch)

    def __iter__(self):
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.clusters))
        for step in range(len(self)):
            chosen = order[step * self.clusters_per_batch:(step + 1) * self.clusters_per_batch]
            indices = np.concatenate([
                rng.choice(self.clusters[c], self.num_instances, replace=len(self.clusters[c]) < self.num_instances)
                for c in chosen])
            rotate = np.zeros(len(indices), dtype=bool)
            rotate[rng.choice(len(indices), min(self.rot_batch, len(indices)), replace=False)] = True
            seeds = rng.integers(2**62, size=len(indices))
            if step < self.done:
                continue
            draws = [Draw(int(i), int(self.labels[i]), int(s), not self.rot_only, bool(r))
                     for i, s, r in zip(indices, seeds, rotate) if r or not self.rot_only]
            yield draws if self.size == 1 else sorted(draws, key=lambda draw: not draw.rotate)[self.rank::self.size]
