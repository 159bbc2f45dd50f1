"""The registry of data sets, their folders and their images. A new data set is one line in `Dict`.

A data set is a folder. Its train.txt names the images to train on; without one, training takes all images in the folder and
below it. test.txt, or query.txt and gallery.txt, name the test images and their labels, for tests.
"""

import os

from data import folders
from data.extensions import EXTENSIONS, INSTALL
from data.lists import ImageList, Paths, first_few, read_list, real_paths, refuse_overlap, shown
from utils import log
from utils.errors import InputError

# name for --data -> folder under --data_root
Dict = {
    "cub": "CUB_200_2011",
    "car": "Cars196",
    "product": "Products",
    "shop": "InShopClothes",
    "demo": "demo",  # made by data/demo.py
}

# folder -> K of Recall@K; for a folder that is not named here K is 1, 2, 4, 8, 16, 32
RECALL_KS = {"Products": (1, 10, 100, 1000), "InShopClothes": (1, 10, 20, 30, 40, 50)}


def recall_ks(folder: str) -> tuple[int, ...]:
    """Return the values of K in Recall@K for the data set in `folder`."""
    return RECALL_KS.get(os.path.basename(os.path.abspath(folder)), (1, 2, 4, 8, 16, 32))


def locate(data: str, data_root: str | None) -> str:
    """Return the folder of data set `data`, which is a name in `Dict`, the name of a folder under `data_root`, or a path."""
    root = data_root or "."
    if data_root and not os.path.isdir(root):
        reason = "no such folder; set DATA_ROOT to the folder that holds the data sets"
        raise InputError(f"{shown(root)}: {reason}", setting="data_root")
    folder = os.path.normpath(os.path.join(root, Dict.get(data, data)))
    for candidate in (folder, data):
        if data and os.path.isdir(candidate) and (candidate == folder or data not in Dict):
            return candidate
    if data in Dict:
        maker = f"python -m data.demo {shown(folder)}" if data == "demo" else f"scripts/prepare_data.sh {data}"
        remedy = f"set DATA_ROOT to the folder that holds {Dict[data]}/, or make it with {maker}"
        raise InputError(f"{shown(folder)}: no such folder; {remedy}")
    choices = f"{', '.join(Dict)}, the name of a folder under {shown(root)}, or a path"
    raise InputError(f"{shown(data) or '(nothing)'}: unknown; give one of {choices}", setting="data")


def read_train(folder: str) -> ImageList:
    """Read the images that train.txt names; without a train.txt, the images of `find_images` that no test list names.

    Labels are optional in train.txt, and None without it. Raises InputError for a faulty list (see `read_list`) and a folder
    without images. A folder named as in `Dict` must have its train.txt: without one it is half-made, and holds test images
    too. Without a train.txt, a faulty test list is an error as well: training would take the images that it should name.
    """
    if _has(folder, "train.txt") or os.path.basename(os.path.abspath(folder)) in Dict.values():
        return read_list(os.path.join(folder, "train.txt"), labels_required=False)
    images = find_images(folder)
    if not images:
        remedy = f"give one with images ({', '.join(EXTENSIONS)}) or with a train.txt"
        raise InputError(f"{shown(folder)}: no image in this folder or below it; {remedy}", setting="data")
    held_out: set[str] = set()
    for name in ("test.txt", "query.txt", "gallery.txt"):
        if _has(folder, name):
            listed = read_list(os.path.join(folder, name), labels_required=False, check_files=False)
            held_out.update(real_paths(listed.paths))
    if held_out:
        images = [path for path, real in zip(images, real_paths(images)) if real not in held_out]
    if not images:
        reason = "its test lists name all its images, none is left to train on; add images, or shorten the lists"
        raise InputError(f"{shown(folder)}: {reason}", setting="data")
    return ImageList(Paths(images), None, str(folder))


def find_images(folder: str) -> list[str]:
    """Return the sorted names of the images in `folder` and below it, as `data.folders.contents_of` finds them.

    Hidden files and folders and the thumbnails and bins of other programs are left out, and so are folders of training runs.
    Links are followed; each folder and file counts once. A sub-folder that may not be read is left out with a warning. Any
    other folder that cannot be read raises InputError.
    """
    try:
        contents = folders.contents_of([os.path.abspath(folder)])
    except InputError as error:
        raise InputError(str(error), setting="data") from None
    _say_what_is_left_out(shown(str(folder)), contents.left_out)
    return [image.path for image in contents.images]


def _say_what_is_left_out(folder: str, left_out: list[folders.LeftOut]) -> None:
    """Say what is left out that could be taken for images of the data set."""
    paths: dict[str, list[str]] = {}
    for entry in left_out:
        needs_package = entry.category == folders.NOT_READ and INSTALL in entry.why
        paths.setdefault(entry.why if needs_package else entry.category, []).append(entry.path)
    for category, names in sorted(paths.items()):
        what = f"({len(names)}): {first_few(names)}"
        if category == folders.RUN:
            log.say(f"{folder}: folders of training runs left out {what}")
        elif category == folders.CLOSED:
            log.warn(f"{folder}: left out folders that may not be read {what}")
        elif INSTALL in category:
            log.warn(f"{folder}: left out pictures {what}; they are {category}")
        elif category == folders.DEAD:
            log.warn(f"{folder}: left out links that lead nowhere {what}")
        elif category not in (folders.NOT_READ, folders.HIDDEN, folders.SPECIAL, folders.GONE):
            log.say(f"{folder}: left out, {category} {what}")


def _has(folder: str, name: str) -> bool:
    """Return True if the folder has the list `name`. A broken link counts: the images that it should name are unknown."""
    return os.path.lexists(os.path.join(folder, name))


def why_no_test(folder: str, gallery_eq_query: bool | None = None) -> str | None:
    """Return the reason why nothing can be tested, None when the test lists are in order. The images need not exist."""
    if not any(os.path.exists(os.path.join(folder, name)) for name in ("test.txt", "query.txt")):
        return "no test.txt or query.txt"
    for name in _test_lists(folder, gallery_eq_query):
        try:
            if read_list(os.path.join(folder, name), labels_required=False, check_files=False).labels is None:
                return f"{name} has no labels, or not on every line"
        except InputError as error:
            return str(error)
    return None


def read_test(folder: str, gallery_eq_query: bool | None = None) -> tuple[ImageList, ImageList]:
    """Read the test's (query, gallery) ImageLists; `gallery is query` when test.txt serves as both.

    gallery_eq_query: True takes test.txt, False takes query.txt and gallery.txt, None takes the lists that exist.
    Raises InputError for a faulty list, and for images that train.txt also names. The images of train.txt need not exist.
    A train.txt that cannot be read is only a warning: perhaps nobody trains here.
    """
    lists = [read_list(os.path.join(folder, name), labels_required=True) for name in _test_lists(folder, gallery_eq_query)]
    if _has(folder, "train.txt"):
        try:
            train = read_list(os.path.join(folder, "train.txt"), labels_required=False, check_files=False)
        except InputError as error:
            log.warn(f"not checked that no test image is also a training image: {error}")
        else:
            refuse_overlap(train, *lists)
    return lists[0], lists[-1]


def _test_lists(folder: str, gallery_eq_query: bool | None) -> tuple[str, ...]:
    """The names of the lists to test on."""
    if gallery_eq_query is None:
        test, query = (os.path.exists(os.path.join(folder, name)) for name in ("test.txt", "query.txt"))
        gallery_eq_query = test or not query
    return ("test.txt",) if gallery_eq_query else ("query.txt", "gallery.txt")
