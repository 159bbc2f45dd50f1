"""Reads an image file for a gallery, once: its hash, the crop that the network embeds, thumbprint, facts and thumbnail."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.formats import MODULES, installed, limit
from data.loader import Loader, Plan
from data.pictures import thumbnail_of
from data.transforms import Transforms
from data.views import BadImage
from gallery.contents import Entry
from gallery.table import HASH_BYTES, Content, hash_of
from gallery.thumbprints import SIDE, thumbprint
from utils.errors import InputError
from utils.interrupt import ignore_in_worker


class Unopened(BadImage):
    """A file that cannot be opened. The disk may be away for a while, so this says nothing about the image."""


class Taken(NamedTuple):
    """A batch: images that could be read, and files that could not."""

    indices: np.ndarray  # int64 (n,)
    crops: Tensor | None  # uint8 (n, 3, width, width); None for n = 0
    prints: np.ndarray  # uint8 (n, S, S)
    hashes: np.ndarray  # uint8 (n, HASH_BYTES)
    entries: list[Entry]  # n: what is kept of each content
    bad: list[BadImage]


def holds(reason: str, memory: int) -> bool:
    """Return False if a file may be readable by now: with another limit, or with a package that was installed since."""
    package = re.search(r"pip install ([\w-]+)", reason)
    if package and package[1] in MODULES:
        return not installed(package[1])
    return "MemoryError" not in reason and ("the limit is " not in reason or limit(memory) in reason)


class Intake(Dataset):
    """A data set whose items are (index, crop, thumbprint, Entry) of an image, or a BadImage."""

    def __init__(self, paths: Sequence[str], transforms: Transforms, thumbnails: bool = True) -> None:
        self.paths, self.transforms, self.thumbnails = paths, transforms, thumbnails

    def __getitem__(self, index: int) -> BadImage | tuple[int, Tensor, np.ndarray, Entry]:
        try:
            digest = hash_of(self.paths[index])
        except InputError as error:
            return Unopened(index, str(error))
        try:
            image, picture = self.transforms.load_picture(self.paths[index])
        except InputError as error:
            return BadImage(index, str(error))
        thumbnail = thumbnail_of(picture.pixels) if self.thumbnails else None
        entry = Entry(digest, Content(picture.facts, picture.notes), thumbnail)
        return index, self.transforms.centre_crop(image), thumbprint(image), entry


def collate(items: list) -> Taken:
    """Collate items of Intake into a Taken."""
    bad = [item for item in items if isinstance(item, BadImage)]
    readable = [item for item in items if not isinstance(item, BadImage)]
    indices, crops, thumbprints, entries = zip(*readable) if readable else ((),) * 4
    prints = np.array(thumbprints, np.uint8).reshape(-1, SIDE, SIDE)
    hashes = np.frombuffer(b"".join(entry.digest for entry in entries), np.uint8).reshape(-1, HASH_BYTES)
    return Taken(np.array(indices, np.int64), torch.stack(crops) if crops else None, prints, hashes, list(entries), bad)


def take_in(
    paths: Sequence[str],
    indices: Sequence[int],
    transforms: Transforms,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    thumbnails: bool = True,
) -> Iterator[Taken]:
    """Read the images at these indices of `paths`, in order, batch by batch. workers: data loading processes."""
    plan = Plan()
    plan.items = indices
    loader = Loader(
        Intake(paths, transforms, thumbnails),
        batch_size,
        sampler=plan,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=ignore_in_worker,
        generator=torch.Generator(),
    )
    return iter(loader)
