"""A backbone in two halves: what lies below one of its stages, and that stage with all above it."""

from typing import NamedTuple

from torch import Tensor, fx, nn

from models.taps import CONTAINERS, middle_and_last, stages
from utils.errors import InputError


class Halves(NamedTuple):
    """They share the backbone's modules: `above(below(images))` is what the backbone gives."""

    below: nn.Module  # images (N, 3, H, W) -> activations (N, ...)
    above: nn.Module  # activations -> pooled features


class _OneInput(nn.Module):
    """A backbone without its optional arguments, as a transformer's mask, which would have to pass by its stages."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class _Stages(fx.Tracer):
    """Follows a backbone's forward from stage to stage, without looking into them."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        inside = name.removeprefix("net").removeprefix(".")
        return bool(inside) and ("." in inside or not isinstance(module, CONTAINERS))


def cut(backbone: nn.Module, stage: str) -> Halves:
    """The backbone, cut before the stage of that name: a child of it, or of a sequence in it.

    Raises InputError for a name that is not one of its stages, and for a net that cannot be cut there because something
    passes by the stage.
    """
    names = _names(backbone)
    first = next((name for name in names if _within(name, stage)), None)
    if first is None or first == names[0]:
        raise InputError(f"{stage}: no stage above the first; this net has {', '.join(names[1:])}", setting="train_from")

    below = _traced(backbone)
    next(node for node in below.graph.nodes if node.op == "output").args = (_input_of(below, first),)

    above = _traced(backbone)
    source = _input_of(above, first)
    with above.graph.inserting_before(next(iter(above.graph.nodes))):
        activations = above.graph.placeholder("activations")
    later = set(list(above.graph.nodes)[list(above.graph.nodes).index(source) + 1 :])
    source.replace_all_uses_with(activations, later.__contains__)
    for half in (below, above):
        _tidy(half)
    if [node.name for node in above.graph.nodes if node.op == "placeholder"] != [activations.name]:
        raise InputError(f"{stage}: something passes by it, so that the net cannot be cut there", setting="train_from")
    return Halves(below, above)


def around_middle(backbone: nn.Module, image: Tensor, above: bool) -> str:
    """The middle stage of `models.taps.middle_and_last`, or the one above it: blocks.4 and blocks.5 of EfficientNet-Lite0,
    layer3 and layer4 of a ResNet.

    image: float32 (1, 3, H, W). Raises InputError where there is none.
    """
    middle = middle_and_last(stages(backbone, image))[:1]
    names = _names(backbone)
    places = [i for i, name in enumerate(names) if middle and _within(name, middle[0])]
    if not places or places[0] == 0 or places[-1] + 1 == len(names):
        raise InputError(f"no middle stage; this net has {', '.join(names[1:])}", setting="train_from")
    return names[places[-1] + 1] if above else names[places[0]]


def at_large_maps(backbone: nn.Module, image: Tensor) -> Halves | None:
    """The backbone, cut above the last maps that have more than an eighth of the image's side: below it lies most of the
    memory of training, and little of its time. None where there are no such maps, or it cannot be cut there."""
    sizes = stages(backbone, image)
    large = [name for name, (places, _) in sizes.items() if 64 * places > image.shape[2:].numel()]
    try:
        names = _names(backbone)
        place = max((i for i, name in enumerate(names) if large and _within(name, large[-1])), default=len(names))
        return cut(backbone, names[place + 1]) if place + 1 < len(names) else None
    except InputError:
        return None


def _names(backbone: nn.Module) -> list[str]:
    """The modules that an image goes through, in order."""
    return [str(node.target).removeprefix("net.") for node in _traced(backbone).graph.nodes if node.op == "call_module"]


def _within(name: str, stage: str) -> bool:
    return name == stage or name.startswith(f"{stage}.")


def _traced(backbone: nn.Module) -> fx.GraphModule:
    whole = _OneInput(backbone)
    try:
        return fx.GraphModule(whole, _Stages().trace(whole))
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(f"this net cannot be cut: its forward cannot be followed ({error})", setting="train_from") from None


def _input_of(net: fx.GraphModule, name: str) -> fx.Node:
    """What the first call of a module gets."""
    source = next(node for node in net.graph.nodes if node.op == "call_module" and node.target == f"net.{name}").args[0]
    assert isinstance(source, fx.Node)
    return source


def _tidy(net: fx.GraphModule) -> None:
    """Leave out what the output does not need."""
    net.graph.eliminate_dead_code()
    for node in list(net.graph.nodes):
        if node.op == "placeholder" and not node.users:
            net.graph.erase_node(node)
    net.delete_all_unused_submodules()
    net.recompile()
