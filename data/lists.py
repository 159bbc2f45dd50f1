"""The images of a split, and the list files that name them in `path label` lines."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from data.extensions import extension, why_not_read
from data.formats import PACKAGES
from utils.errors import InputError

INTEGER = re.compile(r"[+-]?[0-9]{1,20}")  # int() also takes 1_000 and digits of other scripts, which are likelier names


class Paths(Sequence[str]):
    """A read-only sequence of file names, held in two arrays, which spawned worker processes share as tensors.

    A list of str is soon copied into each forked worker: reading a string writes its reference count.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        names = [path.encode("utf-8", "surrogateescape") for path in paths]  # a file name need not be UTF-8
        self.bytes = np.frombuffer(bytearray(b"".join(names) or b" "), np.uint8)
        self.ends = np.cumsum([0, *map(len, names)], dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        import torch  # slow, and not needed to read a gallery

        return {name: torch.from_numpy(array) for name, array in vars(self).items()}

    def __setstate__(self, tensors: dict[str, Any]) -> None:
        vars(self).update((name, tensor.numpy()) for name, tensor in tensors.items())

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return a str for an int, and a list of str for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        begin, end = self.ends[index % len(self) :][:2].tolist()
        return self.bytes[begin:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        names = self.bytes.tobytes()
        return (names[begin:end].decode("utf-8", "surrogateescape") for begin, end in pairwise(self.ends.tolist()))


@dataclass(frozen=True, eq=False)
class ImageList:
    """The images of one split."""

    paths: Paths  # N absolute file names
    labels: np.ndarray | None  # int64 (N,), or None where an image has no label
    source: str  # the list file, or the folder that was searched for images

    @property
    def folder(self) -> str:
        """The absolute name of the searched folder, or of the list file's folder."""
        source = os.path.abspath(self.source)
        return source if os.path.isdir(source) else os.path.dirname(source)

    @cached_property
    def digest(self) -> str:
        """A hash of the images' names and their order. The folder's place makes no difference."""
        # Only a searched folder has names with a line break; no name has a NUL.
        folder = self.folder
        names = "\n".join(_relative(path, folder).replace("\n", "\0") for path in self.paths)
        return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.paths)


def below(path: str, folder: str | None) -> str:
    """Return the path relative to the folder. A path that lies elsewhere is unchanged, as is any path for folder None."""
    return path.removeprefix(folder.rstrip(os.sep) + os.sep) if folder else path


def _relative(path: str, folder: str) -> str:
    """Return os.path.relpath(path, folder), but faster: relpath takes seconds for a million paths. Both are absolute."""
    return rest if (rest := below(path, folder)) != path else os.path.relpath(path, folder)


def read_list(file: str, labels_required: bool, check_files: bool = True) -> ImageList:
    """Read one list file.

    The label is the last field, so paths may contain spaces. Relative paths start at the list's folder. Without
    `labels_required` a line may be a bare path with an image extension; `labels` of the result is then None.
    A line ends at \\n or \\r\\n and nowhere else: any other byte but NUL may be part of a file's name. Spaces and tabs
    around path and label are not.

    Raises InputError for an unreadable file, an empty list, and (with `check_files`) listed files that do not exist. With
    the line number, it raises one for a line without a path, a label that is not an integer of 64 bits, and a NUL.
    """
    folder, name = os.path.dirname(os.path.abspath(file)), shown(str(file))
    paths, labels = [], []
    for place, line in _lines(file):
        path, label = _split(line, place, labels_required)
        paths.append(os.path.normpath(os.path.join(folder, path)))
        labels.append(label)
    missing = [path for path in paths if not os.path.isfile(path)] if check_files else []
    if missing:
        what = f"{len(missing)} of {len(paths)} listed files do not exist: {first_few(missing)}"
        raise InputError(f"{name}: {what}; correct the list or put the images there")
    return ImageList(Paths(paths), None if None in labels else np.array(labels, dtype=np.int64), str(file))


def read_names(file: str) -> tuple[list[str], list[str]]:
    """Read a list of any files, as `find ~/photos -type f` writes it. Returns the absolute paths of images, and of others.

    A line with a label names an image, and so does a line whose extension marks one. No file need exist. Raises InputError
    as `read_list` does, but not for labels.
    """
    folder, images, others = os.path.dirname(os.path.abspath(file)), list[str](), list[str]()
    for _, line in _lines(file):
        path, _, label = _parts(line)
        # A file's own name may end with a number.
        if not path or label is None or why_not_read(path) and os.path.lexists(os.path.join(folder, line)):
            path, label = line, None
        names = others if label is None and why_not_read(path) else images
        names.append(os.path.normpath(os.path.join(folder, path)))
    return images, others


def _lines(file: str) -> Iterator[tuple[str, str]]:
    """Yield (file:line, text) of each line that is not empty. Raises InputError for an unreadable or empty list."""
    name, lines = shown(str(file)), []
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            raise OSError(0, "not a file")  # a pipe might never end
        # surrogateescape: a file name is bytes, and need not be UTF-8.
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as opened:
            lines = opened.read().split("\n")
    except OSError as error:
        reason = f"cannot read the list file ({error.strerror}); it holds one `path label` line an image"
        raise InputError(f"{name}: {reason}") from None
    stripped = [line.removesuffix("\r").strip(" \t") for line in lines]
    if not any(stripped):
        raise InputError(f"{name}: the list is empty; write one `path label` line an image")
    for number, line in enumerate(stripped, 1):
        place = f"{name}:{number}"
        if "\0" in line:
            raise InputError(f"{place}: the line holds a NUL byte, which no file name can; is the list saved as UTF-8?")
        if line:
            yield place, line


def _split(line: str, place: str, label_required: bool) -> tuple[str, int | None]:
    """Split `path label` into (path, int), and a bare `path` into (path, None). place: file:line, for errors."""
    path, last, label = _parts(line)
    if label is None:
        reason = why_not_read(line)
        if reason is None:
            if label_required:
                raise InputError(f"{place}: `{shown(line)}` has no label; write `path label`")
            return line, None
        if extension(line) in PACKAGES:
            raise InputError(f"{place}: `{shown(line)}` is {reason}")
        remedy = "write `path label` with a whole number as the label"
        raise InputError(f"{place}: the label `{shown(last)}` is not an integer; {remedy}")
    if not path:
        raise InputError(f"{place}: the line `{shown(line)}` has no path; write `path label`")
    return path, label


def _parts(line: str) -> tuple[str, str, int | None]:
    """Return what is before the last blank of a line, what is after it, and the latter as a label, if it is one."""
    space = max(line.rfind(" "), line.rfind("\t"))
    path, last = line[: max(space, 0)].rstrip(" \t"), line[space + 1 :]
    is_label = INTEGER.fullmatch(last) and -(2**63) <= int(last) < 2**63
    return path, last, int(last) if is_label else None


def shown(text: str, most: int = 300) -> str:
    """Return `text` for an error message: on one line, of moderate length, in printable characters."""
    text = text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def first_few(paths: Sequence[str]) -> str:
    """Return the first three paths for an error message."""
    return ", ".join(map(shown, paths[:3])) + (", ..." if len(paths) > 3 else "")


def real_paths(paths: Iterable[str]) -> Iterator[str]:
    """Yield os.path.realpath of each absolute path. The paths need not exist. Each folder is looked up only once."""
    real_folder = cache(os.path.realpath)
    for path in paths:
        folder, name = os.path.split(path)
        path = os.path.join(real_folder(folder), name)
        yield os.path.realpath(path) if os.path.islink(path) else path


def refuse_overlap(train: ImageList, *held_out: ImageList) -> None:
    """Raise InputError when an image of `train` is also in a test list: the test would use training images.

    It compares files behind all symbolic links; they need not exist. It ignores labels: test.txt may start at 0 again.
    """
    trained = set(real_paths(train.paths))
    for other in held_out:
        shared = [path for path, real in zip(other.paths, real_paths(other.paths)) if real in trained]
        if shared:
            what = f"{len(shared)} images are also in {shown(train.source)}, first {shown(shared[0])}"
            remedy = "the classes of the two must differ, remove the images from one of the lists"
            raise InputError(f"{shown(other.source)}: {what}; {remedy}")
