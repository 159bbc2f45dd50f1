"""CUB-200-2011 (Wah et al. 2011): the first 100 bird species are for training, the other 100 for tests.

CUB_200_2011.tgz holds images.txt (`image_id class_folder/file`), image_class_labels.txt (`image_id class_id`, from 1)
and images/. Its train_test_split.txt splits within classes and is not used in metric learning.
"""

from data.prepare.layout import Image, integer, need, table
from utils.errors import InputError

FOLDER = "CUB_200_2011"
PAGE = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
URLS = ("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",)
ARCHIVE_HINT = "--archive CUB_200_2011.tgz"
COUNTS = {"train": (5864, 100), "test": (5924, 100)}
INDEX_FILES = ("images.txt", "image_class_labels.txt")
TRAIN_CLASSES = 100


def index(files: dict[str, bytes]) -> list[Image]:
    need(files, INDEX_FILES, ARCHIVE_HINT)
    classes = {}
    for number, (image_id, category) in table(files, "image_class_labels.txt", 2, ARCHIVE_HINT):
        classes[image_id] = integer(category, "image_class_labels.txt", number)
    images = []
    for number, (image_id, path) in table(files, "images.txt", 2, ARCHIVE_HINT):
        if path is None or image_id not in classes:
            what = f"image {image_id!r} has no path, or no class in image_class_labels.txt"
            raise InputError(f"images.txt:{number}: {what}; fetch the archive again")
        split = "train" if classes[image_id] <= TRAIN_CLASSES else "test"
        images.append(Image(f"images/{path}", f"{split}/{path}", split, classes[image_id]))
    return images
