"""Makes the built-in demo set: snapshots of invented creatures. It is drawn here, so that a first run needs no download.

python -m data.demo FOLDER [--seed 0]
"""

import argparse
import os
import tempfile
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.creatures import recipe, snapshot
from utils.errors import InputError, exit_on_error

VERSION = 1  # raise it when the drawing changes: a set of another version is refused


def make_demo(folder: str | PathLike, seed: int = 0, classes: int = 40, images: int = 20) -> None:
    """Write the demo set into `folder`, completely or not at all. A folder that already holds it is left alone.

    The set has `classes` train classes and as many other test classes, with `images` images each. An image is
    `<folder>/{train,test}/<label>/NNNN.jpg`; train.txt and test.txt list it as `path label`. Test labels continue the
    train labels. The same arguments (and library versions) give the same bytes. Raises InputError if `folder` holds
    anything else.
    """
    folder = os.path.abspath(folder)
    description = f"demo set, version {VERSION}, seed {seed}: {classes} + {classes} classes x {images} images\n"
    if _note(folder) == description:
        return
    if os.path.isfile(folder) or os.path.isdir(folder) and os.listdir(folder):
        raise InputError(f"{folder} exists and is not this demo set; remove it or name another folder")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder), prefix=".demo-") as temporary:
        whole = os.path.join(temporary, "whole")
        bar = tqdm(total=2 * classes * images, desc="drawing the demo set", unit="img", disable=None, leave=False)
        for split, name in enumerate(("train", "test")):
            lines = []
            for number in range(classes):
                r, label = recipe(seed, split, number), split * classes + number
                os.makedirs(os.path.join(whole, name, f"{label:03d}"))
                for i in range(images):
                    rng = np.random.default_rng([seed, split, 2, number, i])
                    path = f"{name}/{label:03d}/{i:04d}.jpg"
                    snapshot(r, rng).save(os.path.join(whole, path), quality=int(rng.integers(40, 92)))
                    lines.append(f"{path} {label}\n")
                    bar.update()
            Path(whole, f"{name}.txt").write_text("".join(lines))
        bar.close()
        Path(whole, "made.txt").write_text(description)
        os.replace(whole, folder)


def _note(folder: str | PathLike) -> str | None:
    """Return the text of made.txt in `folder`, which describes the demo set there; None without that file."""
    try:
        return Path(folder, "made.txt").read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the built-in demo set.")
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0, help="another seed invents other creatures")
    args = parser.parse_args()
    make_demo(args.folder, args.seed)
    print(f"{args.folder}: {(_note(args.folder) or '').strip()}")


if __name__ == "__main__":
    exit_on_error(main)
