"""Image file -> uint8 views. Normalising waits until the batch is on its device: four times less to move."""

from contextlib import contextmanager

import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from utils.errors import InputError


class Transforms:
    """The crops of one run.

    width: side of the square views. origin_width: length of an image's shorter side before cropping.
    ratio: smallest share of the image's area that a random crop takes.
    """

    def __init__(self, width=227, origin_width=256, ratio=0.16):
        if not 0 < width <= origin_width:
            raise InputError(f"--width {width} does not fit --origin_width {origin_width}: it must be 1 to origin_width")
        if not 0 < ratio <= 1:
            raise InputError(f"--ratio {ratio} is not a share of the image's area: give 0 < ratio <= 1")
        self.width, self.origin_width = width, origin_width
        self._random = v2.Compose([v2.RandomResizedCrop(width, scale=(ratio, 1.0), antialias=True),
                                   v2.RandomHorizontalFlip()])

    def load(self, path):
        """Decode to RGB, upright, shorter side `origin_width`: uint8 (3, H, W). InputError names an unreadable file."""
        try:
            with Image.open(path) as image:
                image = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).replace(str(path), "").strip() or type(error).__name__
            raise InputError(f"{path}: cannot be read as an image ({reason})") from None
        return F.resize(F.pil_to_tensor(image), [self.origin_width], antialias=True)

    def centre_crop(self, image):
        """uint8 (3, H, W) -> uint8 (3, width, width)."""
        return F.center_crop(image, [self.width, self.width])

    @contextmanager
    def seeded(self, seed):
        """`with transforms.seeded(n) as crop`: crop(image) is a random resized crop, flipped half of the time.

        torchvision draws from torch's global generator; inside the block it is seeded with n, afterwards it is as it
        was. A view thus depends on its seed alone, not on the worker that makes it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield self._random


class Normalise:
    """uint8 RGB batch (N, 3, H, W) -> float32 on `device`, as the backbone's Preprocessing (mean, std, bgr) says."""

    def __init__(self, preprocessing, device="cpu", channels_last=False):
        self.bgr, self.device = preprocessing.bgr, device
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32, device=device).view(1, 3, 1, 1)
                               for v in (preprocessing.mean, preprocessing.std))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images):
        images = images.to(self.device, non_blocking=True).float()
        images = (images.flip(1) if self.bgr else images).sub(self.mean).div(self.std)
        return images.contiguous(memory_format=self.memory_format)
