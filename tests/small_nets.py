"""Small nets for the tests of methods, and a stand-in for images that only has a length."""

from torch import nn

from models.backbones import Backbone, Preprocessing
from models.embedder import Embedder

WIDTH, DIM, FEATURES = 16, 6, 12


class Some:
    """Stands in for a method's images: it has a length and labels, but no images."""

    source = "train.txt"

    def __init__(self, count, labels=None):
        self.count, self.labels = count, labels

    def __len__(self):
        return self.count


def embedder_of(layers, freeze_bn=True):
    """Return an Embedder whose backbone is `layers`, which must end in FEATURES maps."""
    layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
    backbone = Backbone(layers, FEATURES, Preprocessing((128,) * 3, (64,) * 3, False))
    return Embedder(backbone, {"net": "", "dim": DIM, "width": WIDTH, "origin_width": WIDTH}, freeze_bn)


def one_convolution():
    return embedder_of([nn.Conv2d(3, FEATURES, 3, 2), nn.ReLU()])
