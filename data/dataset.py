"""The registry of data sets, where they lie and which lists they have. A new data set is one line in `Dict`."""

import os

from data.lists import read_list, refuse_overlap, shown
from utils.errors import InputError

# name for --data -> folder under --data_root
Dict = {
    "cub": "CUB_200_2011",
    "car": "Cars196",
    "product": "Products",
    "shop": "InShopClothes",
    "demo": "demo",
}

# folder -> K of Recall@K, where the field's tables use other values than 1, 2, 4, 8, 16, 32
RECALL_KS = {"Products": (1, 10, 100, 1000), "InShopClothes": (1, 10, 20, 30, 40, 50)}


def recall_ks(folder):
    """The K of Recall@K for the data set in `folder`."""
    return RECALL_KS.get(os.path.basename(os.path.abspath(folder)), (1, 2, 4, 8, 16, 32))


def locate(data, data_root):
    """The folder of data set `data`: a name in `Dict`, the name of a folder under `data_root`, or a path."""
    root = data_root or "."
    if data_root and not os.path.isdir(root):
        raise InputError(f"--data_root {shown(root)}: no such folder; set DATA_ROOT to the folder that holds the data sets")
    folder = os.path.normpath(os.path.join(root, Dict.get(data, data)))
    for found in (folder, data):
        if os.path.isdir(found) and (found == folder or data not in Dict):
            return found
    if data in Dict:
        maker = f"python -m data.demo {shown(folder)}" if data == "demo" else f"scripts/prepare_data.sh {data}"
        raise InputError(f"{shown(folder)}: no such folder; set DATA_ROOT to the folder that holds {Dict[data]}/, "
                         f"or make it with {maker}")
    raise InputError(f"--data {shown(data)}: unknown; give one of {', '.join(Dict)}, the name of a folder under "
                     f"{shown(root)}, or a path")


def has_test(folder):
    """Whether `folder` has lists of held-out images."""
    return any(os.path.exists(os.path.join(folder, name)) for name in ("test.txt", "query.txt"))


def read_train(folder):
    """The ImageList of train.txt; labels are optional."""
    return read_list(os.path.join(folder, "train.txt"), labels_required=False)


def read_test(folder, gallery_eq_query=None):
    """The held-out (query, gallery) ImageLists; `gallery is query` when one list, test.txt, serves as both.

    gallery_eq_query: True takes test.txt, False takes query.txt and gallery.txt, None whichever is there.
    """
    test = os.path.join(folder, "test.txt")
    if gallery_eq_query is None:
        gallery_eq_query = os.path.exists(test) or not os.path.exists(os.path.join(folder, "query.txt"))
    if gallery_eq_query:
        query = gallery = read_list(test, labels_required=True)
    else:
        query, gallery = (read_list(os.path.join(folder, name), labels_required=True)
                          for name in ("query.txt", "gallery.txt"))
    train = os.path.join(folder, "train.txt")
    if os.path.exists(train):
        refuse_overlap(read_train(folder), query, *([] if gallery is query else [gallery]))
    return query, gallery
