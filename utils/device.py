"""Chooses the device and the precision of a run, for all of the project."""

import os
import re
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from utils.distributed import under_torchrun
from utils.errors import InputError

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Compute(NamedTuple):
    """Device, precision and memory layout of a run."""

    device: torch.device
    amp: torch.dtype | None  # dtype of autocast; None computes in float32
    channels_last: bool

    def autocast(self) -> Any:
        """Return a context in which the forward pass runs in the chosen precision."""
        return torch.autocast(self.device.type, dtype=self.amp) if self.amp else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler. float16 needs it; for the other precisions it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp == torch.float16)

    def place(self, model: Any) -> Any:
        """Move a module to the device, in the memory layout."""
        return model.to(self.device, memory_format=torch.channels_last if self.channels_last else torch.preserve_format)

    def synchronise(self) -> None:
        """Wait until the device has finished its work. The CPU never has any left."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    @property
    def scores(self) -> torch.device:
        """The device for similarities of a whole set: a CUDA device, else the CPU."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    @property
    def pin_memory(self) -> bool:
        """True if loaders should put batches into page-locked memory, for copies to the device in parallel."""
        return self.device.type == "cuda"


def choose(device: str = "auto", amp: str = "auto", channels_last: bool | None = None) -> Compute:
    """Return the Compute of the settings `device`, `amp` and `channels_last`.

    device "auto": CUDA (a GPU for each process of torchrun), else MPS, else the CPU. amp "auto": bf16 on GPUs that have it,
    fp16 on older GPUs, float32 on the CPU and MPS. channels_last None: True on CUDA and the CPU, where it is faster.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and under_torchrun():
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", device):  # torch names more devices, some without memory or kernels
        raise InputError(f"{device}: unknown; give cpu, cuda, cuda:1 (or another number), mps or auto", setting="device")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{device}: not available here ({str(error).splitlines()[0]})", setting="device") from None
    if amp == "auto":
        bf16 = chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        amp = "off" if chosen.type != "cuda" else "bf16" if bf16 else "fp16"
    if channels_last is None:
        channels_last = chosen.type != "mps"
    return Compute(chosen, AMP[amp], channels_last)
