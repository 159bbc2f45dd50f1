"""Train an Embedder from one of its stages on: the stages below are frozen, and their activations can be kept."""

import torch
from torch import Tensor

from models.embedder import Embedder
from models.halves import Cut, around_middle, at_large_maps, halves


def train_from(embedder: Embedder, stage: str) -> None:
    """Freeze the backbone below a stage. From then on the Embedder also takes the activations that `below` returns.

    stage: a name, as in `models.halves.halves`; "middle", the closed form's middle stage; "top", the stage above the middle;
        or "all", which freezes nothing, and saves memory if BatchNorm is frozen.
    Raises InputError for an unknown stage, or if the net cannot be cut there.
    """
    width = embedder.transforms.width
    blank = embedder.classifier.linear.weight.new_zeros(1, 3, width, width)
    if stage == "all":
        # without freeze_bn, the second pass of the lower half would move the statistics again
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
    """Return the first stage of an Embedder that is trained; None if all of it is trained."""
    return embedder.cut.stage if embedder.cut else None


def below(embedder: Embedder, images: Tensor) -> Tensor:
    """Run uint8 (N, 3, H, W) through the frozen half: activations (N, ...), in the precision of the net or of autocast."""
    assert embedder.cut is not None
    return torch.cat([embedder.cut.halves.below(part) for part in embedder.slices(images)])
