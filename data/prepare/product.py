"""Stanford Online Products (Song et al. 2016), by its own split: 11,318 products for training, 11,316 others for tests.

Stanford_Online_Products.zip holds Ebay_train.txt and Ebay_test.txt, which begin with the header
`image_id class_id super_class_id path`, and the images in one folder for each of 12 super-classes.
"""

from data.prepare.layout import Image, integer, need, table
from utils.errors import InputError

FOLDER = "Products"
PAGE = "https://cvgl.stanford.edu/projects/lifted_struct/"
URLS = ("http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",)
ARCHIVE_HINT = "--archive Stanford_Online_Products.zip"
COUNTS = {"train": (59551, 11318), "test": (60502, 11316)}
LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
INDEX_FILES = tuple(LISTS.values())


def index(files: dict[str, bytes]) -> list[Image]:
    need(files, INDEX_FILES, ARCHIVE_HINT)
    images = []
    for split, name in LISTS.items():
        for number, (image_id, category, _, path) in table(files, name, 4, ARCHIVE_HINT):
            if image_id == "image_id":
                continue
            if path is None:
                raise InputError(f"{name}:{number}: expected `image_id class_id super_class_id path`; fetch it again")
            images.append(Image(path, f"{split}/{path}", split, integer(category, name, number)))
    return images
