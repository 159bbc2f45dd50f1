"""The images of a list as torch data sets: the views of a training step, or one crop of each image."""

import signal
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils.errors import InputError, RunError
from utils.interrupt import ignore_in_worker


class BadImage(NamedTuple):
    """An image that cannot be decoded, passed on as a value: an exception loses its type in a loader's worker."""

    index: int
    message: str


class Batch(NamedTuple):
    """The views of one training step. The first len(labels) images are the metric views."""

    images: torch.Tensor  # uint8 (M, 3, width, width)
    labels: torch.Tensor  # int64 (n,), n <= M
    rotation_index: torch.Tensor  # int64 (4R,): which of the M images the rotation head sees
    rotation_labels: torch.Tensor  # int64 (4R,): quarter turns, 0 to 3
    bad: list  # of BadImage


class TrainViews(Dataset):
    """One item is all views of one image that one step needs, from one decode. Indexed by the sampler's `Draw`s."""

    def __init__(self, images, rot_bt):
        self.images, self.rot_bt = images, rot_bt

    def __getitem__(self, draw):
        try:
            image = self.images[draw.index]
        except InputError as error:
            return BadImage(draw.index, str(error))
        with self.images.transforms.seeded(draw.seed) as crop:
            metric = crop(image) if draw.metric else None
            turned = []
            if draw.rotate and self.rot_bt:
                # A crop for each rotation. Cropping the rotated image is the same, crops being equally often upright
                # and lying, but flipping after it would turn a quarter to the left into one to the right.
                turned = [crop(image).rot90(k, (1, 2)) for k in range(4)]
            elif draw.rotate:  # crop once, rotate the crop; the metric view serves as the copy at 0 degrees
                upright = crop(image) if metric is None else metric
                turned = [None if k == 0 and metric is not None else upright.rot90(k, (1, 2)) for k in range(4)]
        return draw.label, metric, turned


def collate_views(items):
    """Items of TrainViews -> Batch; undecodable images are left out and listed in `bad`."""
    bad = [item for item in items if isinstance(item, BadImage)]
    items = [item for item in items if not isinstance(item, BadImage)]
    images = [metric for _, metric, _ in items if metric is not None]
    labels = [label for label, metric, _ in items if metric is not None]
    index, position = [], 0
    for _, metric, turned in items:
        for view in turned:
            if view is None:
                index.append(position)  # this image's metric view
            else:
                index.append(len(images))
                images.append(view)
        position += metric is not None
    return Batch(_stack(images) if images else torch.empty(0, 3, 1, 1, dtype=torch.uint8),
                 torch.tensor(labels, dtype=torch.int64), torch.tensor(index, dtype=torch.int64),
                 torch.arange(len(index)) % 4, bad)


def _stack(views):
    """(3, H, W) tensors -> (M, 3, H, W), channels last in memory, as decoders and resizing give them."""
    return torch.stack([view.permute(1, 2, 0) for view in views]).permute(0, 3, 1, 2)


class Crops(Dataset):
    """One item is one uint8 (3, width, width) crop of an image: central, or random where it comes with a seed."""

    def __init__(self, images):
        self.images = images

    def __getitem__(self, item):
        index, seed = item
        try:
            image = self.images[index]
        except InputError as error:
            return BadImage(index, str(error))
        if seed is None:
            return index, self.images.transforms.centre_crop(image)
        draw = np.random.SeedSequence([*seed, index]).generate_state(1)[0]
        with self.images.transforms.seeded(int(draw)) as crop:
            return index, crop(image)


class InOrder:
    """The sampler of `Crops`: every image of a range once, as (index, seed). seed: None, or ints that make crops random.

    The seed travels with the items because persistent workers keep the data set as it was when they started.
    """

    def __init__(self, indices):
        self.indices, self.seed = indices, None

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return ((index, self.seed) for index in self.indices)


def collate_crops(items):
    """Items of Crops -> (indices int64 (n,), images uint8 (n, 3, width, width), list of BadImage)."""
    good = [item for item in items if not isinstance(item, BadImage)]
    bad = [item for item in items if isinstance(item, BadImage)]
    indices = torch.tensor([index for index, _ in good], dtype=torch.int64)
    return indices, _stack([image for _, image in good]) if good else None, bad


class Loader(DataLoader):
    """A DataLoader whose worker's end is a RunError, raised when the next batch is asked for."""

    def __iter__(self):
        try:
            batches = super().__iter__()
            if self.num_workers:
                # torch's handler raises where the news arrives: in the middle of a step, which would then be half done
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # an error of what it does says "in DataLoader worker process"
                raise
            raise RunError("a data loading process was killed, most often because the memory was full: lower --nThreads, or "
                           "take --cache none or disk instead of ram; the same command goes on", rescue=True) from None


def crops_loader(images, batch_size, workers, pin_memory=False, persistent=False, share=None):
    """A loader of `Crops` batches, in the order of the list; set `loader.sampler.seed` for random crops.

    persistent: the workers live on for the next pass. share: a range of the images, None for all.
    """
    return Loader(Crops(images), batch_size=batch_size, sampler=InOrder(range(len(images)) if share is None else share),
                  num_workers=workers, persistent_workers=persistent and workers > 0, collate_fn=collate_crops,
                  pin_memory=pin_memory, generator=torch.Generator(), worker_init_fn=ignore_in_worker)


def views_loader(images, rot_bt, sampler, workers, pin_memory):
    """A loader of Batches of `TrainViews`, as the sampler draws them."""
    # Both loaders have a generator of their own, or each would take a number from torch's: a run that was resumed, with
    # other loaders behind it, would then go on with other numbers.
    return Loader(TrainViews(images, rot_bt), batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
                  collate_fn=collate_views, pin_memory=pin_memory, generator=torch.Generator(),
                  worker_init_fn=ignore_in_worker)


def report_bad(bad, on_bad_image, say):
    """Undecodable images: InputError for the first of them, or under --on_bad_image skip a line for each."""
    if bad and on_bad_image != "skip":
        raise InputError(f"{bad[0].message}; repair or remove it, or leave such images out with --on_bad_image skip")
    for number, item in enumerate(bad, 1):
        say(f"left out ({number} of {len(bad)}): {item.message}")
