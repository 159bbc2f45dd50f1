"""Training an Embedder from one of its stages on: what lies below is frozen, and its activations can be kept."""

import torch
from torch import Tensor

from models.embedder import Embedder
from models.halves import Cut, around_middle, at_large_maps, halves


def train_from(embedder: Embedder, stage: str) -> None:
    """Freeze what lies below a stage of the backbone. From then on the Embedder also takes what `below` gives.

    stage: a name, as in `models.halves.halves`; "middle", the stage of that name of the closed form; "top", the one above
        it; or "all", which freezes nothing, and with a frozen BatchNorm saves memory.
    Raises InputError for a stage that there is not, or where the net cannot be cut.
    """
    width = embedder.transforms.width
    blank = embedder.classifier.linear.weight.new_zeros(1, 3, width, width)
    if stage == "all":
        # else the second pass would move the statistics again
        both = at_large_maps(embedder.features, blank) if embedder.freeze_bn else None
        embedder.cut = Cut(both, None) if both else None
        return
    if stage in ("middle", "top"):
        stage = around_middle(embedder.features, blank, above=stage == "top")
    embedder.cut = Cut(halves(embedder.features, stage, blank), stage)
    trained = {id(parameter) for parameter in embedder.cut.halves.above.parameters()}
    for parameter in embedder.features.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)
    embedder.train(embedder.training)


def trained_from(embedder: Embedder) -> str | None:
    """The stage from which on an Embedder is trained; None where all of it is."""
    return embedder.cut.stage if embedder.cut else None


def below(embedder: Embedder, images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> activations from below the cut, in the precision of the net or of autocast, (N, ...)."""
    assert embedder.cut is not None
    return torch.cat([embedder.cut.halves.below(part) for part in embedder.slices(images)])
