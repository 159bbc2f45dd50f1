"""Feature maps from inside a backbone: which of its stages to tap, and how."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


@contextmanager
def tapped(backbone: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """`with tapped(backbone, names) as maps`: after a forward pass `maps` holds what the submodules of these names gave."""
    maps: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            maps[name] = output

    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(backbone.get_submodule(name).register_forward_hook(partial(keep, name)))
        yield maps


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """A block in which a net is in evaluation mode. Afterwards each part is as before."""
    modes = {part: part.training for part in net.modules()}  # frozen BatchNorms differ from the rest
    net.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def positions(output: Tensor, prefix_tokens: int = 0) -> Tensor:
    """What a stage gives -> (N, positions, channels).

    output: maps (N, C, H, W), maps with the channels last (N, H, W, C), as Swin's, or tokens (N, positions, C), of which the
        first `prefix_tokens` have no place in the image. Maps are of square images, which tells the axes apart.
    """
    if output.ndim == 3:
        return output[:, prefix_tokens:]
    channels_last = output.shape[1] == output.shape[2] != output.shape[3]
    return output.flatten(1, 2) if channels_last else output.flatten(2).transpose(1, 2)


def stages(backbone: nn.Module, images: Tensor) -> dict[str, tuple[int, int]]:
    """The stages of a backbone in the order in which they end: name -> (positions, channels) of what they give.

    images: float32 (1, 3, H, W), H equal to W. A stage is a child of the backbone, or of a sequence in it, that has children
    itself.
    """
    parts = dict(backbone.named_children())
    for name, child in list(parts.items()):
        if isinstance(child, CONTAINERS):
            parts |= {f"{name}.{inner}": part for inner, part in child.named_children()}
    names = [name for name, part in parts.items() if any(True for _ in part.children())]
    with evaluating(backbone), tapped(backbone, names) as maps, torch.no_grad():
        backbone(images)
    prefix = prefix_tokens(backbone)
    maps = {name: x for name, x in maps.items() if x.ndim in (3, 4) and len(x) == len(images)}
    return {name: tuple(positions(x, prefix).shape[1:]) for name, x in maps.items()}  # type: ignore[misc]


def prefix_tokens(backbone: nn.Module) -> int:
    """How many of a transformer's tokens stand for no place in the image, as timm counts them."""
    return int(getattr(backbone, "num_prefix_tokens", 0))


def middle_and_last(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """The stages whose second-order features are worth having: the last before the maps shrink for the last time, and the
    last one. In a ResNet layer3 and layer4, in EfficientNet-Lite0 blocks.4 and what comes before the pool.

    sizes: from `stages`. Of a net whose maps never shrink, as a ViT, the first is two thirds of the way up. It may be that
    there is but one, or none.
    """
    maps = [name for name, (places, _) in sizes.items() if places > 1]
    if not maps:
        return []
    last = maps[-1]
    larger = [name for name in maps if sizes[name][0] > sizes[last][0]]
    if larger:
        return [larger[-1], last]
    alike = [name for name in maps if sizes[name] == sizes[last]]
    middle = alike[(2 * len(alike)) // 3 - 1] if len(alike) > 2 else last
    return [middle, last] if middle != last else [last]
