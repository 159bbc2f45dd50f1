"""Metric losses by name. To add one: write a file here or a function in library.py, and add a line to `LOSSES`.

A loss is a module called with embeddings float32 (N, dim), L2-normalised, and labels int64 (N,). It returns a scalar that
always back-propagates, even if the batch holds no pair for it. Nothing here knows about data or files.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from losses.binomial import BinomialLoss
from losses.hard_mining import HardMiningLoss
from losses.lifted_structure import LiftedStructureLoss
from losses.weight import WeightLoss
from utils.errors import InputError


def _library() -> Any:
    from losses import library  # here, because it takes seconds, and `train.py --help` needs only the names

    return library


LOSSES: dict[str, Callable[..., nn.Module]] = {  # each takes the settings of `create` that it names
    "Weight": lambda alpha, beta, base, margin, **_: WeightLoss(alpha, beta, base, margin),
    "Binomial": lambda **_: BinomialLoss(),
    "Contrastive": lambda **_: _library().contrastive(),
    "HardMining": lambda **_: HardMiningLoss(),
    "LiftedStructure": lambda **_: LiftedStructureLoss(),
    "Margin": lambda num_classes, **_: _library().margin(num_classes),
    "NCA": lambda **_: _library().nca(),
    "ProxyAnchor": lambda dim, num_classes, **_: _library().proxy_anchor(dim, num_classes),
    "SemiHard": lambda **_: _library().semi_hard(),
    "Triplet": lambda **_: _library().triplet(),
}
OF_CLASSES = ("Margin", "ProxyAnchor")  # losses that learn parameters for each class


def names() -> list[str]:
    return list(LOSSES)


def create(
    name: str,
    *,
    dim: int = 512,
    num_classes: int = 100,
    alpha: float = 40.0,
    beta: float = 2.0,
    base: float = 0.5,
    margin: float = 0.1,
) -> nn.Module:
    """Build the loss called `name`. Raises InputError for an unknown name and for a setting that is not finite.

    alpha, beta, base, margin: settings of `Weight` alone (see there). The other losses have constants of these names, on
    other scales, in their own files.
    dim, num_classes: width of the embedding, and number of classes. `ProxyAnchor` and `Margin` learn parameters for each
    class, which must be trained and saved with the net.
    """
    settings = {"dim": dim, "num_classes": num_classes, "alpha": alpha, "beta": beta, "base": base, "margin": margin}
    if name not in LOSSES:
        raise InputError(f"{name}: unknown; known losses: {', '.join(LOSSES)}", setting="loss")
    for setting, value in settings.items():
        if not math.isfinite(value):
            raise InputError(f"{name}: its {setting} is {value}; give a finite number", setting="loss")
    return LOSSES[name](**settings)
