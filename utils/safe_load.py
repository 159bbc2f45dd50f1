"""Reads files of torch.save as data. No code in them runs, and no error message advises to run it."""

import re
import warnings
import zipfile
from os import PathLike
from typing import Any

import numpy as np
import torch

FOLDER = 0x10  # the mark of a folder in an entry of a zip file


class Unreadable(Exception):
    """A file cannot be read. The message is a few words, to stand in brackets after the file's name."""


def read(path: str | PathLike, arrays: bool = False) -> Any:
    """Return the content of the file at `path`, with tensors on the CPU.

    arrays: whether the file may also hold numpy arrays of numbers, as files converted from Caffe do.
    Raises Unreadable for a file that is damaged, in another format, or holds more than data.
    """
    try:
        _check_archive(path)
        # before torch refuses a file it warns, and advises to switch the guard off
        with warnings.catch_warnings(), torch.serialization.safe_globals(_array_parts() if arrays else []):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way: zlib.error, EOFError, IndexError, ...
        raise Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if held := re.search(r"GLOBAL ([\w.]+)", text):
        return f"refused, because it holds {held[1]} and so could run code; nothing of it was run"
    if re.search("TorchScript|legacy .tar", text):
        return "refused, because such files could run code; nothing of it was run"
    if "weights_only" in text:  # the other words of the message are advice
        return "broken, or not in a form that torch.save writes"
    return (text.splitlines() or [type(error).__name__])[0][:200]  # an EOFError may have no text


def _check_archive(path: str | PathLike) -> None:
    """Compare the checksums of a zip file, because torch does not."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")
        if any(entry.external_attr & FOLDER for entry in archive.infolist()):
            raise ValueError("an entry is marked as a folder")  # torch would leave its tensor uninitialised


def _array_parts() -> list[Any]:
    """Return the globals that a pickled array of numbers needs. None of them can run code.

    The module that rebuilds arrays was renamed in numpy 2, and files carry either name.
    """
    rebuild = np.empty(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8")]
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return [*((rebuild, name) for name in names), np.ndarray, np.dtype, *dtypes]
