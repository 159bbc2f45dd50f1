"""Images -> features of all of them, for clustering, for evaluation and for an index."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils import log
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.progress import bar

Encoder = Callable[[Tensor], Sequence[Tensor]]  # a uint8 image batch (n, 3, H, W) -> features of one or more kinds, (n, d)


class Look(NamedTuple):
    """Which features of all images a method asks for."""

    features: Literal["pooled", "embedding", "description"]  # as in `Embedder.read`
    enlarged: int | None = None  # the width to which central crops are enlarged for it; None: the run's own crops


class Extracted(NamedTuple):
    """Features of those of N images that can be read."""

    arrays: list[np.ndarray]  # for each kind of each encoder C-contiguous float32 (n, d), rows of length 1
    rows: np.ndarray  # int64 (n,): the place of each row's image among the N
    bad: list  # the unreadable images


def encoder(embedder: Any, kinds: Sequence[str], compute: Compute) -> Encoder:
    """A function from a uint8 image batch to an Embedder's features of these kinds, as in `Embedder.read`."""

    def encode(images: Tensor) -> tuple[Tensor, ...]:
        with compute.autocast():
            return embedder.read(images, *kinds)

    return encode


def report_bad(bad: list, on_bad_image: str) -> None:
    """Of images that cannot be decoded raise InputError for the first, or, with "skip", log a line for each."""
    if bad and on_bad_image != "skip":
        remedy = "repair or remove it, or take skip to leave such images out"
        raise InputError(f"{on_bad_image}: {bad[0].message}; {remedy}", setting="on_bad_image")
    for number, item in enumerate(bad, 1):
        log.say(f"left out ({number} of {len(bad)}): {item.message}")


@torch.inference_mode()
def extract(
    encoders: list[Encoder], batches: Iterable, total: int, say: str = "", folder: str | None = None, group: Group = Group()
) -> Extracted:
    """Run every encoder over every batch of images; each image is decoded once, however many encoders there are.

    batches: (indices (n,), images, list of bad images) as data.views.collate_crops gives them.
    total: number of images N. say: what the progress bar is called.
    folder: where to keep the features in temporary, memory-mapped files, for sets larger than the memory; None: in memory.
    group: each of several processes extracts its `group.stretch` of the images; its batches hold just that.

    Returns Extracted. Its arrays are filled in place, batch by batch, so there is never a second copy. The first of several
    processes has all features, in order, the others only their own; all have the whole `rows` and `bad`.
    """
    arrays: list = []
    bad: list = []
    rows, filled = np.empty(total, dtype=np.int64), 0
    rows_here = total if group.rank == 0 else len(group.stretch(total))
    with bar(total=len(group.stretch(total)), desc=say, unit="img", leave=False) as progress:
        for indices, images, unreadable in batches:
            bad += unreadable
            progress.update(len(indices) + len(unreadable))
            if images is None:
                continue
            new = slice(filled, filled + len(indices))
            for e, rows_of_kind in enumerate(features for encode in encoders for features in encode(images)):
                features = torch.nn.functional.normalize(rows_of_kind.float(), dim=1).cpu().numpy()
                if e == len(arrays):
                    arrays.append(_empty(rows_here, features.shape[1], folder))
                arrays[e][new] = features
            rows[new] = indices.numpy()
            filled += len(indices)
    bad = [item for some in group.gather_objects(bad) for item in some]
    rows = np.concatenate(group.gather_objects(rows[:filled]))
    if group.size > 1:
        known = group.gather_objects([array.shape[1] for array in arrays])
        columns: list[int] = next(filter(None, known), [])  # a process whose images are all bad does not know them
        arrays = arrays or [_empty(rows_here, d, folder) for d in columns]
        for array in arrays:
            group.collect(array, filled)
        filled = filled if group.rank else len(rows)
    if not arrays:
        raise InputError(f"none of the {total} images can be read, the first: {bad[0].message}")
    return Extracted([array[:filled] for array in arrays], rows, bad)


def _empty(rows: int, columns: int, folder: str | None) -> np.ndarray:
    """A float32 (rows, columns) array in memory, or in a file in `folder` that goes when the array does."""
    if folder is None:
        return np.empty((rows, columns), dtype=np.float32)
    size = 4 * rows * columns
    try:
        free = shutil.disk_usage(folder).free
        if free < size:  # a full disk under a mapped file would kill the process
            need = f"{rows} features of {columns} numbers take {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            raise InputError(f"{folder}: {need}", setting="features_dir")
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
    except OSError as error:
        raise InputError(f"{folder}: cannot keep features there ({error.strerror})", setting="features_dir") from None
