"""Splits a training list by class, to choose settings on: every second class is kept for tests.

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
    """Write `folder`/train.txt and `folder`/test.txt, which split the training list of the data set `data` by class.

    In order of the labels, the first class is for training, the second for tests, and so on. The images stay in place. The
    test images of `data` are not used. Raises InputError where the training list lacks labels or has fewer than two
    classes, and for a folder that cannot be written or has other lists.
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
    """Return a list file, as bytes, of the images of these classes."""
    assert images.labels is not None
    rows = np.flatnonzero(np.isin(images.labels, classes))
    return "".join(f"{images.paths[row]} {images.labels[row]}\n" for row in rows.tolist()).encode("utf-8", "surrogateescape")


def _write(file: str, lines: bytes) -> None:
    """Write the file whole or not at all. An equal file is left alone; InputError where the file is another list."""
    if os.path.exists(file):
        if Path(file).read_bytes() != lines:
            raise InputError(f"{shown(file)}: is another list; give another folder")
        return
    with written_whole(file) as out:
        out.write(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold out every second class of a training list, to choose settings on.")
    parser.add_argument("data", help="the folder of a data set whose train.txt has labels")
    parser.add_argument("folder", help="the folder that the two lists are written into")
    args = parser.parse_args()
    hold_out(args.data, args.folder)
    print(f"{args.folder}: lists of {args.data}/train.txt, every second class held out")


if __name__ == "__main__":
    exit_on_error(main)
