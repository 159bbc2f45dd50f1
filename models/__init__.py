"""Embedders: `create(net, ...)` builds one, `load(checkpoint)` brings a trained one back, `names()` lists the nets.

embedder = models.load("results/.../ckp_ep600.pth.tar")
embedder.embed(["a.jpg", "b.jpg"])        # float32 (2, dim), rows of length 1: two rows' dot product is their similarity
"""

from os import PathLike
from typing import Any

import torch

from data.pixels import PIXELS
from models import backbones
from models.backbones import names
from models.checkpoints import load_state, read_checkpoint, read_start, start_from
from models.embedder import Embedder, Origin
from models.weights import one_line
from utils import log
from utils.errors import InputError

__all__ = ["Embedder", "create", "load", "load_state", "names"]

MAX_DIM = 2**16  # a larger dim is a typing error, and memory would run out much later

# Settings of the net for checkpoints that lack them, such as the original project's.
DEFAULTS: dict[str, Any] = {"net": "Inception", "dim": 512, "width": 227, "origin_width": 256}


def create(
    name: str,
    dim: int = 512,
    pretrained: bool = True,
    weights: str | PathLike | None = None,
    freeze_bn: bool = False,
    width: int | None = None,
    origin_width: int | None = None,
) -> Embedder:
    """Build an Embedder.

    name: one of `names()`, for example "Inception" or "timm/convnext_tiny".
    dim: width of the embedding.
    pretrained: start the backbone from ImageNet weights (True) or at random (False). The head always starts at random.
    weights: a file with the pretrained weights, instead of the published one. It may also be a checkpoint of this project
        (any method) or of the original one. The embedding head then starts from it too if dim is the same; the log names
        the parts that are left out.
    freeze_bn: keep the running statistics of every BatchNorm as they are; scale and shift still train.
    width, origin_width: side of the crops, and shorter side of an image before cropping, in pixels; None: 227 and 256.
        A net that cannot take crops of this width is refused here, not at the first step.

    Returns an Embedder, in training mode, on the CPU.
    Raises InputError for an unknown name, a dim outside 1 to MAX_DIM, and a width that the net cannot take. Raises it too
    for weights that are missing, unreadable or do not fit.
    """
    if not 1 <= dim <= MAX_DIM:
        raise InputError(f"{dim}: the embedding has 1 to {MAX_DIM} numbers", setting="dim")
    if weights and not pretrained:
        what = f"{weights} would be ignored: a weights file is read only if the net starts from pretrained weights"
        raise InputError(what, setting="weights")
    start = read_start(weights) if weights else None
    backbone = backbones.build(name, pretrained and not start, None if start else weights)
    if width is not None:
        try:
            with torch.no_grad():
                backbone.features.eval()(torch.zeros(1, 3, width, width))
        except (RuntimeError, AssertionError, ValueError) as error:  # each library raises its own type
            what = f"{width}: the net {name} cannot take images of that size ({one_line(error, 120)})"
            raise InputError(f"{what}; give another width", setting="width") from None
    sides = {"width": width or DEFAULTS["width"], "origin_width": origin_width or DEFAULTS["origin_width"]}
    settings = {"net": name, "dim": dim, **sides}
    embedder = Embedder(backbone, settings, freeze_bn)
    if start:
        start_from(embedder, start)
    return embedder


def load(
    checkpoint: str | PathLike, device: str | torch.device = "cpu", readout: str | None = None, **settings: str | int | None
) -> Embedder:
    """Load the Embedder of a checkpoint of this project or of the original one, in evaluation mode.

    readout: "embedding" or "closed_form": how embeddings are taken from the net; None: as training chose.
    settings: net, dim, width or origin_width, to override the checkpoint's; None keeps the checkpoint's.
    Raises InputError if the file is missing, damaged or no checkpoint, is of another net, or lacks that readout.
    """
    state = read_checkpoint(checkpoint)
    merged = {
        **DEFAULTS,
        **{name: value for name, value in state.get("settings", {}).items() if name in DEFAULTS},
        **{name: value for name, value in settings.items() if value is not None},
    }
    embedder = create(merged["net"], merged["dim"], False, width=merged["width"], origin_width=merged["origin_width"])
    unused = load_state(embedder, state["state_dict"], checkpoint, original="settings" not in state)
    if unused := [key for key in unused if not key.startswith("classifier_rot.")]:
        log.say(f"{checkpoint}: not used: {', '.join(unused)}")
    embedder.origin = Origin(str(checkpoint), state["epoch"], state.get("seconds"), state.get("cpu_seconds"))
    embedder.agreement_before = state.get("agreement_before", {})
    if readout not in (None, "embedding", "closed_form"):
        raise InputError(f"{readout}: give embedding or closed_form", setting="readout")
    if readout == "closed_form" and embedder.closed_form is None:
        what = f"{checkpoint}: has no closed form; train with --readout closed_form, or let test.py fit one"
        raise InputError(what, setting="readout")
    if embedder.closed_form is not None:
        if (version := int(embedder.closed_form.pixels)) != PIXELS:
            versions = f"pixels of version {version}, this program reads version {PIXELS}"
            log.say(f"{checkpoint}: its closed form was fitted to {versions}, so similarities may differ a little")
        if readout is not None:
            embedder.closed_form.prefer(readout == "closed_form")
    return embedder.to(device).eval()
