"""Feature maps from inside a backbone: choose its stages, and tap them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


@contextmanager
def tapped(backbone: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """`with tapped(backbone, names) as maps`: after a forward pass `maps` holds the outputs of the named submodules."""
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
    """Keep a net in evaluation mode during a block. Afterwards each part has its previous mode."""
    modes = {part: part.training for part in net.modules()}  # frozen BatchNorms have a mode of their own
    net.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def positions(output: Tensor, prefix_tokens: int = 0) -> Tensor:
    """Reshape a stage's output to (N, positions, channels).

    output: maps (N, C, H, W), maps with the channels last (N, H, W, C), as Swin's, or tokens (N, positions, C). The first
        `prefix_tokens` tokens have no place in the image and are dropped. Maps must be square, which tells the axes apart.
    """
    if output.ndim == 3:
        return output[:, prefix_tokens:]
    channels_last = output.shape[1] == output.shape[2] != output.shape[3]
    return output.flatten(1, 2) if channels_last else output.flatten(2).transpose(1, 2)


def stages(backbone: nn.Module, images: Tensor) -> dict[str, tuple[int, int]]:
    """List the stages of a backbone in the order in which they end: name -> (positions, channels) of the output.

    images: float32 (1, 3, H, W), H equal to W. A stage is a module that has children. Its parent is the backbone, or a
    sequence in the backbone.
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
    """Return the number of a transformer's tokens that have no place in the image, as timm counts them."""
    return int(getattr(backbone, "num_prefix_tokens", 0))


def middle_and_last(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return the two stages that are worth second-order features: the middle one, after which the maps shrink for the last
    time, and the last one. ResNets have layer3 and layer4; EfficientNet-Lite0 has blocks.4 and the stage before the pool.

    sizes: from `stages`. If the maps never shrink, as in a ViT, the middle stage is two thirds of the way up. The list may
    hold one stage only, or none.
    """
    maps = [name for name, (places, _) in sizes.items() if places > 1]
    if not maps:
        return []
    last = maps[-1]
    larger = [name for name in maps if sizes[name][0] > sizes[last][0]]
    if larger:
        return [larger[-1], last]
    same_size = [name for name in maps if sizes[name] == sizes[last]]
    middle = same_size[(2 * len(same_size)) // 3 - 1] if len(same_size) > 2 else last
    return [middle, last] if middle != last else [last]
