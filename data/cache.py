"""Keeps the decoded images of a training list in memory. Decoding at each use would give the same pixels.

A cache on the disk would gain little, since JPEGs are decoded at a fraction of their size. Measured without any cache, on a
CPU with photos of 1600 x 1200 (scripts/benchmarks/input.py): a training step takes 1.03 to 1.09 times as long, a look at all
images 1.1 to 1.5 times. If your photos do not fit the memory and keep a GPU waiting, shrink the files once.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from data.images import Images, decoded_size
from data.lists import ImageList, Paths
from data.transforms import Transforms
from utils import log
from utils.errors import InputError
from utils.progress import bar

IMAGES_A_TASK = 64  # images that one task of the thread pool decodes
SMALL = 4e9  # bytes: `auto` keeps up to so many in memory, and never more than a quarter of the free memory


class Cached(Images):
    """Images whose pixels are already decoded; worker processes share them.

    places: int64 (N, 3), the offset, height and width of each image's pixels. Height 0 marks an unreadable image.
    pixels: uint8 (bytes,), the (height, width, 3) pixels of all images, one image after another.
    """

    def __init__(self, paths: Paths, transforms: Transforms, places: Tensor, pixels: Tensor) -> None:
        super().__init__(paths, transforms)
        self.places, self.pixels = places, pixels

    def __getitem__(self, index: int) -> Tensor:
        offset, height, width = self.places[index].tolist()
        if not height:
            return super().__getitem__(index)  # raises the InputError of the unreadable file
        return _view(self.pixels, offset, height, width)


def open_images(images: ImageList, transforms: Transforms, mode: str = "none") -> Images:
    """Open the images of a list. mode: "none" decodes an image at each use; "ram" decodes all images now; "auto" is "ram" up
    to SMALL bytes of pixels, else "none". Raises InputError when the pixels do not fit the free memory."""
    plain = Images(images.paths, transforms)
    free = _free_memory()
    few = min(SMALL, free / 4)
    if mode == "none" or mode == "auto" and 3 * transforms.origin_width**2 * len(images) > few:  # the least they can take
        return plain
    places, total = _survey(images.paths, transforms)
    if mode == "auto" and total > few:
        return plain
    if total > free:
        need = f"{total / 1e9:.1f} GB, but {free / 1e9:.1f} GB of memory are free"
        raise InputError(f"ram: the decoded images need {need}; take none, or a smaller origin_width", setting="cache")
    pixels = torch.empty(total, dtype=torch.uint8)
    _fill(pixels, places, plain)
    return Cached(images.paths, transforms, places, pixels)


def _view(pixels: Tensor, offset: int, height: int, width: int) -> Tensor:
    """Return one image out of the pixels of all images: uint8 (3, height, width), channels last in memory."""
    return pixels[offset : offset + 3 * height * width].view(height, width, 3).permute(2, 0, 1)


def _survey(paths: Paths, transforms: Transforms) -> tuple[Tensor, int]:
    """Return the `places` of Cached and the bytes that all pixels take, both read from the files' headers."""

    def size(path: str) -> tuple[int, int]:
        try:
            return decoded_size(path, transforms.origin_width)
        except InputError:
            return 0, 0

    sizes = np.array([size(path) for path in bar(paths, desc="measuring images", unit="img", leave=False)], dtype=np.int64)
    ends = np.cumsum(3 * sizes.prod(1))
    return torch.from_numpy(np.column_stack([np.concatenate([[0], ends[:-1]]), sizes])), int(ends[-1])


def _fill(pixels: Tensor, places: Tensor, images: Images) -> None:
    """Decode every image into its place, in threads. An image that cannot be decoded gets height 0."""

    def decode(begin: int) -> None:
        for index in range(begin, min(begin + IMAGES_A_TASK, len(images))):
            offset, height, width = places[index].tolist()
            if height:
                try:
                    image = images[index]
                    fits = image.shape[1:] == (height, width)  # no, if the file was replaced after it was measured
                except InputError:
                    fits = False
                if fits:
                    _view(pixels, offset, height, width).copy_(image)
                else:
                    places[index, 1] = 0
            progress.update()

    began, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of the pool take the cores
    try:
        progress = bar(total=len(images), desc="decoding images", unit="img", leave=False)
        with progress, ThreadPoolExecutor(threads) as pool:
            try:
                list(pool.map(decode, range(0, len(images), IMAGES_A_TASK)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
    log.say(f"decoded {len(images)} images into memory, {len(pixels) / 1e9:.2f} GB, in {time.perf_counter() - began:.1f} s")


def _free_memory() -> float:
    """Return the available memory in bytes; infinity where there is no /proc/meminfo."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")
