"""Images -> features, for clustering and for evaluation."""

import shutil
import tempfile
from typing import NamedTuple

import numpy as np
import torch

from utils.distributed import Group
from utils.errors import InputError
from utils.progress import bar


class Extracted(NamedTuple):
    """Features of the readable ones of N images."""

    arrays: list  # for each encoder C-contiguous float32 (n, d), rows of length 1
    good: np.ndarray  # int64 (n,): which of the N images the rows are
    bad: list  # the unreadable images


def encoder(model, normalise, compute, pooled=False):
    """A function from a uint8 image batch (n, 3, H, W) to the model's embeddings, or to its pooled features."""
    def encode(images):
        with compute.autocast():
            features = model.pool(images, normalise)
        return features if pooled else model.embed(features)
    return encode


@torch.inference_mode()
def extract(encoders, loader, total, say=None, folder=None, group=Group()):
    """Run every encoder over every batch of a loader; each image is decoded once, however many encoders there are.

    encoders: functions of a uint8 image batch (n, 3, H, W) that return float features (n, d).
    loader: yields (indices (n,), images, list of bad images) as data.views.collate_crops does.
    total: number of images N. say: what the progress bar is called.
    folder: where to keep the features in temporary, memory-mapped files, for sets larger than the memory; None: in memory.
    group: of several processes each extracts its `group.share` of the images, which is what its loader yields.
    Returns Extracted; its arrays are filled in place, batch by batch, so there is never a second copy of one. Of several
    processes the first one has them all, in order, the others their own; `good` and `bad` are of all, everywhere.
    """
    arrays, good, bad, filled = [None] * len(encoders), np.empty(total, dtype=np.int64), [], 0
    rows_here = total if group.rank == 0 else len(group.share(total))
    with bar(total=len(group.share(total)), desc=say, unit="img", leave=False) as progress:
        for indices, images, unreadable in loader:
            bad += unreadable
            progress.update(len(indices) + len(unreadable))
            if images is None:
                continue
            rows = slice(filled, filled + len(indices))
            for e, encode in enumerate(encoders):
                features = torch.nn.functional.normalize(encode(images).float(), dim=1).cpu().numpy()
                if arrays[e] is None:
                    arrays[e] = _empty(rows_here, features.shape[1], folder)
                arrays[e][rows] = features
            good[rows] = indices.numpy()
            filled += len(indices)
    bad = [item for some in group.objects(bad) for item in some]
    if group.size > 1:
        columns = next(filter(None, group.objects([array.shape[1] for array in arrays if array is not None])), [])
        arrays = [_empty(rows_here, d, folder) if array is None else array for array, d in zip(arrays, columns)]
        for array in arrays:
            group.collect(array, filled)
        good = np.concatenate(group.objects(good[:filled]))
        filled = filled if group.rank else len(good)
    if not arrays or arrays[0] is None:
        raise InputError(f"none of the {total} images can be read, the first: {bad[0].message}")
    return Extracted([array[:filled] for array in arrays], good if group.size > 1 else good[:filled], bad)


def _empty(rows, columns, folder):
    """A float32 (rows, columns) array, in memory or in a file in `folder` that is gone when the array is."""
    if folder is None:
        return np.empty((rows, columns), dtype=np.float32)
    size = 4 * rows * columns
    try:
        free = shutil.disk_usage(folder).free
        if free < size:  # found out later, in a mapped file, it would kill the process
            raise InputError(f"--features_dir {folder}: {rows} features of {columns} numbers take {size / 1e9:.1f} GB, "
                             f"{free / 1e9:.1f} GB are free")
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
    except OSError as error:
        raise InputError(f"--features_dir {folder}: cannot keep features there ({error.strerror})") from None
