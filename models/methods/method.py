"""The interface of a method: the loop of train.py calls it to learn an embedding."""

import argparse
from collections.abc import Iterable, Sequence
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

    State that must survive a stop is a parameter, a buffer, or in `get_extra_state`: resuming knows nothing of methods.
    Random numbers come from the settings' seed and the epoch, or from torch's generator, which every step seeds first.
    """

    of_look: Sequence[str] = ()  # large buffers that only `prepare` changes; a run writes them once, beside its checkpoints

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__()
        self.embedder, self.settings = embedder, settings
        self.true_labels, self.source = images.labels, images.source  # for the log and for errors only

    @staticmethod
    def flags(parser: Any) -> None:
        """Add the method's own flags; each help text says when to change the flag. parser: has argparse's `add_argument`."""

    def param_groups(self) -> list[dict]:
        """Return the parameter groups for torch.optim; no group for a method that trains nothing."""
        return [{"params": list(self.parameters())}]

    def looks(self, epoch: int) -> Look | None:
        """Return which features of all images the method needs before this epoch; None for no look.

        A description holds the parts of the closed form side by side; `trained().closed_form` knows the sizes of the parts.
        """
        return None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        """Make labels, neighbours, ... from the features that `looks` requested. Returns a line about them for the log.

        features: float32 (n, d), rows of length 1. rows: int64 (n,), the image of each row, among N; the other images cannot
        be read. One process runs this, and then shares its parameters, buffers and extra state with the others.
        """
        raise NotImplementedError(f"{type(self).__name__} looks at images but has no `prepare`")

    def draws(self, epoch: int) -> Iterable[list[Draw]]:
        """Return the rows of each step of an epoch; best with a length, for the progress bar.

        A run resumed within an epoch calls this again and skips the steps already made. Draws may therefore depend on the
        epoch and on the results of `prepare`, but not on steps. Rows of one image and seed stay next to each other.
        """
        return []

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Turn images (m, 3, H, W), uint8 on the CPU, as `Embedder.pool` takes them, into tensors (m, ...) by name.

        Row i depends on image i alone, so that a batch can be split over pieces and processes.
        """
        raise NotImplementedError

    def loss(self, out: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a scalar, and scalars by name for the log; "lowest", a similarity, is not logged but watched for collapse.

        out: all rows of the batch, from all pieces and processes. batch: its fields in the same order, without images, on
        the CPU. The loss must depend on every output and every trained parameter, if only times 0: processes wait for
        all gradients.
        """
        raise NotImplementedError

    def after_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        """Move a teacher or fill a memory after the optimiser's step, without gradients."""

    def trained(self) -> Embedder:
        """Return the Embedder to look with, to test and to save."""
        return self.embedder


def fill(buffer: Tensor, rows: np.ndarray, values: np.ndarray, others: int) -> None:
    """Set `rows`, int64 (n,), of a buffer (N, ...) to values (n, ...), and all other rows to `others`, in place."""
    buffer.fill_(others)
    buffer[torch.from_numpy(rows).to(buffer.device)] = torch.from_numpy(values).to(buffer)


@torch.no_grad()
def move(average: nn.Module, net: nn.Module, share: float) -> None:
    """Move `average` a share of the way to `net`, a net of the same layers, in place: weights and BatchNorm statistics.
    Counters are copied."""
    there = net.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(there[name], share)
        else:
            value.copy_(there[name])


@torch.no_grad()
def shift(net: nn.Module, start: nn.Module, end: nn.Module, share: float) -> None:
    """Add a share of the difference `end` - `start` to `net`, in place: weights and BatchNorm statistics.
    Counters are copied from `end`. All three nets have the same layers."""
    here, there = start.state_dict(), end.state_dict()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.add_(there[name] - here[name], alpha=share)
        else:
            value.copy_(there[name])
