"""Pixels -> the input of a backbone."""

import torch
from torch import Tensor, nn

from models.backbones import Preprocessing


class Normalise(nn.Module):
    """uint8 RGB images (N, 3, H, W) -> float32, normalised by a backbone's Preprocessing (mean, std, bgr).

    Images move to the module's device first: uint8 is four times less to move. layout: the memory format of the result.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.bgr = preprocessing.bgr
        mean, std = (torch.tensor(numbers, dtype=torch.float32) for numbers in (preprocessing.mean, preprocessing.std))
        self.register_buffer("scale", 1 / std, persistent=False)  # not saved: the net's name determines them
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
        images = images.to(self.scale.device, non_blocking=True)
        images = (images.flip(1) if self.bgr else images).to(self.scale.dtype, memory_format=layout)
        if layout == torch.channels_last:  # whole rows at once: an inner loop over 3 channels is slow
            rows = images.permute(0, 2, 3, 1).flatten(2)  # (N, H, 3W), a view
            scale, shift = (numbers.repeat(images.shape[3]) for numbers in (self.scale, self.shift))
        else:
            rows, scale, shift = images, self.scale.view(3, 1, 1), self.shift.view(3, 1, 1)
        torch.addcmul(shift, rows, scale, out=rows)
        return images
