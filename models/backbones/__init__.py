"""The backbones by name, a file for each family.

To add one: write a file with `build(name, pretrained, weights) -> Backbone`, and add a line to `FAMILIES`.
"""

import difflib
from importlib import import_module
from typing import Callable, NamedTuple

from torch import nn

from utils.errors import InputError

# name for --net -> its file in this folder; imported when it is asked for, because timm takes seconds
FAMILIES = {
    "BN-Inception": "bn_inception",
    "Inception": "inception",
    **{f"ResNet{layers}": "resnet" for layers in (18, 34, 50, 101, 152)},
    "EfficientNet-Lite0": "efficientnet_lite",
}
TIMM = "timm/"  # and the name of any model of the timm library


class Preprocessing(NamedTuple):
    """What a backbone expects: (pixel - mean) / std on 0..255 values, in the channel order of its input."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool


# The two Caffe-born Inceptions were trained on BGR pixels from which only a mean was taken.
CAFFE = Preprocessing(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), bgr=True)


class Backbone(NamedTuple):
    """What a family's `build` returns.

    features: (N, 3, H, W) images -> pooled features, (N, feature_dim) or (N, feature_dim, 1, 1).
    rename: a key of the original project's checkpoints -> our key, where they differ.
    """

    features: nn.Module
    feature_dim: int
    preprocessing: Preprocessing
    rename: Callable[[str], str] = str  # str leaves a key as it is


def names() -> list[str]:
    """Every name that `build` knows; the last entry stands for all models of the timm library."""
    return [*FAMILIES, f"{TIMM}<any timm model>"]


def build(name: str, pretrained: bool, weights: str | None = None) -> Backbone:
    """The Backbone called `name`, one of `names()`.

    pretrained: with ImageNet weights, from the file `weights` if given, else from where they are published.
    Raises InputError for an unknown name, and for weights that cannot be had, read or fitted.
    """
    if name not in FAMILIES and not name.startswith(TIMM):
        close = difflib.get_close_matches(name, FAMILIES, n=1)
        raise InputError(f"{name}: unknown net; known are {', '.join(names())}"
                         + (f"; did you mean {close[0]}?" if close else ""), setting="net")
    family = import_module(f"models.backbones.{FAMILIES.get(name, 'timm_models')}")
    return family.build(name, pretrained, weights)
