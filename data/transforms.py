"""Image file -> uint8 views. Normalising waits until the batch is on its device: four times less to move."""

from contextlib import contextmanager

import torch
from torchvision.transforms import RandomResizedCrop

from data.images import decode, resize
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
        self.width, self.origin_width, self.ratio = width, origin_width, ratio

    def load(self, path):
        """Decode to RGB, upright, shorter side `origin_width`: uint8 (3, H, W). InputError names an unreadable file."""
        return decode(path, self.origin_width)

    def centre_crop(self, image):
        """uint8 (3, H, W) -> uint8 (3, width, width)."""
        top, left = (int(round((side - self.width) / 2)) for side in image.shape[1:])  # as torchvision rounds
        return image[:, top:top + self.width, left:left + self.width]

    def random_crop(self, image):
        """uint8 (3, H, W) -> uint8 (3, width, width): a random resized crop, flipped half of the time.

        Boxes and flips are torchvision's, drawn from torch's global generator in the order of RandomResizedCrop and
        RandomHorizontalFlip.
        """
        top, left, height, width = RandomResizedCrop.get_params(image, [self.ratio, 1.0], [3 / 4, 4 / 3])
        crop = resize(image[:, top:top + height, left:left + width], (self.width, self.width))
        return crop.flip(2) if torch.rand(1) < 0.5 else crop

    @contextmanager
    def seeded(self, seed):
        """`with transforms.seeded(n) as crop`: crop is random_crop with random numbers of its own.

        torchvision draws from torch's global generator; inside the block it is seeded with n, afterwards it is as it
        was. A view thus depends on its seed alone, not on the worker that makes it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield self.random_crop


class Normalise:
    """uint8 RGB batch (N, 3, H, W) -> float32 on `device`, as the backbone's Preprocessing (mean, std, bgr) says."""

    def __init__(self, preprocessing, device="cpu", channels_last=False):
        self.bgr, self.device = preprocessing.bgr, device
        mean, std = (torch.tensor(v, dtype=torch.float32, device=device) for v in (preprocessing.mean, preprocessing.std))
        self.scale, self.shift = 1 / std, -mean / std
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images):
        images = images.to(self.device, non_blocking=True)
        images = (images.flip(1) if self.bgr else images).to(torch.float32, memory_format=self.memory_format)
        if self.memory_format == torch.channels_last:  # whole rows at once: an inner loop over 3 channels is slow
            rows = images.permute(0, 2, 3, 1).flatten(2)  # (N, H, 3W), a view
            scale, shift = (numbers.repeat(images.shape[3]) for numbers in (self.scale, self.shift))
        else:
            rows, scale, shift = images, self.scale.view(3, 1, 1), self.shift.view(3, 1, 1)
        torch.addcmul(shift, rows, scale, out=rows)
        return images
