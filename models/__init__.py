"""The nets by name: `create(name, ...)` gives an Embedder, `names()` lists what there is, `load_state` fills one.

To add a backbone: write one file with `build(name, pretrained, weights) -> Backbone`, and add one line to `_BUILDERS`.
"""

import torch

from models import bn_inception, efficientnet_lite, inception, resnet, timm_models
from models.embedder import Backbone, Embedder, Preprocessing, load_state
from utils.errors import InputError

__all__ = ["Backbone", "Embedder", "Preprocessing", "create", "load_state", "names"]

MAX_DIM = 2**16  # an embedding of more numbers is a slip, whose memory would run out later

_BUILDERS = {
    "BN-Inception": bn_inception.build,
    "Inception": inception.build,
    **{name: resnet.build for name in resnet.NAMES},
    "EfficientNet-Lite0": efficientnet_lite.build,
}


def names():
    """Every name that `create` knows; the last entry stands for all models of the timm library."""
    return [*_BUILDERS, "timm/<any timm model>"]


def create(name, dim=512, pretrained=True, weights=None, freeze_bn=False, rotation=True, width=None):
    """Build a net.

    name: one of `names()`, for example "Inception" or "timm/convnext_tiny".
    dim: width of the embedding.
    pretrained: start the backbone from ImageNet weights (True) or at random (False). The heads always start at random.
    weights: a file to read the pretrained weights from, in place of where they are published.
    freeze_bn: keep the running statistics of every BatchNorm as they are; scale and shift still train.
    rotation: also build the head that tells four rotations apart.
    width: of the images, if known: a net that cannot take that size is refused now and not at the first step.

    Returns an Embedder, in training mode, on the CPU.
    Raises InputError for an unknown name, a dim that is not 1 to MAX_DIM, or weights that cannot be had, read or fitted.
    """
    if not 1 <= dim <= MAX_DIM:
        raise InputError(f"--dim {dim}: the embedding has 1 to {MAX_DIM} numbers")
    if weights and not pretrained:
        raise InputError(f"--weights {weights} would be ignored: it needs --pretrained True")
    if name in _BUILDERS:
        build = _BUILDERS[name]
    elif name.startswith(timm_models.PREFIX):
        build = timm_models.build
    else:
        raise InputError(f"--net {name}: unknown net; known are {', '.join(names())}")
    backbone = build(name, pretrained, weights)
    if width is not None:
        try:
            with torch.no_grad():
                backbone.features.eval()(torch.zeros(1, 3, width, width))
        except (RuntimeError, AssertionError, ValueError) as error:  # each library has its own
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"--net {name} cannot take images of --width {width} ({reason}); give another width") from None
    return Embedder(backbone, dim=dim, freeze_bn=freeze_bn, rotation=rotation)
