"""A data set for choosing settings: the training list of another one, every second of its classes kept for tests.

python -m data.held_out DATA FOLDER
"""

import argparse
import os

import numpy as np

from data.dataset import read_train
from data.lists import ImageList
from utils.errors import InputError, exit_on_error


def hold_out(data: str, folder: str) -> None:
    """Write `folder`/train.txt and `folder`/test.txt, which name the images of the training list of the data set `data`.

    In order of the labels the first class is to train on, the second to test on, and so on. The images stay where they
    are; the test images of `data` are not looked at. Raises InputError where the training list has fewer than two classes.
    """
    images = read_train(data)
    classes = np.unique([] if images.labels is None else images.labels)
    if len(classes) < 2:
        raise InputError(f"{images.source}: {len(classes)} labelled classes; at least two are needed to hold out one")
    os.makedirs(folder, exist_ok=True)
    _write(os.path.join(folder, "train.txt"), images, classes[::2])
    _write(os.path.join(folder, "test.txt"), images, classes[1::2])


def _write(file: str, images: ImageList, classes: np.ndarray) -> None:
    assert images.labels is not None
    rows = np.flatnonzero(np.isin(images.labels, classes))
    with open(file, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        out.writelines(f"{os.path.abspath(images.paths[row])} {images.labels[row]}\n" for row in rows.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold out every second class of a training list, to choose settings on.")
    parser.add_argument("data", help="the folder of a data set whose train.txt has labels")
    parser.add_argument("folder", help="where the two lists go")
    args = parser.parse_args()
    hold_out(args.data, args.folder)
    print(f"{args.folder}: lists of {args.data}/train.txt, every second class held out")


if __name__ == "__main__":
    exit_on_error(main)
