"""In-shop Clothes Retrieval (DeepFashion, Liu et al. 2016): a train split, and queries with a gallery of their own.

list_eval_partition.txt begins with the number of images and the header `image_name item_id evaluation_status`; the
status is train, query or gallery. img.zip holds the images, img/WOMEN/Dresses/id_00000002/02_1_front.jpg.
"""

from data.prepare.layout import Image, need, table
from utils.errors import InputError

FOLDER = "InShopClothes"
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html"
URLS: tuple[str, ...] = ()  # behind an agreement
ARCHIVE_HINT = "--archive img.zip list_eval_partition.txt"
COUNTS = {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)}
LIST = "list_eval_partition.txt"
INDEX_FILES = (LIST,)
PLACES = {"train": "train", "query": "test", "gallery": "test"}


def index(files: dict[str, bytes]) -> list[Image]:
    need(files, INDEX_FILES, ARCHIVE_HINT)
    images = []
    for number, (source, item, status) in table(files, LIST, 3, ARCHIVE_HINT, path_last=False):
        if source == "image_name" or (number == 1 and item is None):
            continue
        if status not in PLACES:
            expected = f"expected `image_name item_id train|query|gallery`, found status {status!r}"
            raise InputError(f"{LIST}:{number}: {expected}; fetch it again")
        images.append(Image(source, f"{PLACES[status]}/{source.removeprefix('img/')}", status, item))
    return images
