"""Where pretrained weights come from: fetched once into torch's own cache, checked by hash, read as data only."""

import hashlib
import os
import re
import socket
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils.errors import InputError

TIMEOUT = 20  # seconds without a byte; an unknown host fails at once


class Published(NamedTuple):
    """A file that somebody publishes. `digest` is the start of its sha256, or its whole git blob id."""

    url: str
    digest: str
    kind: str = "sha256"

    @property
    def path(self):
        """Where it is kept: the folder that torch and torchvision use as well."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]


INCEPTION = Published(
    url="https://raw.githubusercontent.com/xuefeicao/UDML_SS/master/pretrained/inception.pth",
    digest="9474c89ee97926d937b20a92856c9e1bbc27db88",
    kind="git blob id",
)
BN_INCEPTION = Published(
    url="http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth", digest="52deb4733"
)


def load(name, published, weights=None):
    """The weights of net `name`: key -> tensor or array, from the file `weights` if given, else as published.

    Raises InputError if they cannot be had (with what to do about it) or read.
    """
    return read(weights) if weights else read(fetch(name, published))


def fetch(name, published):
    """The path of a published file, downloaded if it is not there yet; its hash is checked every time."""
    path = published.path
    if path.is_file():
        found = digest(path, published.kind)
        if not found.startswith(published.digest):
            raise InputError(
                f"{path}: not the published weights of {name} ({published.kind} {found}, expected "
                f"{published.digest}); delete it to download it again"
            )
        return path
    partial = path.with_name(f"{path.name}.{os.getpid()}.download")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(TIMEOUT):
            torch.hub.download_url_to_file(published.url, str(partial))
        found = digest(partial, published.kind)
        if not found.startswith(published.digest):
            raise OSError(f"what came has {published.kind} {found}, expected {published.digest}")
        os.replace(partial, path)
    except (OSError, HTTPException, RuntimeError) as error:  # URLError and time-outs are OSErrors
        raise InputError(
            f"no weights for {name}: cannot download {published.url} ({one_line(error)}); put that file at {path}, or "
            "give it as --weights FILE, or take --net EfficientNet-Lite0, whose weights come with requirements.txt"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def digest(path, kind="sha256"):
    """Hex digest of a file: its sha256, or its git blob id, the sha1 of b"blob <size>\\0" and the content."""
    path = Path(path)
    sha = hashlib.sha256()
    if kind == "git blob id":
        sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def read(path):
    """A weights file as key -> tensor or numpy array; a `state_dict` inside it is taken out. Nothing in it is run.

    path: a file of torch.save, or .safetensors. Raises InputError if it is missing, broken or more than data.
    """
    path = Path(os.path.expanduser(path))  # Path's own raises for the home of an unknown user
    if not os.path.isfile(path):  # also false for names that are too long
        raise InputError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # comes with timm; needed for files from its hub only

            loaded = load_file(path)
        else:
            with torch.serialization.safe_globals(_array_parts()):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can fail in any way: bad zip, bad pickle, end of file, bad unicode
        # torch wraps the cause, here the name of what the pickle asks for, in much advice
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise InputError(
                f"{path}: refused, because it holds {refused[1]} and so could run code (nothing of it was run); get a "
                "file of tensors or arrays only"
            ) from None
        operand = re.search(r"Unsupported operand \d+", str(error))  # a pickle from Python 2, or not torch's
        reason = operand[0] if operand else type(error).__name__
        raise InputError(f"{path}: broken or not a weights file ({reason}); get it again") from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    return loaded


def one_line(error, longest=200):
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:longest] or type(error).__name__


def _array_parts():
    """What a pickled array of numbers is made of; Caffe-converted files hold arrays. None of it can run code.

    The module that rebuilds arrays was renamed in numpy 2, and files carry either name.
    """
    rebuild = np.empty(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8")]
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return [*((rebuild, name) for name in names), np.ndarray, np.dtype, *dtypes]


@contextmanager
def _socket_timeout(seconds):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
