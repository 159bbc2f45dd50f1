"""Writes embedded images for TensorBoard's projector."""

import os

import torch

from data.lists import shown
from data.pictures import square
from evaluations.report.shown import Embedded
from utils.arrays import evenly

SIDE = 64  # pixels: the side of a picture
MOST = 1000  # images: TensorBoard takes all pictures as one of at most 8192 x 8192 pixels


def project(folder: str, embedded: Embedded) -> None:
    """Write an even sample of embedded images, with names and small pictures, to `folder`/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter  # utils.metrics says when it is missing

    kept = evenly(len(embedded.rows), MOST)
    names = [shown(os.path.basename(embedded.paths[row]), 60) for row in kept]
    pictures = torch.stack([square(embedded.paths[row], SIDE) for row in kept]).float() / 255
    with SummaryWriter(os.path.join(folder, "tensorboard")) as board:
        board.add_embedding(torch.from_numpy(embedded.rows[kept]), names, pictures, tag="images")
