"""Any model of the timm library, as `timm/<name>`; timm also says how its images are normalised."""

import difflib
import urllib.error
import urllib.request
from os import PathLike
from typing import Any

import huggingface_hub
import timm

from models import weights as weight_files
from models.backbones import TIMM, Backbone, Preprocessing
from models.load_tensors import as_tensors
from utils.errors import InputError


def build(name: str, pretrained: bool, weights: str | PathLike | None) -> Backbone:
    """Build the Backbone. weights: a file that timm reads for this model (.safetensors or torch.save); None: timm's own.

    Raises InputError for a name that timm does not have, with the closest names; also for weights that do not load.
    """
    model_name = name.removeprefix(TIMM)
    if not timm.is_model(model_name):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=5, cutoff=0.4)
        listed = ", ".join(TIMM + model for model in close) or "none; see timm.list_models()"
        raise InputError(f"{name}: timm has no such model; closest are {listed}", setting="net")
    overlay = None
    if pretrained and weights:
        # timm treats these tensors like its own files: it renames older keys and drops the classifier.
        overlay = {"state_dict": as_tensors(weight_files.read(weights), weights)}
    hub, offline = huggingface_hub.constants, huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        if pretrained and not weights and not offline:
            # Ask the hub once. If it does not answer, use its cache or fail now: the client would retry for a minute.
            hub.HF_HUB_OFFLINE = not _answers(hub.ENDPOINT)
        net = _create(model_name, pretrained=pretrained, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # timm, its hub client and the network each raise their own types
        reason = weight_files.one_line(error)
        if weights:
            raise InputError(f"{weights}: does not fit {name} ({reason}); give the weights of that net") from None
        if pretrained:
            remedy = f"connect to {hub.ENDPOINT}, or give a weights file"
            raise InputError(f"no weights for {name} ({reason}); {remedy}, or {weight_files.WITHOUT_DOWNLOAD}") from None
        raise InputError(f"{name}: timm cannot build it ({reason}); give another net", setting="net") from None
    finally:
        hub.HF_HUB_OFFLINE = offline
    config = timm.data.resolve_model_data_config(net)
    mean, std = (tuple(255.0 * value for value in config[key]) for key in ("mean", "std"))
    # In some nets (MobileNetV3) a layer follows the pool: the features then have that layer's width.
    return Backbone(net, getattr(net, "head_hidden_size", net.num_features), Preprocessing(mean, std, bgr=False))


def _create(model_name: str, **settings: Any) -> Any:
    """Create timm's model. A transformer interpolates its position embedding, so it takes any size divisible by its
    patch size. Otherwise it would take only its training size, 518 x 518 for DINOv2."""
    try:
        return timm.create_model(model_name, dynamic_img_size=True, **settings)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        return timm.create_model(model_name, **settings)  # this family lacks the option; no weights were loaded yet


def _answers(url: str, seconds: float = 5) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # an error page is an answer
    except OSError:
        return False
    return True
