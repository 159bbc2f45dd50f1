"""The images of a list in batches: the views of a training step, or one crop of each image."""

import os
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.images import Images
from data.sampler import Draw
from utils.errors import InputError, RunError
from utils.interrupt import ignore_in_worker


class BadImage(NamedTuple):
    """An image that cannot be decoded, passed on as a value: an exception loses its type in a loader's worker."""

    index: int
    message: str


class Batch(NamedTuple):
    """The rows of a step: one view of one image each, as its `Draw` asked for it."""

    images: Tensor  # uint8 (M, 3, width, width)
    index: Tensor  # int64 (M,), in the list of images
    label: Tensor  # int64 (M,)
    turn: Tensor  # int64 (M,), quarter turns by which it is rotated, -1 for none
    metric: Tensor  # bool (M,), whether it is a view for the metric loss


class Views(Dataset):
    """One item is all rows of one image that a step needs, from one decode. Indexed by lists of (row, Draw)."""

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
        # Rotating a crop is cropping the rotated image, crops being equally often upright and lying. But flipping has to
        # come before it: after it, a quarter turn to the left would be one to the right.
        return [(row, draw, crops[draw.crop].rot90(draw.turn, (1, 2)) if draw.turn > 0 else crops[draw.crop])
                for row, draw in rows]


def collate_views(items: list) -> tuple[Batch, list[BadImage]]:
    """Items of Views -> a Batch, in the order of their rows, without the undecodable images, which come beside it."""
    bad = [item for item in items if isinstance(item, BadImage)]
    rows = sorted((row for item in items if not isinstance(item, BadImage) for row in item), key=lambda row: row[0])
    draws = [draw for _, draw, _ in rows]
    numbers = [torch.tensor([getattr(draw, name) for draw in draws], dtype=torch.int64) for name in ("index", "label", "turn")]
    images = _stack([view for *_, view in rows]) if rows else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return Batch(images, *numbers, torch.tensor([draw.metric for draw in draws], dtype=torch.bool)), bad


class Crops(Dataset):
    """One item is one uint8 (3, width, width) crop of an image: central, or random where it comes with a seed."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, item: tuple[int, tuple | None]) -> BadImage | tuple[int, Tensor]:
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


def collate_crops(items: list) -> tuple[Tensor, Tensor | None, list[BadImage]]:
    """Items of Crops -> (indices int64 (n,), images uint8 (n, 3, width, width) or None, the undecodable images)."""
    readable = [item for item in items if not isinstance(item, BadImage)]
    bad = [item for item in items if isinstance(item, BadImage)]
    indices = torch.tensor([index for index, _ in readable], dtype=torch.int64)
    return indices, _stack([image for _, image in readable]) if readable else None, bad


class Plan:
    """What a loader loads next. It can be set anew before each pass, while the loader's workers live on: they keep the data
    set as it was when they started."""

    def __init__(self, items: Iterable = ()) -> None:
        self.items = items

    def __iter__(self) -> Iterator:
        return iter(self.items)


class Loader(DataLoader):
    """A DataLoader whose worker's end is a RunError, raised when the next batch is asked for."""

    def __iter__(self) -> Iterator:
        lost = (ConnectionError, EOFError, FileNotFoundError) if self.num_workers else ()  # killed while it hands over a batch
        try:
            batches = super().__iter__()
            if self.num_workers:
                # torch's handler raises where the news arrives: in the middle of a step, which would then be half done
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except (RuntimeError, *lost) as error:
            # an error of what a worker does says "in DataLoader worker process"
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                raise
            raise RunError("a data loading process was killed, most often because the memory was full: lower --nThreads, or "
                           "take --cache none instead of ram; the same command goes on", rescue=True) from None


class ImageBatches:
    """The images of a list as a run asks for them, shared out among its processes.

    images: decoded when asked for, or cached. rank, size: of several processes this one, which loads its share.
    """

    def __init__(self, images: Images, batch_size: int, workers: int = 0, pin_memory: bool = False, persistent: bool = False,
                 rank: int = 0, size: int = 1) -> None:
        """workers: data loading processes. persistent: they live on for the next pass."""
        self.images, self.rank, self.size = images, rank, size
        common = {"num_workers": workers, "persistent_workers": persistent and workers > 0, "pin_memory": pin_memory,
                  "worker_init_fn": ignore_in_worker}
        # The loaders have generators of their own, or each would take a number from torch's: a run that was resumed, with
        # other loaders behind it, would then go on with other numbers.
        self._views = Loader(Views(images), batch_sampler=Plan(), collate_fn=collate_views, generator=torch.Generator(),
                             **common)
        self._crops = Loader(Crops(images), batch_size=batch_size, sampler=Plan(), collate_fn=collate_crops,
                             generator=torch.Generator(), **common)

    def __len__(self) -> int:
        return len(self.images)

    def steps(self, draws: Iterable[list[Draw]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """For each step this process's share of its rows, and which images of it cannot be read."""
        self._views.batch_sampler.items = (share_of(step, self.rank, self.size) for step in draws)
        for batch, bad in self._views:
            if not len(batch.images):  # of the right size all the same
                batch = batch._replace(images=batch.images.new_empty(0, 3, *2 * [self.images.transforms.width]))
            yield batch, bad

    def crops(self, seed: tuple | None = None) -> Iterator[tuple[Tensor, Tensor | None, list[BadImage]]]:
        """This process's share of the images, in the order of the list: central crops, or random ones drawn from `seed`."""
        count = len(self.images)
        share = range(count * self.rank // self.size, count * (self.rank + 1) // self.size)
        self._crops.sampler.items = ((index, seed) for index in share)
        return iter(self._crops)


def share_of(step: list[Draw], rank: int = 0, size: int = 1) -> list[list[tuple[int, Draw]]]:
    """Of the draws of a step those of process `rank`, by image: lists of (row, Draw).

    Images with many rows are dealt out first, so that every process gets about as many rows as the others.
    """
    by_image: dict[tuple[int, int], list[tuple[int, Draw]]] = {}
    for row, draw in enumerate(step):
        by_image.setdefault((draw.index, draw.seed), []).append((row, draw))
    return list(by_image.values()) if size == 1 else sorted(by_image.values(), key=len, reverse=True)[rank::size]


def count_workers(asked: int | None, images: int, device: str) -> int:
    """Data loading processes for a list of `images` images: as asked for, else up to 8.

    None on the CPU, whose cores the network needs, and none for under 1,000 images, read before workers have started.
    """
    if asked is not None:
        return asked
    if device == "cpu" or images < 1000:
        return 0
    return min(8, max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _stack(views: list[Tensor]) -> Tensor:
    """(3, H, W) tensors -> (M, 3, H, W), channels last in memory, as decoders and resizing give them."""
    return torch.stack([view.permute(1, 2, 0) for view in views]).permute(0, 3, 1, 2)
