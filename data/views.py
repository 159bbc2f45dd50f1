"""Loads the images of a list in batches: the views of a training step, or one crop of each image."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.cache import open_images
from data.images import Images
from data.lists import ImageList
from data.loader import Loader, Plan
from data.sampler import Draw
from data.transforms import Transforms
from utils.device import Compute
from utils.distributed import Group, cores_here
from utils.errors import InputError
from utils.interrupt import ignore_in_worker


class BadImage(NamedTuple):
    """An image that cannot be decoded. A value, because an exception loses its type in a loader's worker."""

    index: int  # type: ignore[assignment]
    message: str


class Batch(NamedTuple):
    """The rows of a step. Each row is one view of one image, and belongs to one `Draw`."""

    images: Tensor  # uint8 (M, 3, width, width), or activations (see models.activations)
    index: Tensor  # type: ignore[assignment]  # int64 (M,), places in the list of images
    label: Tensor  # int64 (M,)
    turn: Tensor  # int64 (M,), quarter turns of each view, -1 for none
    metric: Tensor  # bool (M,), True for views for the metric loss


class Views(Dataset):
    """An item holds all views that a step needs of one image, decoded once. The index is a list of (row, Draw)."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, rows: list[tuple[int, Draw]]) -> BadImage | list[tuple[int, Draw, Tensor]]:
        _, first = rows[0]
        try:
            image = self.images[first.index]
        except InputError as error:
            return BadImage(first.index, str(error))
        with self.images.transforms.seeded(first.seed) as crop:
            crops = [crop(image) for _ in range(1 + max(draw.crop for _, draw in rows))]
        # Rotating a crop is as good as cropping a rotated image, because a crop's aspect ratio is drawn symmetrically
        # (before resizing). But the flip has to come first: a flip after the turn would make a left turn a right turn.
        return [(row, draw, crops[draw.crop].rot90(max(draw.turn, 0), (1, 2))) for row, draw in rows]


def collate_views(items: list) -> tuple[Batch, list[BadImage]]:
    """Collate items of Views into a Batch with its rows in order, and a list of the images that cannot be decoded."""
    bad = [item for item in items if isinstance(item, BadImage)]
    rows = sorted((row for item in items if not isinstance(item, BadImage) for row in item), key=lambda row: row[0])
    images = _stack([view for *_, view in rows]) if rows else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return batch_of([draw for _, draw, _ in rows], images), bad


def batch_of(draws: Sequence[Draw], images: Tensor) -> Batch:
    """Return the Batch of these draws and their images (M, ...), which are in the same order."""
    numbers = torch.tensor([(d.index, d.label, d.turn, d.metric) for d in draws], dtype=torch.int64).view(-1, 4)
    index, label, turn, metric = numbers.T.contiguous()
    return Batch(images, index, label, turn, metric.bool())


class Crops(Dataset):
    """An item is one uint8 (3, width, width) crop. The index is (image, seed, ratio): seed None gives the central crop, else
    the crop is random. ratio: as in `Transforms.random_crop`."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, item: tuple[int, tuple | None, float | None]) -> BadImage | tuple[int, Tensor]:
        index, seed, ratio = item
        try:
            image = self.images[index]
        except InputError as error:
            return BadImage(index, str(error))
        if seed is None:
            return index, self.images.transforms.centre_crop(image)
        draw = np.random.SeedSequence([*seed, index]).generate_state(1)[0]
        with self.images.transforms.seeded(int(draw)) as crop:
            return index, crop(image, ratio)


def collate_crops(items: list) -> tuple[Tensor, Tensor | None, list[BadImage]]:
    """Collate items of Crops: indices int64 (n,), images uint8 (n, 3, width, width) or None, and the undecodable images."""
    readable = [item for item in items if not isinstance(item, BadImage)]
    bad = [item for item in items if isinstance(item, BadImage)]
    indices = torch.tensor([index for index, _ in readable], dtype=torch.int64)
    return indices, _stack([image for _, image in readable]) if readable else None, bad


class ImageBatches:
    """Loads the images of a list for one process of a run: its share of each batch.

    images: decoded at each use, or cached. workers: data loading processes; persistent: they live on for the next pass.
    group: the processes of the run.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        workers: int = 0,
        pin_memory: bool = False,
        persistent: bool = False,
        group: Group = Group(),
    ) -> None:
        self.images, self.group, self._loading = images, group, (batch_size, workers, pin_memory)
        self._steps, self._indices = Plan(), Plan()
        common: dict[str, Any] = {"num_workers": workers, "persistent_workers": persistent and workers > 0}
        common |= {"pin_memory": pin_memory, "worker_init_fn": ignore_in_worker, "generator": torch.Generator()}
        # The loaders have their own generator. A loader without one draws a number from torch's. A resumed run has made
        # other loaders before, so it would go on with other random numbers.
        self._views = Loader(Views(images), batch_sampler=self._steps, collate_fn=collate_views, **common)
        self._crops = Loader(Crops(images), batch_size, sampler=self._indices, collate_fn=collate_crops, **common)

    def __len__(self) -> int:
        return len(self.images)

    def enlarged(self, width: int) -> "ImageBatches":
        """Return the same images, with the same central region resized to another width. They are decoded at each use."""
        own = self.images.transforms
        if width == own.width:
            return self
        transforms = Transforms(width, round(own.origin_width * width / own.width), own.ratio)
        return ImageBatches(Images(self.images.paths, transforms), *self._loading, group=self.group)

    def steps(self, draws: Iterable[list[Draw]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """Yield, for each step, this process's share of the rows, and its unreadable images."""
        return self.load(share_of(step, self.group.rank, self.group.size) for step in draws)

    def load(self, shares: Iterable[list[list[tuple[int, Draw]]]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """Yield a Batch for each share (see `share_of`), and the unreadable images in it."""
        self._steps.items = shares
        for batch, bad in self._views:
            if not len(batch.images):  # an empty batch has the right width all the same
                batch = batch._replace(images=batch.images.new_empty(0, 3, *2 * [self.images.transforms.width]))
            yield batch, bad

    def crops(
        self, seed: tuple | None = None, indices: Sequence[int] | None = None, ratio: float | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None, list[BadImage]]]:
        """Load crops of this process's share of the images, in order. indices: the images; None takes all. seed: for random
        crops; None gives central crops. ratio: for random crops, in place of the run's own."""
        rows = range(len(self.images)) if indices is None else indices
        self._indices.items = ((rows[place], seed, ratio) for place in self.group.stretch(len(rows)))
        return iter(self._crops)


def share_of(step: list[Draw], rank: int = 0, size: int = 1) -> list[list[tuple[int, Draw]]]:
    """Return the draws of a step that process `rank` makes: for each image a list of (row, Draw).

    Images with many rows are dealt out first, so that all processes get about equally many rows.
    """
    by_image: dict[tuple[int, int], list[tuple[int, Draw]]] = {}
    for row, draw in enumerate(step):
        by_image.setdefault((draw.index, draw.seed), []).append((row, draw))
    return list(by_image.values()) if size == 1 else sorted(by_image.values(), key=len, reverse=True)[rank::size]


def count_workers(requested: int | None, images: int, device: str) -> int:
    """Return the number of data loading processes: `requested`, or for None up to 8.

    None gives 0 on the CPU, where the network needs the cores, and for under 1,000 images: they load before workers start.
    """
    if requested is not None:
        return requested
    if device == "cpu" or images < 1000:
        return 0
    return cores_here()


def _stack(views: list[Tensor]) -> Tensor:
    """Stack (3, H, W) tensors to (M, 3, H, W), channels last in memory like each of them."""
    return torch.stack([view.permute(1, 2, 0) for view in views]).permute(0, 3, 1, 2)


class Loading(NamedTuple):
    """The settings by which each process of a run loads images."""

    transforms: Transforms
    batch_size: int
    workers: int | None  # data loading processes; None: `count_workers` chooses
    compute: Compute
    group: Group = Group()

    def load(self, images: ImageList, cache: str | None = None) -> ImageBatches:
        """Return the images of a list in batches.

        cache: a mode of `open_images`, for images that are loaded many times; workers then persist between passes. None: no
        cache, no persistent workers.
        """
        alone = self.group.size == 1  # with several processes auto caches nothing: each would hold its own copy
        decoded = open_images(images, self.transforms, "none" if cache is None or cache == "auto" and not alone else cache)
        workers = count_workers(self.workers, len(images), self.compute.device.type)
        return ImageBatches(decoded, self.batch_size, workers, self.compute.pin_memory, cache is not None, self.group)
