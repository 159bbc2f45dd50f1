"""ResNets (He et al. 2015, arXiv 1512.03385), from torchvision."""

from os import PathLike

import torchvision
from torch import nn

from models import weights as weight_files
from models.backbones import IMAGENET, Backbone
from models.load_tensors import as_tensors, load_tensors


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file with torchvision's keys; None: torchvision's IMAGENET1K_V1.

    Papers of 2019 used the V1 weights. The V2 weights come from a longer recipe, so their results would not compare.
    """
    net = getattr(torchvision.models, name.lower())(weights=None)
    feature_dim = net.fc.in_features
    net.fc = nn.Identity()
    if pretrained:
        url = torchvision.models.get_model_weights(name.lower()).IMAGENET1K_V1.url
        prefix = url.rsplit("-", 1)[-1].removesuffix(".pth")  # resnet50-<start of sha256>.pth
        source = weights or weight_files.fetch(name, weight_files.Published(url, prefix))
        tensors = as_tensors(weight_files.read(source), source)
        load_tensors(net, tensors, source, ignored=("fc.",))
    # A plain sequence, without fc, as in the original project: its checkpoints have keys like features.4.0.conv1.weight
    return Backbone(nn.Sequential(*list(net.children())[:-1]), feature_dim, IMAGENET)
