"""Turns image files into uint8 views."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from data.images import decode_picture, resize
from data.pixels import MEMORY, Picture
from data.reports import warn_once
from utils.errors import InputError


class Transforms:
    """Makes the crops of one run.

    width: side of the square views. origin_width: length of an image's shorter side before cropping.
    ratio: smallest share of the image's area that a random crop takes.
    """

    def __init__(self, width: int = 227, origin_width: int = 256, ratio: float = 0.16) -> None:
        if not 0 < width <= origin_width:
            reason = f"does not fit an image of origin_width {origin_width}: it must be 1 to {origin_width}"
            raise InputError(f"{width} {reason}", setting="width")
        if not 0 < ratio <= 1:
            raise InputError(f"{ratio} is not a share of the image's area: give 0 < ratio <= 1", setting="ratio")
        self.width, self.origin_width, self.ratio = width, origin_width, ratio
        self.detail, self.memory = 0, MEMORY  # of data.pixels.read; a gallery sets them

    def load(self, path: str) -> Tensor:
        """Read a file: uint8 (3, H, W), RGB, upright, shorter side `origin_width`. InputError names an unreadable file."""
        image, picture = self.load_picture(path)
        warn_once(path, picture.notes)
        return image

    def load_picture(self, path: str) -> tuple[Tensor, Picture]:
        """Read a file as `load` does, without warnings, and return the picture as it was decoded too."""
        return decode_picture(path, self.origin_width, self.detail, self.memory)

    def centre_crop(self, image: Tensor) -> Tensor:
        """Crop the centre: uint8 (3, H, W) -> uint8 (3, width, width)."""
        top, left = (int(round((side - self.width) / 2)) for side in image.shape[1:])  # as torchvision rounds
        return image[:, top : top + self.width, left : left + self.width]

    def random_crop(self, image: Tensor, ratio: float | None = None) -> Tensor:
        """Crop at random, resize, and flip half of the time: uint8 (3, H, W) -> uint8 (3, width, width).

        ratio: replaces the run's own. The random numbers come from torch's global generator, in the order in which
        torchvision's RandomResizedCrop and RandomHorizontalFlip draw them.
        """
        from torchvision.transforms import RandomResizedCrop  # takes a second to import

        top, left, height, width = RandomResizedCrop.get_params(image, [ratio or self.ratio, 1.0], [3 / 4, 4 / 3])
        crop = resize(image[:, top : top + height, left : left + width], (self.width, self.width))
        return crop.flip(2) if torch.rand(1) < 0.5 else crop

    @contextmanager
    def seeded(self, seed: int) -> Iterator[Callable[..., Tensor]]:
        """`with transforms.seeded(n) as crop` gives random_crop with random numbers that depend on n alone.

        Inside the block, torch's global generator, which torchvision draws from, is seeded with n. Afterwards its state is
        restored. A view then does not depend on the worker that makes it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield self.random_crop
