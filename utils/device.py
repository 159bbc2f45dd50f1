"""Chooses the device and the precision of a run, for all of the project."""

import os
import re
from contextlib import nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from utils.distributed import under_torchrun
from utils.errors import InputError

# From this many passes of an image on, "auto" takes ONNX Runtime. Writing a graph of EfficientNet-Lite0 at 128 pixels takes
# 4 to 7 s of a core, and each pass then takes 5 ms less (ResNet50: 8 ms).
EARNS = 1200
AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Compute(NamedTuple):
    """Device, precision and memory layout of a run."""

    device: torch.device
    amp: torch.dtype | None  # dtype of autocast; None computes in float32
    channels_last: bool
    engine: str = "torch"  # of passes without gradients: "torch", "onnx", or "auto", onnx where the images earn it

    def by_onnx(self, images: int) -> bool:
        """Return True if ONNX Runtime is to run the net for so many images."""
        return self.engine == "onnx" or (self.engine == "auto" and images >= EARNS)

    @property
    def engine_in_full(self) -> str:
        """The engine, with the facts that its last digits depend on."""
        if self.engine == "torch":
            return "torch"
        return f"{self.engine}, ONNX Runtime {version('onnxruntime')} with {torch.get_num_threads()} thread(s)"

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


def choose(device: str = "auto", amp: str = "auto", channels_last: bool | None = None, engine: str = "torch") -> Compute:
    """Return the Compute of the settings `device`, `amp`, `channels_last` and `engine`.

    device "auto": CUDA (a GPU for each process of torchrun), else MPS, else the CPU. amp "auto": bf16 on GPUs that have it,
    fp16 on older GPUs, float32 on the CPU and MPS. channels_last None: True on CUDA and the CPU, where it is faster.
    engine: ONNX Runtime computes in float32 on the CPU only. Raises InputError for a setting that is not to be had.
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
    return Compute(chosen, AMP[amp], channels_last, _engine(engine, chosen, amp))


def _engine(engine: str, device: torch.device, amp: str) -> str:
    reason = ""
    if device.type != "cpu" or amp != "off":
        reason = "computes in float32 on the CPU; give --device cpu --amp off"
    elif find_spec("onnxruntime") is None:
        reason = "is not installed; run pip install -r requirements.txt"
    if engine == "onnx" and reason:
        raise InputError(f"onnx: ONNX Runtime {reason}, or --engine auto", setting="engine")
    return "torch" if reason else engine
