"""BN-Inception (Ioffe and Szegedy 2015, arXiv 1502.03167), the net that most metric learning papers start from.

As in those papers, it ends in a global maximum, not in an average.
"""

import re
from collections import OrderedDict
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import weights as weight_files
from models.backbones import CAFFE, Backbone, Original
from models.load_tensors import as_tensors, load_tensors

FEATURE_DIM = 1024

# block: channels in | 1x1 | 3x3 reduce, 3x3 | double 3x3 reduce, double 3x3 | pool, projection
# A block without a 1x1 branch halves the image: stride 2, and its pool passes through without a projection.
BLOCKS = {
    "inception_3a": (192, 64, 64, 64, 64, 96, "avg", 32),
    "inception_3b": (256, 64, 64, 96, 64, 96, "avg", 64),
    "inception_3c": (320, None, 128, 160, 64, 96, "max", None),
    "inception_4a": (576, 224, 64, 96, 96, 128, "avg", 128),
    "inception_4b": (576, 192, 96, 128, 96, 128, "avg", 128),
    "inception_4c": (576, 160, 128, 160, 128, 160, "avg", 128),
    "inception_4d": (608, 96, 128, 192, 160, 192, "avg", 128),
    "inception_4e": (608, None, 128, 192, 192, 256, "max", None),
    "inception_5a": (1056, 352, 192, 320, 160, 224, "avg", 128),
    "inception_5b": (1024, 352, 192, 320, 192, 224, "max", 128),
}


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file with the keys of bn_inception-52deb4733.pth; None: that file itself."""
    features = BNInception()
    if pretrained:
        source = weights or weight_files.fetch(name, weight_files.BN_INCEPTION)
        tensors = as_tensors(weight_files.read(source), source)
        tensors = {flat_to_blocks(key): value for key, value in tensors.items()}
        load_tensors(features, tensors, source, ignored=("last_linear.",))
    return Backbone(features, FEATURE_DIM, CAFFE, Original(_original_key))


class BNInception(nn.Sequential):
    """(N, 3, H, W) -> pooled (N, 1024, 1, 1)."""

    def __init__(self) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv1_7x7_s2"] = Unit(3, 64, 7, stride=2)
        parts["pool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)  # Caffe rounds sizes up
        parts["conv2_3x3_reduce"] = Unit(64, 64, 1)
        parts["conv2_3x3"] = Unit(64, 192, 3)
        parts["pool2"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, widths in BLOCKS.items():
            parts[name] = Block(*widths)
        super().__init__(parts)

    def maps(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> feature maps (N, 1024, H / 32, W / 32) before pooling."""
        return super().forward(images)

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(self.maps(images), 1)


class Unit(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(out)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Branches side by side: 1x1, 3x3, double 3x3 and pool; (N, C, H, W) -> (N, sum of the widths, H, W or half)."""

    def __init__(
        self,
        channels: int,
        one: int | None,
        reduce: int,
        three: int,
        double_reduce: int,
        double: int,
        pool: str,
        projection: int | None,
    ) -> None:
        super().__init__()
        stride = 1 if one else 2
        branches = [[], ["3x3_reduce", "3x3"], ["double_3x3_reduce", "double_3x3_1", "double_3x3_2"], ["pool"]]
        if one:
            branches[0].append("1x1")
            self.add_module("1x1", Unit(channels, one, 1))
        self.add_module("3x3_reduce", Unit(channels, reduce, 1))
        self.add_module("3x3", Unit(reduce, three, 3, stride))
        self.add_module("double_3x3_reduce", Unit(channels, double_reduce, 1))
        self.add_module("double_3x3_1", Unit(double_reduce, double, 3))
        self.add_module("double_3x3_2", Unit(double, double, 3, stride))
        padding = 1 if stride == 1 else 0
        pooling = nn.AvgPool2d if pool == "avg" else nn.MaxPool2d
        self.pool = pooling(3, stride, padding, ceil_mode=True)
        if projection:
            branches[3].append("pool_proj")
            self.pool_proj = Unit(channels, projection, 1)
        self.branches = [branch for branch in branches if branch]

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            out = x
            for name in branch:
                out = self.get_submodule(name)(out)
            outputs.append(out)
        return torch.cat(outputs, dim=1)


def flat_to_blocks(key: str) -> str:
    """Rename a key of bn_inception-52deb4733.pth to ours; any other key stays as it is.

    inception_3a_3x3_reduce_bn.weight -> inception_3a.3x3_reduce.bn.weight; conv2_3x3.bias -> conv2_3x3.conv.bias
    """
    match = re.fullmatch(r"(conv\d_\w+?|inception_\d\w_\w+?)(_bn)?\.(\w+)", key)
    if not match:
        return key
    unit = re.sub(r"^(inception_\d\w)_", r"\1.", match[1])
    return f"{unit}.{'bn' if match[2] else 'conv'}.{match[3]}"


def _original_key(key: str) -> str:
    """Rename a key of the original project's checkpoints to ours; they keep the backbone at top level."""
    block_key = flat_to_blocks(key)
    return key if block_key == key else f"features.{block_key}"
