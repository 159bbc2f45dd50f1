"""GoogLeNet with local response normalisation (Szegedy et al. 2014, arXiv 1409.4842), as converted from Caffe.

It has no BatchNorm. The original project's best results come from this net.
"""

import re
from collections import OrderedDict
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import weights as weight_files
from models.backbones import CAFFE, Backbone, Original
from models.load_tensors import as_tensors, load_tensors

FEATURE_DIM = 1024

# block: channels in | 1x1 | 3x3 reduce, 3x3 | 5x5 reduce, 5x5 | pool projection (table 1 of the paper)
BLOCKS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}

ORIGINAL = Original(
    implied={f"features.conv{number}.lrn.crossmap": torch.tensor(True) for number in (1, 2)},
    says="its LRN layers are torch's CrossMapLRN2d, as in the original project; this is not Caffe's LRN",
)


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file of 57 convolutions from Caffe, arrays or tensors; None: the published one."""
    features = _features()
    if pretrained:
        source = weights or weight_files.fetch(name, weight_files.INCEPTION)
        tensors = as_tensors(weight_files.read(source), source)
        tensors = {_branch_key(key): value for key, value in tensors.items()}
        load_tensors(features, tensors, source, ignored=("loss",))  # loss1 to loss3: Caffe's classifiers
    return Backbone(features, FEATURE_DIM, CAFFE, ORIGINAL)


def _features() -> nn.Sequential:
    """(N, 3, H, W) -> (N, 1024, 1, 1). Modules are named as in the original project's checkpoints."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv1"] = _named(("7x7_s2", _conv(3, 64, 7, stride=2)), ("relu", _relu()), ("pool", _pool()), ("lrn", LRN()))
    reduced = ("3x3_reduce", _conv(64, 64, 1)), ("relu1", _relu()), ("3x3", _conv(64, 192, 3)), ("relu2", _relu())
    parts["conv2"] = _named(*reduced, ("lrn", LRN()), ("pool", _pool()))
    for block, widths in BLOCKS.items():
        if block in ("4a", "5a"):
            parts[f"pool{int(block[0]) - 1}"] = _pool()
        parts[f"inception_{block}"] = InceptionBlock(*widths)
    # This equals Caffe's 7x7 average at its own sizes, 224 and 227 pixels, and works at every other size.
    parts["pool5"] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(parts)


class InceptionBlock(nn.Module):
    """Four branches side by side: a 1x1, b 3x3, c 5x5, d pool; (N, C, H, W) -> (N, sum of the widths, H, W)."""

    def __init__(self, channels: int, one: int, reduce3: int, three: int, reduce5: int, five: int, projection: int) -> None:
        super().__init__()
        self.a = _named(("1x1", _conv(channels, one, 1)), ("relu", _relu()))
        self.b = self._reduced("3x3", channels, reduce3, three, 3)
        self.c = self._reduced("5x5", channels, reduce5, five, 5)
        self.d = _named(("pool", nn.MaxPool2d(3, 1, 1)), ("pool_proj", _conv(channels, projection, 1)), ("relu", _relu()))

    @staticmethod
    def _reduced(name: str, channels: int, narrow: int, wide: int, kernel: int) -> nn.Sequential:
        reduce, full = _conv(channels, narrow, 1), _conv(narrow, wide, kernel)
        return _named((f"{name}_reduce", reduce), ("relu1", _relu()), (name, full), ("relu2", _relu()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], dim=1)


class LRN(nn.Module):
    """Local response normalisation across 5 channels, as in Caffe (Krizhevsky et al. 2012, section 3.3).

    x_c / (1 + 1e-4 / 5 * sum of x_j^2 over |j - c| <= 2) ^ 0.75. The same as nn.LocalResponseNorm(5).

    crossmap: bool; True gives the output of nn.CrossMapLRN2d(5, 1e-4, 0.75, 1), where channel 0 stays in every sum from
        channel 3 on. The original project trained its nets with it, and our checkpoints hold the bool. The gradient here
        belongs to the output. CrossMapLRN2d's own gradient belongs to neither output: its window sits a channel too low.
    """

    crossmap: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("crossmap", torch.tensor(False))
        self._crossmap = False  # a copy that is read without waiting for the device

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}crossmap", torch.tensor(False))  # Caffe and our early checkpoints lack it
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._crossmap = bool(self.crossmap)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # squares of Caffe-scaled activations overflow float16
        channels = x.shape[1]
        squares = F.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum((squares[:, shift : shift + channels] for shift in range(1, 5)), squares[:, :channels])
        if self._crossmap:
            total[:, 3:] += squares[:, 2:3]
        root = torch.rsqrt(1 + total * (1e-4 / 5))
        return x * (root * root.sqrt())  # ^ -0.75 by roots, because pow is slow


def _named(*parts: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2)
    nn.init.kaiming_normal_(conv.weight)
    return conv


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)  # Caffe rounds sizes up


def _branch_key(key: str) -> str:
    """Rename a key of the converted file to ours: inception_3a.3x3_reduce.weight -> inception_3a.b.3x3_reduce.weight."""
    branches = {"1x1": "a", "3x3": "b", "5x5": "c", "pool": "d"}
    return re.sub(r"^(inception_\w+)\.(1x1|3x3|5x5|pool)", lambda m: f"{m[1]}.{branches[m[2]]}.{m[2]}", key)
