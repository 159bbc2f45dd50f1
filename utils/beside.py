"""The large part of a checkpoint that steps do not change. It lies beside the checkpoints, in a file named by its hash."""

import glob
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

from utils import safe_load
from utils.files import written_whole


def path_of(folder: str, digest: str) -> str:
    return os.path.join(folder, f"look_{digest}.pth.tar")


def all_in(folder: str) -> set[str]:
    """The paths of all such files in a folder."""
    return set(glob.glob(path_of(glob.escape(folder), "[0-9a-f]" * 64)))


def is_digest(text: str) -> bool:
    """Return True for a hash as `digest_of` returns it. Anything else could name a file elsewhere."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the names, types, shapes and numbers of contiguous CPU tensors, in hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().data)
    return total.hexdigest()


def write(folder: str, tensors: Mapping[str, Tensor], again: bool = False) -> str:
    """Put tensors into their file, whole or not at all, and on the disk. Returns their hash; "" for no tensors.

    A file that is there already stays. again: it is replaced, because nobody knows whether it is whole.
    Raises OSError or RuntimeError, as torch.save does.
    """
    if not tensors:
        return ""
    here = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    path = path_of(folder, digest := digest_of(here))
    if again or not os.path.exists(path):
        with written_whole(path) as file:
            torch.save(here, file)
    return digest


def read(path: str) -> dict[str, Tensor]:
    """Return the tensors of the file at `path`, on the CPU. Raises safe_load.Unreadable if it is missing or damaged, or if
    its content does not have the hash that it is named by."""
    if not os.path.isfile(path):
        raise safe_load.Unreadable("missing")
    tensors = safe_load.read(path)
    with suppress(Exception):  # where the content is no dict of plain tensors, the hash fails in any way
        if path == path_of(os.path.dirname(path), digest_of(tensors)):
            return tensors
    raise safe_load.Unreadable("its content is not what its name says")
