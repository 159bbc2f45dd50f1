"""The backbones by name, a file for each family.

To add one: write a file with `build(name, pretrained, weights) -> Backbone`, and add a line to `FAMILIES`.
"""

import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from typing import NamedTuple

from torch import Tensor, nn

from utils.errors import InputError

# name of the net -> its file in this folder; imported only when used, because timm takes seconds
FAMILIES = {
    "BN-Inception": "bn_inception",
    "Inception": "inception",
    **{f"ResNet{layers}": "resnet" for layers in (18, 34, 50, 101, 152)},
    **{f"EfficientNet-Lite{size}": "efficientnet_lite" for size in (0, 1, 2)},
    "MobileNetV2": "mobilenet",
}
TIMM = "timm/"  # prefix for the name of any model of the timm library


class Preprocessing(NamedTuple):
    """The normalisation that a backbone expects: (pixel - mean) / std on 0..255 values, in its input's channel order."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool


# The two Inceptions from Caffe were trained on BGR pixels, with only a mean subtracted.
CAFFE = Preprocessing(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), bgr=True)
# The normalisation of torchvision's models.
IMAGENET = Preprocessing((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255), bgr=False)


class Original(NamedTuple):
    """The differences between the original project's checkpoints of a net and ours.

    rename: the original's key -> ours. implied: our key -> a tensor that the original's net needs but its checkpoints do not
    hold. says: a sentence about `implied` for the log.
    """

    rename: Callable[[str], str] = str  # str leaves a key as it is
    implied: Mapping[str, Tensor] = {}
    says: str = ""


class Backbone(NamedTuple):
    """A backbone, as a family's `build` returns it.

    features: (N, 3, H, W) images -> pooled features, (N, feature_dim) or (N, feature_dim, 1, 1).
    """

    features: nn.Module
    feature_dim: int
    preprocessing: Preprocessing
    original: Original = Original()


def names() -> list[str]:
    """List every name that `build` accepts; the last entry stands for all models of the timm library."""
    return [*FAMILIES, f"{TIMM}<any timm model>"]


def build(name: str, pretrained: bool, weights: str | PathLike | None = None) -> Backbone:
    """Build the Backbone called `name`, one of `names()`.

    pretrained: load ImageNet weights, from the file `weights` if given, else the published ones.
    Raises InputError for an unknown name, and for weights that are missing, unreadable or do not fit.
    """
    if name not in FAMILIES and not name.startswith(TIMM):
        close = difflib.get_close_matches(name, FAMILIES, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"{name}: unknown net; known are {', '.join(names())}{guess}", setting="net")
    family = import_module(f"models.backbones.{FAMILIES.get(name, 'timm_models')}")
    return family.build(name, pretrained, weights)
