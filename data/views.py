"""The images of a list in batches: the views of a training step, or one crop of each image."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.cache import open_images
from data.images import Images
from data.lists import ImageList
from data.sampler import Draw
from data.transforms import Transforms
from utils.device import Compute
from utils.distributed import Group, cores_here
from utils.errors import InputError, RunError
from utils.interrupt import ignore_in_worker


class BadImage(NamedTuple):
    """An image that cannot be decoded. It is a value, because an exception loses its type in a loader's worker."""

    index: int  # type: ignore[assignment]
    message: str


class Batch(NamedTuple):
    """The rows of a step: one view of one image each, as its `Draw` asked for it."""

    images: Tensor  # uint8 (M, 3, width, width), or what models.activations has in their place
    index: Tensor  # type: ignore[assignment]  # int64 (M,), in the list of images
    label: Tensor  # int64 (M,)
    turn: Tensor  # int64 (M,), quarter turns by which it is rotated, -1 for none
    metric: Tensor  # bool (M,), whether it is a view for the metric loss


class Views(Dataset):
    """One item is all rows that a step needs of one image, which is decoded once. The index is a list of (row, Draw)."""

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
        # Rotating a crop is as good as cropping a rotated image: crops are upright as often as they are lying. But the flip
        # has to come first: after it, a quarter turn to the left would be one to the right.
        return [(row, draw, crops[draw.crop].rot90(max(draw.turn, 0), (1, 2))) for row, draw in rows]


def collate_views(items: list) -> tuple[Batch, list[BadImage]]:
    """Items of Views -> a Batch, its rows in order, and the images that cannot be decoded."""
    bad = [item for item in items if isinstance(item, BadImage)]
    rows = sorted((row for item in items if not isinstance(item, BadImage) for row in item), key=lambda row: row[0])
    images = _stack([view for *_, view in rows]) if rows else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return batch_of([draw for _, draw, _ in rows], images), bad


def batch_of(draws: Sequence[Draw], images: Tensor) -> Batch:
    """The Batch of these draws, whose images (M, ...) are in the same order."""
    numbers = torch.tensor([(d.index, d.label, d.turn, d.metric) for d in draws], dtype=torch.int64).view(-1, 4)
    index, label, turn, metric = numbers.T.contiguous()
    return Batch(images, index, label, turn, metric.bool())


class Crops(Dataset):
    """One item is one uint8 (3, width, width) crop. The index is (image, seed, ratio): central where seed is None, else
    random, ratio as in `Transforms.random_crop`."""

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
    """Items of Crops -> indices int64 (n,), images uint8 (n, 3, width, width) or None, and what cannot be decoded."""
    readable = [item for item in items if not isinstance(item, BadImage)]
    bad = [item for item in items if isinstance(item, BadImage)]
    indices = torch.tensor([index for index, _ in readable], dtype=torch.int64)
    return indices, _stack([image for _, image in readable]) if readable else None, bad


class Plan:
    """What a loader loads next. Set `items` before each pass: workers that live on keep the data set as they got it."""

    items: Iterable = ()

    def __iter__(self) -> Iterator:
        return iter(self.items)


class Loader(DataLoader):
    """A DataLoader that raises a RunError when a worker was killed, at the moment when the next batch is asked for."""

    def __iter__(self) -> Any:
        # what the main process finds where a worker is killed while it hands over a batch
        lost = (ConnectionError, EOFError, FileNotFoundError) if self.num_workers else ()
        try:
            batches = super().__iter__()
            if self.num_workers:
                # torch's handler would raise at once, in the middle of a step that is then half done
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except (RuntimeError, *lost) as error:
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                raise  # an error inside a worker, which says "in DataLoader worker process"
            reason = "a data loading process was killed, most often because the memory was full"
            remedy = "use fewer of them, or keep no images in memory; the same command goes on"
            raise RunError(f"{reason}: {remedy}", rescue=True) from None


class ImageBatches:
    """The images of a list as a run asks for them, shared out among its processes.

    images: decoded when asked for, or cached. workers: data loading processes; persistent: they live on for the next pass.
    group: the processes of the run, of which this one loads its share.
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
        # The generator is their own: else a loader takes a number from torch's, and a resumed run, which has made other
        # loaders before, goes on with other random numbers.
        self._views = Loader(Views(images), batch_sampler=self._steps, collate_fn=collate_views, **common)
        self._crops = Loader(Crops(images), batch_size, sampler=self._indices, collate_fn=collate_crops, **common)

    def __len__(self) -> int:
        return len(self.images)

    def enlarged(self, width: int) -> "ImageBatches":
        """The same images for central crops of the same part of each, but of another width; decoded when asked for."""
        have = self.images.transforms
        if width == have.width:
            return self
        transforms = Transforms(width, round(have.origin_width * width / have.width), have.ratio)
        return ImageBatches(Images(self.images.paths, transforms), *self._loading, group=self.group)

    def steps(self, draws: Iterable[list[Draw]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """Of each step this process's share of the rows, and those of its images that cannot be read."""
        return self.load(share_of(step, self.group.rank, self.group.size) for step in draws)

    def load(self, shares: Iterable[list[list[tuple[int, Draw]]]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """Batches of what `share_of` gives, and the images in them that cannot be read."""
        self._steps.items = shares
        for batch, bad in self._views:
            if not len(batch.images):  # they have the right size all the same
                batch = batch._replace(images=batch.images.new_empty(0, 3, *2 * [self.images.transforms.width]))
            yield batch, bad

    def crops(
        self, seed: tuple | None = None, indices: Sequence[int] | None = None, ratio: float | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None, list[BadImage]]]:
        """This process's share of the images, or of those at `indices`, in order: central crops, or random ones drawn from
        `seed`. ratio: of the random ones, in place of the run's own."""
        wanted = range(len(self.images)) if indices is None else indices
        self._indices.items = ((wanted[place], seed, ratio) for place in self.group.stretch(len(wanted)))
        return iter(self._crops)


def share_of(step: list[Draw], rank: int = 0, size: int = 1) -> list[list[tuple[int, Draw]]]:
    """Those draws of a step that process `rank` makes, by image: lists of (row, Draw).

    Images with many rows are dealt out first, so that all processes get about as many rows.
    """
    by_image: dict[tuple[int, int], list[tuple[int, Draw]]] = {}
    for row, draw in enumerate(step):
        by_image.setdefault((draw.index, draw.seed), []).append((row, draw))
    return list(by_image.values()) if size == 1 else sorted(by_image.values(), key=len, reverse=True)[rank::size]


def count_workers(asked: int | None, images: int, device: str) -> int:
    """How many data loading processes: as asked for, else up to 8.

    0 on the CPU, because the network needs its cores. 0 for under 1,000 images, which are read before workers would start.
    """
    if asked is not None:
        return asked
    if device == "cpu" or images < 1000:
        return 0
    return cores_here()


def _stack(views: list[Tensor]) -> Tensor:
    """(3, H, W) tensors -> (M, 3, H, W), channels last in memory as they are."""
    return torch.stack([view.permute(1, 2, 0) for view in views]).permute(0, 3, 1, 2)


class Loading(NamedTuple):
    """How each process of a run loads images."""

    transforms: Transforms
    batch_size: int
    workers: int | None  # data loading processes; None: as `count_workers` chooses
    compute: Compute
    group: Group = Group()

    def load(self, images: ImageList, cache: str | None = None) -> ImageBatches:
        """The images of a list in batches.

        cache: as in `open_images`, for images that come again and again, whose loading processes live on; None: neither.
        """
        alone = self.group.size == 1  # auto: not once for each process
        decoded = open_images(images, self.transforms, "none" if cache is None or cache == "auto" and not alone else cache)
        workers = count_workers(self.workers, len(images), self.compute.device.type)
        return ImageBatches(decoded, self.batch_size, workers, self.compute.pin_memory, cache is not None, self.group)
