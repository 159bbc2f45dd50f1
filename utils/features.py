"""Extracts the features of all images of a set, for clustering, for evaluation and for an index."""

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

IN_MEMORY = 2 * 10**9  # bytes of features that stay in memory, even if there is a folder for them

Encoder = Callable[[Tensor], Sequence[Tensor]]  # uint8 images (n, 3, H, W) -> features (n, d) of one or more readouts


class Look(NamedTuple):
    """A method's request for features of all images."""

    features: Literal["pooled", "embedding", "description"]  # a readout, as in `Embedder.read`
    enlarged: int | None = None  # the width to which central crops are enlarged; None: the run's own crops


class Extracted(NamedTuple):
    """Features of the n readable images among N images."""

    arrays: list[np.ndarray]  # for each readout of each encoder: C-contiguous float32 (n, d), rows of length 1
    rows: np.ndarray  # int64 (n,): the place of each row's image among the N images
    bad: list  # the unreadable images


def encoder(embedder: Any, readouts: Sequence[str], compute: Compute) -> Encoder:
    """Return a function from a uint8 image batch to an Embedder's features. readouts: as in `Embedder.read`."""

    def encode(images: Tensor) -> tuple[Tensor, ...]:
        with compute.autocast():
            return embedder.read(images, *readouts)

    return encode


def report_bad(bad: list, on_bad_image: str) -> None:
    """Raise InputError for the first unreadable image. With on_bad_image "skip", log a line for each instead."""
    if bad and on_bad_image != "skip":
        remedy = "repair or remove it, or take skip to leave such images out"
        raise InputError(f"{on_bad_image}: {bad[0].message}; {remedy}", setting="on_bad_image")
    for number, item in enumerate(bad, 1):
        log.say(f"left out ({number} of {len(bad)}): {item.message}")


@torch.inference_mode()
def extract(
    encoders: list[Encoder], batches: Iterable, total: int, say: str = "", folder: str | None = None, group: Group = Group()
) -> Extracted:
    """Run every encoder over every batch of images. Each image is decoded once for all encoders.

    batches: (indices (n,), images, list of bad images), as from data.views.collate_crops.
    total: number of images N. say: the label of the progress bar.
    folder: a folder for temporary, memory-mapped files of features that take more than IN_MEMORY; None: all in memory.
    group: each of several processes extracts its `group.stretch` of the images; its batches hold just these.

    Returns Extracted. Its arrays are filled in place, batch by batch, so there is never a second copy. Of several processes,
    the first has all features in order, the others have only their own. All have the whole `rows` and `bad`.
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
            for e, read_out in enumerate(features for encode in encoders for features in encode(images)):
                features = torch.nn.functional.normalize(read_out.float(), dim=1).cpu().numpy()
                if e == len(arrays):
                    arrays.append(_empty(rows_here, features.shape[1], folder))
                arrays[e][new] = features
            rows[new] = indices.numpy()
            filled += len(indices)
    bad = [item for part in group.gather_objects(bad) for item in part]
    rows = np.concatenate(group.gather_objects(rows[:filled]))
    if group.size > 1:
        widths = group.gather_objects([array.shape[1] for array in arrays])
        columns: list[int] = next(filter(None, widths), [])  # a process whose images are all bad has no widths
        arrays = arrays or [_empty(rows_here, d, folder) for d in columns]
        for array in arrays:
            group.collect(array, filled)
        filled = filled if group.rank else len(rows)
    if not arrays:
        raise InputError(f"none of the {total} images can be read, the first: {bad[0].message}")
    return Extracted([array[:filled] for array in arrays], rows, bad)


def _empty(rows: int, columns: int, folder: str | None) -> np.ndarray:
    """Return a float32 (rows, columns) array, in memory or in a file in `folder` that disappears with the array."""
    size = 4 * rows * columns
    if folder is None or size <= IN_MEMORY:
        return np.empty((rows, columns), dtype=np.float32)
    try:
        free = shutil.disk_usage(folder).free
        if free < size:  # a full disk under a mapped file would kill the process
            need = f"{rows} features of {columns} numbers take {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            raise InputError(f"{folder}: {need}", setting="features_dir")
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
    except OSError as error:
        raise InputError(f"{folder}: cannot keep features there ({error.strerror})", setting="features_dir") from None
