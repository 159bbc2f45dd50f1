"""Checks whether a gallery's photos now lie in other folders.

If one folder has become another, the new paths are written into training/train.txt, the list of images to train on.

scripts/search_folder.sh runs this before it makes a new gallery:
python -m gallery.moved results/search/photos-123 ~/new/photos          # exit code 0 if the photos have moved, else 1
"""

import os
import sys
from collections.abc import Sequence

from data.lists import shown
from gallery.store import Gallery
from gallery.survey import survey
from utils.errors import InputError
from utils.files import written_whole

SHARE = 0.5  # of the gallery's photos that must be found again, by name, size and mtime


def is_moved(gallery: Gallery, folders: Sequence[str]) -> bool:
    """Return True if the folders of the gallery are gone, and at least half of its photos are in `folders`."""
    if not gallery.roots or any(os.path.exists(root) for root in gallery.roots):
        return False
    now = {(os.path.basename(file.path), file.size, file.mtime_ns) for file in survey(folders).files}
    again = sum((os.path.basename(file.path), file.size, file.mtime_ns) in now for file in gallery.files)
    return again >= SHARE * len(gallery)


def renew_list(file: str, old: str, new: str) -> None:
    """Put the new folder in the place of the old one in a training's list of images."""
    if not os.path.exists(file):
        return
    with open(file, encoding="utf-8", errors="surrogateescape") as lines:
        paths = [new + line.removeprefix(old) if line.startswith(os.path.join(old, "")) else line for line in lines]
    with written_whole(file) as changed:
        changed.write("".join(paths).encode("utf-8", "surrogateescape"))


def main() -> None:
    place, *folders = sys.argv[1:]
    try:
        gallery = Gallery(os.path.join(place, "ready-made"))
        moved = is_moved(gallery, folders)
    except InputError:
        sys.exit(1)
    if not moved:
        sys.exit(1)
    print(f"{', '.join(map(shown, gallery.roots))}: its photos have moved; their gallery is kept and updated", flush=True)
    if len(gallery.roots) == len(folders) == 1:
        renew_list(os.path.join(place, "training", "train.txt"), gallery.roots[0], folders[0])


if __name__ == "__main__":
    main()
