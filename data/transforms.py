"""Image file -> uint8 views."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from data.images import decode, resize
from utils.errors import InputError


class Transforms:
    """The crops of one run.

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

    def load(self, path: str) -> Tensor:
        """The file as RGB, upright, shorter side `origin_width`: uint8 (3, H, W). InputError names an unreadable one."""
        return decode(path, self.origin_width)

    def centre_crop(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) -> uint8 (3, width, width)."""
        top, left = (int(round((side - self.width) / 2)) for side in image.shape[1:])  # as torchvision rounds
        return image[:, top : top + self.width, left : left + self.width]

    def random_crop(self, image: Tensor, ratio: float | None = None) -> Tensor:
        """uint8 (3, H, W) -> uint8 (3, width, width): a random resized crop, flipped half of the time.

        ratio: in place of the run's own.

        It draws from torch's global generator what torchvision's RandomResizedCrop and RandomHorizontalFlip would draw.
        """
        from torchvision.transforms import RandomResizedCrop  # takes a second to import

        top, left, height, width = RandomResizedCrop.get_params(image, [ratio or self.ratio, 1.0], [3 / 4, 4 / 3])
        crop = resize(image[:, top : top + height, left : left + width], (self.width, self.width))
        return crop.flip(2) if torch.rand(1) < 0.5 else crop

    @contextmanager
    def seeded(self, seed: int) -> Iterator[Callable[..., Tensor]]:
        """`with transforms.seeded(n) as crop`: crop is random_crop with random numbers of its own.

        Inside the block torch's global generator, from which torchvision draws, is seeded with n; afterwards it is as
        before. So a view depends on its seed alone, not on the worker that makes it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield self.random_crop
