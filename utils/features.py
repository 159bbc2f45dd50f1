"""Images -> features of all of them, for clustering, for evaluation and for an index."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils import log
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.progress import bar

Encoder = Callable[[Tensor], Tensor]  # a uint8 image batch (n, 3, H, W) -> features (n, d)


class Extracted(NamedTuple):
    """Features of the readable ones of N images."""

    arrays: list[np.ndarray]  # for each encoder C-contiguous float32 (n, d), rows of length 1
    rows: np.ndarray  # int64 (n,): which of the N images they are of
    bad: list  # the unreadable images


def encoder(embedder: nn.Module, kind: str, compute: Compute) -> Encoder:
    """A function from a uint8 image batch to an Embedder's features of that kind, "pooled" or "embedding"."""
    def encode(images: Tensor) -> Tensor:
        with compute.autocast():
            features = embedder.pool(images)
        return features if kind == "pooled" else embedder.project(features)
    return encode


def report_bad(bad: list, on_bad_image: str) -> None:
    """Undecodable images: InputError for the first of them, or, where they are to be skipped, a line for each."""
    if bad and on_bad_image != "skip":
        raise InputError(f"{bad[0].message}; repair or remove it, or leave such images out with --on_bad_image skip")
    for number, item in enumerate(bad, 1):
        log.say(f"left out ({number} of {len(bad)}): {item.message}")


@torch.inference_mode()
def extract(encoders: list[Encoder], batches: Iterable, total: int, say: str | None = None, folder: str | None = None,
            group: Group = Group()) -> Extracted:
    """Run every encoder over every batch of images; each image is decoded once, however many encoders there are.

    batches: (indices (n,), images, list of bad images) as data.views.collate_crops gives them.
    total: number of images N. say: what the progress bar is called.
    folder: where to keep the features in temporary, memory-mapped files, for sets larger than the memory; None: in memory.
    group: of several processes each extracts its `group.stretch` of the images, which is what its batches hold.
    Returns Extracted; its arrays are filled in place, batch by batch, so there is never a second copy of one. Of several
    processes the first one has them all, in order, the others their own; `rows` and `bad` are of all, everywhere.
    """
    arrays: list = [None] * len(encoders)
    rows, bad, filled = np.empty(total, dtype=np.int64), [], 0
    rows_here = total if group.rank == 0 else len(group.stretch(total))
    with bar(total=len(group.stretch(total)), desc=say, unit="img", leave=False) as progress:
        for indices, images, unreadable in batches:
            bad += unreadable
            progress.update(len(indices) + len(unreadable))
            if images is None:
                continue
            new = slice(filled, filled + len(indices))
            for e, encode in enumerate(encoders):
                features = torch.nn.functional.normalize(encode(images).float(), dim=1).cpu().numpy()
                if arrays[e] is None:
                    arrays[e] = _empty(rows_here, features.shape[1], folder)
                arrays[e][new] = features
            rows[new] = indices.numpy()
            filled += len(indices)
    bad = [item for some in group.gather_objects(bad) for item in some]
    if group.size > 1:
        columns = next(filter(None, group.gather_objects([array.shape[1] for array in arrays if array is not None])), [])
        arrays = [_empty(rows_here, d, folder) if array is None else array for array, d in zip(arrays, columns)]
        for array in arrays:
            group.collect(array, filled)
        rows = np.concatenate(group.gather_objects(rows[:filled]))
        filled = filled if group.rank else len(rows)
    if not arrays or arrays[0] is None:
        raise InputError(f"none of the {total} images can be read, the first: {bad[0].message}")
    return Extracted([array[:filled] for array in arrays], rows if group.size > 1 else rows[:filled], bad)


def _empty(rows: int, columns: int, folder: str | None) -> np.ndarray:
    """A float32 (rows, columns) array, in memory or in a file in `folder` that is gone when the array is."""
    if folder is None:
        return np.empty((rows, columns), dtype=np.float32)
    size = 4 * rows * columns
    try:
        free = shutil.disk_usage(folder).free
        if free < size:  # found out later, in a mapped file, it would kill the process
            raise InputError(f"{folder}: {rows} features of {columns} numbers take {size / 1e9:.1f} GB, "
                             f"{free / 1e9:.1f} GB are free", setting="features_dir")
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
    except OSError as error:
        raise InputError(f"{folder}: cannot keep features there ({error.strerror})", setting="features_dir") from None
