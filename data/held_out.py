"""A data set for choosing settings: the training list of another one, every second of its classes kept for tests.

python -m data.held_out DATA FOLDER
"""

import argparse
import os
from pathlib import Path

import numpy as np

from data.dataset import read_train
from data.lists import ImageList, shown
from utils.errors import InputError, exit_on_error
from utils.files import written_whole


def hold_out(data: str, folder: str) -> None:
    """Write `folder`/train.txt and `folder`/test.txt, which name the images of the training list of the data set `data`.

    In order of the labels the first class is to train on, the second to test on, and so on. The images stay where they
    are; the test images of `data` are not looked at. Raises InputError where the training list lacks labels or has fewer
    than two classes, and for a folder that cannot be written or has other lists.
    """
    images = read_train(data)
    if images.labels is None:
        raise InputError(f"{images.source}: lines without a label; write `path label` lines to hold out some of the classes")
    classes = np.unique(images.labels)
    if len(classes) < 2:
        raise InputError(f"{images.source}: one class; at least two are needed to hold out one")
    lists = {"train.txt": _lines(images, classes[::2]), "test.txt": _lines(images, classes[1::2])}
    try:
        os.makedirs(folder, exist_ok=True)
        for name, lines in lists.items():
            _write(os.path.join(folder, name), lines)
    except OSError as error:
        raise InputError(f"{shown(folder)}: cannot be written ({error.strerror})") from None


def _lines(images: ImageList, classes: np.ndarray) -> bytes:
    """A list file of the images of some classes."""
    assert images.labels is not None
    rows = np.flatnonzero(np.isin(images.labels, classes))
    return "".join(f"{images.paths[row]} {images.labels[row]}\n" for row in rows.tolist()).encode("utf-8", "surrogateescape")


def _write(file: str, lines: bytes) -> None:
    """At once or not at all; nothing where the file is there already. InputError where it is another list."""
    if os.path.exists(file):
        if Path(file).read_bytes() != lines:
            raise InputError(f"{shown(file)}: is another list; give another folder")
        return
    with written_whole(file) as out:
        out.write(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold out every second class of a training list, to choose settings on.")
    parser.add_argument("data", help="the folder of a data set whose train.txt has labels")
    parser.add_argument("folder", help="where the two lists go")
    args = parser.parse_args()
    hold_out(args.data, args.folder)
    print(f"{args.folder}: lists of {args.data}/train.txt, every second class held out")


if __name__ == "__main__":
    exit_on_error(main)
