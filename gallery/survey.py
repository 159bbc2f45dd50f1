"""Lists the image files to embed: the images of a folder or of a list file."""

import os
import stat
from typing import NamedTuple

from data.dataset import find_images
from data.lists import EXTENSIONS, first_few, read_list, real_paths, shown
from gallery.table import Bad, Detail, File, LeftOut
from utils import log
from utils.errors import InputError


class Survey(NamedTuple):
    files: list[File]  # in order of their paths
    gone: list[Bad]  # missing files, most of them named by a list
    roots: list[str]  # the folders of the images
    details: list[Detail]  # of the files
    left_out: list[LeftOut]


def survey(images: str) -> Survey:
    """Find the image files of `images`, a folder or a list file.

    Links that lead out of the folder are left out: a page should show only images that lie in the folder.
    Raises InputError if there is nothing to embed.
    """
    root = os.path.abspath(images) if os.path.isdir(images) else None
    if root:
        try:
            paths = _inside(find_images(root), root)
        except InputError as error:
            raise InputError(str(error), setting="images") from None
    elif os.path.exists(images):
        listed = read_list(images, labels_required=False, check_files=False).paths
        paths = sorted(set(real_paths(listed)))  # resolved now: links may change later, so the page follows none
    else:
        raise InputError(f"{shown(images)}: no such folder or list", setting="images")
    if not paths:
        raise InputError(f"{shown(images)}: no image in it ({', '.join(EXTENSIONS)})", setting="images")
    files, gone, details = [], [], list[Detail]()
    for path in paths:
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # a pipe might never end
                raise OSError(0, "not a file")
            files.append(File(path, status.st_size, status.st_mtime_ns))
            details.append(Detail(status.st_ctime_ns, status.st_ino, status.st_dev))
        except OSError as error:
            gone.append(Bad(File(path, 0, 0), f"{shown(path)}: {error.strerror}"))
    return Survey(files, gone, [root] if root else [], details, [])


def _inside(paths: list[str], root: str) -> list[str]:
    """Return the paths that stay inside the folder `root`; the log names the others."""
    real_root = os.path.join(os.path.realpath(root), "")
    leads_out = [not real.startswith(real_root) for real in real_paths(paths)]
    outside = [path for path, out in zip(paths, leads_out) if out]
    if outside:
        log.say(f"{shown(root)}: left out links that lead out of this folder ({len(outside)}): {first_few(outside)}")
    return [path for path, out in zip(paths, leads_out) if not out]
