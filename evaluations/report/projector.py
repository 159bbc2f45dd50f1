"""Embedded images for TensorBoard's projector."""

import os

import torch

from data.images import decode
from data.lists import shown
from evaluations.report.shown import Embedded
from utils.errors import InputError
from utils.spread import evenly

SIDE = 64  # pixels of a picture
MOST = 1000  # images: their pictures are one of at most 8192 x 8192 pixels, in which TensorBoard wants them


def project(folder: str, embedded: Embedded) -> None:
    """Write some embedded images, their names and small pictures, to `folder`/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter  # utils.metrics says when it is missing

    kept = evenly(len(embedded.rows), MOST)
    names = [shown(os.path.basename(embedded.paths[row]), 60) for row in kept]
    pictures = torch.stack([_picture(embedded.paths[row]) for row in kept])
    with SummaryWriter(os.path.join(folder, "tensorboard")) as board:
        board.add_embedding(torch.from_numpy(embedded.rows[kept]), names, pictures, tag="images")


def _picture(path: str) -> torch.Tensor:
    """float32 (3, SIDE, SIDE) in 0..1, the middle of an image; grey where the file is gone."""
    try:
        pixels = decode(path, SIDE)
    except InputError:
        return torch.full((3, SIDE, SIDE), 0.5)
    top, left = ((length - SIDE) // 2 for length in pixels.shape[1:])
    return pixels[:, top : top + SIDE, left : left + SIDE].float() / 255
