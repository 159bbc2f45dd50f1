"""Lets several processes, started by torchrun, train one model together. A single process is a group of one.

Every process holds the whole model and makes its share of every batch. `Group.gather` then gives all processes the whole
batch, and each computes the same loss. DistributedDataParallel averages the gradients.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.errors import RunError

ROWS_AT_ONCE = 2**16  # rows in one message
LOST = ("gloo", "nccl", "connection", "socket", "broken pipe", "process group")


def cores_here(most: int = 8) -> int:
    """Return this process's share of the machine's cores, 1 to `most`: a good number of data loading processes."""
    return min(most, max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class Group:
    """The `size` processes of a run. This one is number `rank`. All processes must make each collective call, or none."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows x (n, ...) of all processes in their order: (sum of n, ...). n may differ between processes.

        Every process has to compute the same loss from the result, and DistributedDataParallel has to average the gradients.
        Then the gradients equal the gradients of one process with the whole batch.
        """
        return x if self.size == 1 else _Gather.apply(x, self)

    def total(self, *numbers: int) -> Sequence[int]:
        """Return the sum of each number over the processes, as ints."""
        if self.size == 1:
            return numbers
        sums = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(sums)
        return sums.tolist()

    def sum(self, x: Tensor) -> Tensor:
        """Sum a CPU tensor over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def share_object(self, x: Any) -> Any:
        """Return process 0's x in all processes."""
        if self.size > 1:
            box = [x]
            dist.broadcast_object_list(box, src=0)
            x = box[0]
        return x

    def gather_objects(self, x: Any) -> list:
        """Return [x of process 0, x of process 1, ...], for small objects."""
        if self.size == 1:
            return [x]
        everyone: list = [None] * self.size
        dist.all_gather_object(everyone, x)
        return everyone

    def stretch(self, count: int) -> range:
        """Return this process's part of range(count). The parts follow each other in the order of the processes."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def collect(self, rows: np.ndarray, used: int) -> None:
        """Send each process's first `used` rows to process 0, which puts them behind its own, in order.

        rows: a NumPy array (n, d); in process 0 it has room for the rows of all processes.
        """
        counts = self.gather_objects(used)
        if self.rank:
            for start in range(0, used, ROWS_AT_ONCE):
                dist.send(torch.from_numpy(rows[start : min(start + ROWS_AT_ONCE, used)]), dst=0)
        else:
            for sender in range(1, self.size):
                end = used + counts[sender]
                for start in range(used, end, ROWS_AT_ONCE):
                    dist.recv(torch.from_numpy(rows[start : min(start + ROWS_AT_ONCE, end)]), src=sender)
                used = end

    def share_state(self, module: nn.Module) -> None:
        """Give all processes the parameters, buffers and extra state that a module has in process 0."""
        if self.size == 1:
            return
        state = module.state_dict()
        extra = self.share_object({name: value for name, value in state.items() if not isinstance(value, Tensor)})
        for value in state.values():
            if isinstance(value, Tensor):
                dist.broadcast(value, src=0)  # in place
        module.load_state_dict({**state, **extra})

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let process 0 finish the block before the others begin it. They find its files on the disk."""
        if self.size > 1 and self.rank:
            dist.barrier()
        yield
        if self.size > 1 and not self.rank:
            dist.barrier()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raise a RunError when another process ends during the block."""
        try:
            yield
        except RuntimeError as error:
            if self.size > 1 and (isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)):
                what = f"process {self.rank} of {self.size} has lost another one, which ended or cannot be reached"
                remedy = "its own message, if it left one, says why; the same command goes on from the last checkpoint"
                raise RunError(f"{what}; {remedy}", rescue=True) from error
            raise

    def leave(self) -> None:
        """End the group after the run."""
        if self.size > 1:
            dist.barrier()  # a process that leaves early would break the connections of one that still works
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        counts = group.total(*(len(x) * (rank == group.rank) for rank in range(group.size)))
        padded = x.new_zeros(max(counts), *x.shape[1:])  # all_gather wants equal shapes
        padded[: len(x)] = x
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        begin = sum(counts[: group.rank])
        ctx.own, ctx.size = slice(begin, begin + len(x)), group.size
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # Each process passes on the gradient of its own rows. DistributedDataParallel divides the sum over the processes by
        # their number; the factor undoes that.
        return gradient[ctx.own] * ctx.size, None


def under_torchrun() -> bool:
    """Return True if torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def join(device: torch.device) -> Group:
    """Return this process's Group: the processes that torchrun started, or this one alone. device: of the model.

    CPU tensors travel by gloo, GPU tensors by nccl.
    """
    if not under_torchrun():
        return Group()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # The others wait while process 0 clusters, which may take hours. A process that ends is noticed without a time limit.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=2))
    return Group(dist.get_rank(), dist.get_world_size())
