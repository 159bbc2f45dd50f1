"""Runs the forward and backward pass of a training step: over several processes, and in small pieces to save memory."""

import gc
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError

Outputs = dict[str, Tensor]  # name -> a row for each image


class ForwardBackward:
    """`forward` gives a method's outputs for a batch; `backward` gives a loss's gradients of the method's parameters.

    With `micro_batch`, at most so many images are in the network at once (GradCache, Gao et al. 2021, arXiv 2101.06983,
    section 3.2). A first pass without gradients gives the outputs of the whole batch, and the loss its gradient by each
    output. A second pass, piece by piece, carries these gradients to the weights. The gradient is that of a single pass,
    at the price of one more forward pass. Splitting the loss instead would lose the pairs across pieces.
    """

    def __init__(self, method: nn.Module, compute: Compute, group: Group, micro_batch: int = 0) -> None:
        """method: a module on its device, which is called with (images, batch). micro_batch: 0 for one pass."""
        method.train()
        batch_norm = any(isinstance(module, _BatchNorm) and module.training for module in method.modules())
        if micro_batch and batch_norm:
            what = f"{micro_batch} needs frozen BatchNorm (freeze_BN, with pretrained weights)"
            raise InputError(f"{what}: the statistics of a piece differ from the batch's", setting="micro_batch")
        self.local = method
        self.wrapped: Any = method
        # A method that trains nothing has no gradients to average.
        if group.size > 1 and any(parameter.requires_grad for parameter in method.parameters()):
            # the wrapper also gives all processes the weights of the first
            self.wrapped = DistributedDataParallel(method, forward_sync_buffers=batch_norm)
        self.compute, self.micro_batch = compute, micro_batch
        # All processes make two passes, even if a share fits into one piece: so they communicate in the same order.
        self.always_two = micro_batch and group.size > 1
        self._pieces: list[tuple[Any, int]] = []  # (part of the batch, seed of its random numbers) of a forward in pieces

    def forward(self, batch: Any) -> Outputs:
        """Return the outputs for a data.views.Batch. They carry gradients: make a loss of them, and call `backward`."""
        self._pieces, count = [], len(batch.images)
        if not self.micro_batch or count <= self.micro_batch and not self.always_two:
            return {name: rows[:count] for name, rows in self._run(self.wrapped, batch).items()}
        # dropout must draw the same numbers in both passes
        seeds = torch.randint(2**62, (max(1, -(-count // self.micro_batch)),)).tolist()
        parts = []
        with torch.no_grad():
            for piece, seed in enumerate(seeds):
                rows = slice(piece * self.micro_batch, (piece + 1) * self.micro_batch)
                self._pieces.append((type(batch)(*(field[rows] for field in batch)), seed))
                parts.append(self._run(self.local, *self._pieces[-1]))
        self._outputs = {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}
        for output in self._outputs.values():
            output.requires_grad_(output.is_floating_point())
        return self._outputs

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of all parameters. loss: a scalar made of the outputs of `forward`."""
        loss.backward()
        last, done = len(self._pieces) - 1, 0
        reached = []
        if self.wrapped is not self.local:
            # The loss's own parameters have their gradients now. The last piece includes them, so that processes share them.
            reached = [parameter for parameter in self.local.parameters() if parameter.grad is not None]
        for number, (piece, seed) in enumerate(self._pieces):
            alone = self.wrapped is not self.local and number < last  # processes share gradients once, at the last piece
            with self.wrapped.no_sync() if alone else nullcontext():
                outputs, count = self._run(self.wrapped, piece, seed), len(piece.images)
                pairs = [(rows[:count], self._outputs[name].grad) for name, rows in outputs.items() if rows.requires_grad]
                ends = [(rows, grad[done : done + count]) for rows, grad in pairs if grad is not None]
                if number == last and reached:
                    zero = torch.stack([parameter.sum() for parameter in reached]).sum() * 0
                    ends.append((zero, torch.ones_like(zero)))
                torch.autograd.backward([rows for rows, _ in ends], [grad for _, grad in ends])
            done += count
        self._pieces = []

    def close(self) -> None:
        """Drop DistributedDataParallel. Call it at the end of the run, before the processes part."""
        self.wrapped = self.local
        gc.collect()

    def _run(self, module: nn.Module, batch: Any, seed: int | None = None) -> Outputs:
        if not len(batch.images):  # other processes have images, so this one has to take part
            batch = type(batch)(*(field.new_zeros(1, *field.shape[1:]) for field in batch))
        if seed is not None:
            torch.manual_seed(seed)
        with self.compute.autocast():
            return module(batch.images, batch)
