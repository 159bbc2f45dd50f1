"""Cars196 (Krause et al. 2013): the first 98 models are for training, the other 98 for tests. It has two official forms.

- car_ims.tgz with cars_annos.mat: `annotations` has relative_im_path (car_ims/000001.jpg) and class (from 1).
- cars_train.tgz, cars_test.tgz and car_devkit.tgz: one `annotations` for each part, with fname (00001.jpg, the same
  names in both parts) and class. The devkit's cars_test_annos.mat has no classes, cars_test_annos_withlabels.mat has.
  Both parts hold all 196 classes, so they are merged and split again by class.
"""

import io

from data.prepare.layout import Image, need
from utils.errors import InputError

FOLDER = "Cars196"
PAGE = "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
URLS = ("http://ai.stanford.edu/~jkrause/car196/car_ims.tgz", "http://ai.stanford.edu/~jkrause/car196/cars_annos.mat")
ARCHIVE_HINT = (
    "--archive car_ims.tgz cars_annos.mat, or --archive cars_train.tgz cars_test.tgz car_devkit.tgz "
    "cars_test_annos_withlabels.mat"
)
COUNTS = {"train": (8054, 98), "test": (8131, 98)}
WHOLE = "cars_annos.mat"
PARTS = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
INDEX_FILES = (WHOLE, *PARTS.values())
TRAIN_CLASSES = 98


def index(files: dict[str, bytes]) -> list[Image]:
    if WHOLE in files:
        annotated = _annotations(files, WHOLE, "relative_im_path")
        rows = [(path, path.removeprefix("car_ims/"), category) for path, category in annotated]
    else:
        if not any(name in files for name in PARTS.values()):
            need(files, [WHOLE], ARCHIVE_HINT)
        need(files, PARTS.values(), ARCHIVE_HINT)
        read = {part: _annotations(files, name, "fname") for part, name in PARTS.items()}
        rows = [(f"{part}/{file}", f"{part}/{file}", category) for part in read for file, category in read[part]]
    images = []
    for source, path, category in rows:
        split = "train" if category <= TRAIN_CLASSES else "test"
        images.append(Image(source, f"{split}/{path}", split, category))
    return images


def _annotations(files: dict[str, bytes], name: str, path_field: str) -> list[tuple[str, int]]:
    """(path, class) for each entry of the struct array `annotations` in a MATLAB file."""
    import numpy as np
    from scipy.io import loadmat  # here, because only this data set needs it

    try:
        entries = np.atleast_1d(loadmat(io.BytesIO(files[name]), squeeze_me=True)["annotations"])
        return [(str(path), int(category)) for path, category in zip(entries[path_field], entries["class"])]
    except Exception as error:  # the reader raises nearly anything for a damaged file
        what = f"not a MATLAB file with annotations.{path_field} and annotations.class ({type(error).__name__})"
        raise InputError(f"{name}: {what}; fetch it again") from error
