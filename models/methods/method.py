"""What a method is: the interface between the loop of train.py and the ways to learn an embedding."""

import argparse
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.lists import ImageList
from data.sampler import Draw
from data.views import Batch
from models.embedder import Embedder
from utils.features import Look


class Method(nn.Module):
    """A way to train an Embedder: it holds the Embedder and whatever else it learns, such as heads, a teacher or a memory.

    What must survive a stop is a parameter, a buffer, or in `get_extra_state`: resuming knows nothing of methods. Random
    numbers come from the settings' seed and the epoch, or from torch's generator, which is seeded before every step.
    """

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__()
        self.embedder, self.settings = embedder, settings
        self.true_labels, self.source = images.labels, images.source  # for the log and for errors, and for nothing else

    @staticmethod
    def flags(parser: Any) -> None:
        """Add the method's own flags, each with when to change it. parser: as argparse's, with `add_argument`."""

    def param_groups(self) -> list[dict]:
        """What the optimiser trains, as torch.optim takes it; none for a method that trains nothing."""
        return [{"params": list(self.parameters())}]

    def looks(self, epoch: int) -> Look | None:
        """The features of all images that it wants to look at before this epoch; None for no look.

        Where it asks for descriptions, the parts of the closed form side by side, `trained().closed_form` knows their sizes.
        """
        return None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        """Make labels, neighbours, ... of the features that it asked for. Returns what it made, for the log.

        features: float32 (n, d), rows of length 1. rows: int64 (n,), which of the N images they are of; the others cannot
        be read. It runs in one process; the others then get its parameters, buffers and extra state.
        """
        raise NotImplementedError(f"{type(self).__name__} looks at images but does not say what for")

    def draws(self, epoch: int) -> Iterable[list[Draw]]:
        """The rows of each step of an epoch; best with a length, for the progress bar.

        A run that goes on in the middle of an epoch asks again, and leaves out the steps it has made: draws may depend on
        the epoch and on what `prepare` made, not on what steps change. Rows of one image and seed stay next to each other.
        """
        return []

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """images (m, 3, H, W), uint8 and on the CPU, as `Embedder.pool` takes them -> tensors (m, ...) by name.

        Row i depends on image i alone, so that a batch can be split over pieces and processes.
        """
        raise NotImplementedError

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar, and scalars by name to log; a "lowest" similarity among them is not logged but watched for collapse.

        out: all rows of the batch, over all pieces and processes; batch: its fields in the same order, without images, on
        the CPU. The loss must depend on every output and every parameter that is trained, by 0 if need be: processes wait
        for the gradients of all.
        """
        raise NotImplementedError

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        """After the optimiser's step, without gradients: move a teacher, fill a memory."""

    def trained(self) -> Embedder:
        """The Embedder to look with, to test and to save."""
        return self.embedder


def fill(buffer: Tensor, rows: np.ndarray, values: np.ndarray, others: int) -> None:
    """Set rows of a buffer (N, ...), int64 (n,), to values (n, ...), and all other rows to one number, in place."""
    buffer.fill_(others)
    buffer[torch.from_numpy(rows).to(buffer.device)] = torch.from_numpy(values).to(buffer)


@torch.no_grad()
def move(average: nn.Module, net: nn.Module, share: float) -> None:
    """Move a net by a share of the way to another of its kind, in place: weights and statistics of BatchNorm. Counters are
    copied."""
    there = net.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(there[name], share)
        else:
            value.copy_(there[name])
