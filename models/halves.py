"""A backbone in two halves: the part below one of its stages, and that stage with everything above it."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from models.taps import CONTAINERS, evaluating, middle_and_last, stages
from utils.errors import InputError


class Halves(NamedTuple):
    """The two halves share the backbone's modules: `above(below(images))` equals the backbone's output."""

    below: nn.Module  # images (N, 3, H, W) -> activations (N, ...)
    above: nn.Module  # activations -> pooled features


class Cut(NamedTuple):
    """How an Embedder trains its backbone in two halves (`models.cut.train_from`)."""

    halves: Halves
    stage: str | None  # the upper half's first stage, if that half alone is trained; None: both are trained

    def net(self, whole: nn.Module, dtype: torch.dtype, training: bool) -> Callable[[Tensor], Tensor]:
        """Return the function from images, or float16 activations from below the stage, to pooled features.

        If both halves are trained, the large maps of the lower half are not kept: the backward pass recomputes them. This
        takes 3 GB instead of 4.8, and is a tenth slower.
        """
        if self.stage is not None:
            return self.halves.above if dtype == torch.float16 else whole
        if not (training and torch.is_grad_enabled()):
            return whole
        return lambda images: self.halves.above(checkpoint(self.halves.below, images, use_reentrant=False))


class _OneInput(nn.Module):
    """Wraps a backbone so that it takes images only. Optional arguments (a mask) would have to be passed around the cut."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class _Sized(fx.Proxy):
    """A traced tensor. Its sizes are plain numbers, but the batch size stays symbolic."""

    tracer: "_Stages"

    @property
    def shape(self) -> tuple:
        with torch.no_grad():
            sizes = self.tracer.value(self.node).shape
        return self.tracer.create_proxy("call_method", "size", (self, 0), {}), *sizes[1:]

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class _Stages(fx.Tracer):
    """Traces a backbone's forward from stage to stage, but not inside a stage.

    A transformer computes with sizes between its stages, so sizes must be numbers. Running the net on `image` gives them.

    image: float32 (1, 3, H, W). A tensor that depends on the image's size alone, such as a rotary position
    embedding, becomes a constant in the trace.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self.values: dict[fx.Node, Any] = {}
        self.runs = False  # True while modules run on the image and are not traced

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        inside = name.removeprefix("net").removeprefix(".")
        return bool(inside) and ("." in inside or not isinstance(module, CONTAINERS))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and all(a is not weight for weight in (*self.root.parameters(), *self.root.buffers())):
            self.root.register_buffer(f"constant{len(list(self.root.buffers()))}", a, persistent=False)
        return super().create_arg(a)

    def value(self, node: fx.Node) -> Any:
        """Return a node's value for the image; it is computed only if its size is needed."""
        if node not in self.values:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.value)
            self.runs = True
            if node.op == "placeholder":
                self.values[node] = self.image
            elif node.op == "get_attr":
                self.values[node] = attrgetter(str(node.target))(self.root)
            elif node.op == "call_module":
                self.values[node] = self.root.get_submodule(str(node.target))(*args, **kwargs)
            else:
                target = getattr(args[0], node.target) if isinstance(node.target, str) else node.target
                self.values[node] = target(*(args[1:] if node.op == "call_method" else args), **kwargs)
            self.runs = False
        return self.values[node]

    def call_module(self, m: nn.Module, forward: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return forward(*args, **kwargs) if self.runs else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val if self.runs else super().getattr(attr, attr_val, parameter_proxy_cache)


def halves(backbone: nn.Module, stage: str, image: Tensor) -> Halves:
    """Cut the backbone before the stage of that name: a child of the backbone, or of a sequence in it.

    image: float32 (1, 3, H, W), of the size that the halves are for. A tensor that bypasses the stage and depends on this
    size alone becomes a constant of `above`.
    Raises InputError for an unknown stage. Raises it too if a tensor that depends on the image or on trained weights
    bypasses the stage: the net cannot be cut there.
    """
    names = _names(backbone, image)
    first = next((name for name in names if _within(name, stage)), None)
    if first is None or first == names[0]:
        raise InputError(f"{stage}: no stage above the first; this net has {', '.join(names[1:])}", setting="train_from")

    below = _traced(backbone, image)
    next(node for node in below.graph.nodes if node.op == "output").args = (_input_of(below, first),)

    above = _traced(backbone, image)
    source = _input_of(above, first)
    with above.graph.inserting_before(next(iter(above.graph.nodes))):
        activations = above.graph.placeholder("activations")
    later = set(list(above.graph.nodes)[list(above.graph.nodes).index(source) + 1 :])  # nodes that read `activations`
    source.replace_all_uses_with(activations, later.__contains__)
    below, above = _tidied(below), _tidied(above)
    trained = {id(parameter) for parameter in above.parameters()}
    inputs = [node.name for node in above.graph.nodes if node.op == "placeholder"]
    if inputs != [activations.name] or any(id(parameter) in trained for parameter in below.parameters()):
        what = f"{stage}: a tensor bypasses this stage, so the net cannot be cut there"
        raise InputError(f"{what}; take another stage, or all, which trains the whole net", setting="train_from")
    return Halves(below, above)


def around_middle(backbone: nn.Module, image: Tensor, above: bool) -> str:
    """Return the middle stage of `models.taps.middle_and_last`, or the stage above it: blocks.4 or blocks.5 of
    EfficientNet-Lite0, layer3 or layer4 of a ResNet.

    image: float32 (1, 3, H, W). Raises InputError if the net has no such stage.
    """
    middle = middle_and_last(stages(backbone, image))[:1]
    names = _names(backbone, image)
    places = [i for i, name in enumerate(names) if middle and _within(name, middle[0])]
    if not places or places[0] == 0 or places[-1] + 1 == len(names):
        what = f"no middle stage; give all, which trains the whole net, or one of {', '.join(names[1:])}"
        raise InputError(what, setting="train_from")
    return names[places[-1] + 1] if above else names[places[0]]


def at_large_maps(backbone: nn.Module, image: Tensor) -> Halves | None:
    """Cut the backbone after the last stage whose maps have a side of more than 1/8 of the image's. The stages below the
    cut take most of the memory of training, but little time. Returns None without such a stage, or if no cut is possible."""
    sizes = stages(backbone, image)
    large = [name for name, (places, _) in sizes.items() if 64 * places > image.shape[2:].numel()]
    try:
        names = _names(backbone, image)
        place = max((i for i, name in enumerate(names) if large and _within(name, large[-1])), default=len(names))
        return halves(backbone, names[place + 1], image) if place + 1 < len(names) else None
    except InputError:
        return None


def _names(backbone: nn.Module, image: Tensor) -> list[str]:
    """List the modules that an image goes through, in order."""
    nodes = _traced(backbone, image).graph.nodes
    return [str(node.target).removeprefix("net.") for node in nodes if node.op == "call_module"]


def _within(name: str, stage: str) -> bool:
    return name == stage or name.startswith(f"{stage}.")


def _traced(backbone: nn.Module, image: Tensor) -> fx.GraphModule:
    whole = _OneInput(backbone)
    try:
        with evaluating(whole):
            return fx.GraphModule(whole, _Stages(image).trace(whole))
    except Exception as error:  # the net's own code runs here
        what = f"this net cannot be cut: its forward cannot be traced ({error}); give all, which trains the whole net"
        raise InputError(what, setting="train_from") from None


def _input_of(net: fx.GraphModule, name: str) -> fx.Node:
    """Return the input node of a module's first call."""
    source = next(node for node in net.graph.nodes if node.op == "call_module" and node.target == f"net.{name}").args[0]
    assert isinstance(source, fx.Node)
    return source


def _tidied(net: fx.GraphModule) -> fx.GraphModule:
    """Return the net without the nodes that its output does not need."""
    net.graph.eliminate_dead_code()
    for node in list(net.graph.nodes):
        if node.op == "placeholder" and not node.users:
            net.graph.erase_node(node)
    return fx.GraphModule(net, net.graph)  # holds only the modules and weights that its graph names
