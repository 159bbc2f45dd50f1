"""Files that run a command if a careless reader opens them, in every format that weights may have."""

import io
import os
import pickle
import tarfile

import numpy as np
import torch


class Payload:
    """An object that makes the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _tar(held, file):
    """Write a tar of pickles, as torch did before version 0.1.11."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, *contents in (("sys_info", {}), ("storages", 0, []), ("tensors", 0), ("pickle", held)):
            data = b"".join(pickle.dumps(content, protocol=2) for content in contents)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _object(held):
    return np.array([held], dtype=object)


# format -> function(object, open file)
WRITERS = {
    "zip": torch.save,
    "legacy": lambda held, file: torch.save(held, file, _use_new_zipfile_serialization=False),
    "pickle": lambda held, file: pickle.dump(held, file, protocol=2),
    "tar": _tar,
    "npy": lambda held, file: np.save(file, _object(held), allow_pickle=True),
    "npz": lambda held, file: np.savez(file, held=_object(held)),
}


def write(form, held, path):
    with open(path, "wb") as file:
        WRITERS[form](held, file)


def read_carelessly(form, path):
    """Read a file without protection. This shows that the payload works, so a test of a careful reader means something."""
    if form in ("npy", "npz"):
        loaded = np.load(path, allow_pickle=True)
        return loaded["held"] if form == "npz" else loaded
    return pickle.loads(path.read_bytes()) if form == "pickle" else torch.load(path, weights_only=False)
