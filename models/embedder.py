"""The Embedder: a backbone and an embedding head, with the crop and the normalisation that they need."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from data.images import from_memory
from data.transforms import Transforms
from models.backbones import Backbone
from models.closed_form import ClosedForm
from models.halves import Cut
from models.normalise import Normalise
from models.taps import evaluating, prefix_tokens, stages, tapped
from utils.errors import InputError

# On a CPU, images go through the backbone in slices of this many pixels (16 images of 128 x 128): no activation then exceeds
# 32 MB. The allocator returns larger blocks to the system at once, and zeroing their pages would take most of the time.
SLICE = 2**18

Picture = str | os.PathLike | Image.Image | np.ndarray


class Head(nn.Sequential):
    """Pooled features -> the embedding before normalisation."""

    linear: nn.Linear

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__(OrderedDict(linear=nn.Linear(feature_dim, dim)))
        nn.init.zeros_(self.linear.bias)


class Origin(NamedTuple):
    """The checkpoint that an Embedder comes from, and its training time."""

    path: str
    epoch: int
    seconds: float | None  # wall time, without tests and earlier checkpoints' readouts; None: unknown
    cpu_seconds: float | None  # busy time of the CPU's cores; None: unknown

    @property
    def times(self) -> dict[str, float]:
        """Return the recorded times by name, in seconds."""
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {name: seconds for name, seconds in times.items() if seconds is not None}


class Embedder(nn.Module):
    """images -> pooled features -> embedding. A closed form, if there is one, can take the place of the embedding head.

    The parts are named as in the original project, so that its checkpoints load: `features`, `classifier.linear`.
    """

    origin: Origin | None = None  # the checkpoint that it was loaded from
    closed_form: ClosedForm | None  # fitted to the present weights; dropped when training goes on
    agreement_before: dict[float, float]  # weight -> soft agreement of the net before training; empty: not known
    cut: Cut | None = None  # set if training runs the backbone in two halves
    graphs: dict[int, Any]  # width of crops -> `models.engine.Graph`, which runs the backbone faster; empty: PyTorch alone

    def __init__(self, backbone: Backbone, settings: dict[str, Any], freeze_bn: bool = False) -> None:
        """settings: net, dim, width and origin_width, as in models.DEFAULTS. freeze_bn: as in `models.create`."""
        super().__init__()
        self.features = backbone.features
        self.feature_dim = backbone.feature_dim
        self.original = backbone.original
        self.normalise = Normalise(backbone.preprocessing)
        self.settings = settings
        self.dim = settings["dim"]
        self.transforms = Transforms(settings["width"], settings["origin_width"])
        self.freeze_bn = freeze_bn
        self.classifier = Head(self.feature_dim, self.dim)
        self.closed_form = None
        self.agreement_before = {}
        self.graphs = {}
        self.train()

    @torch.no_grad()
    def start_embedding_at(self, features: np.ndarray | Tensor) -> None:
        """Set the embedding head to the linear map that best keeps the inner products of `features` (N, feature_dim).

        Its rows are the leading eigenvectors of F^T F (Eckart and Young 1936). Training then starts from the backbone's
        knowledge; a random head starts from a random part of it. The rows have the size of torch's random start, because
        Adam's step does not scale with their size. Rows beyond feature_dim are zero, and so is the bias.
        """
        rows = torch.as_tensor(features)
        vectors = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors.flip(1).T[: self.dim]
        weight = self.classifier.linear.weight
        weight.zero_()
        self.classifier.linear.bias.zero_()  # a checkpoint's bias is for another map
        weight[: len(vectors)] = vectors.to(weight) / 3**0.5

    def slices(self, images: Tensor) -> Iterator[Tensor]:
        """Yield images (as for `pool`) in the form that the backbone takes, on a CPU slice by slice."""
        size = images.shape[0]  # len() would fix the size in an exported graph
        if self.classifier.linear.weight.is_cpu and (self.freeze_bn or not self.training):  # batch statistics need all
            pixels = self.transforms.width**2 if images.dtype == torch.float16 else images.shape[2:].numel()
            size = max(SLICE // pixels, torch.get_num_threads())  # at least one image for each thread
        layout = self.layout
        # an exported graph takes any number of images, so it cannot split them into pieces of a fixed size
        for part in (images,) if torch.compiler.is_exporting() else images.split(max(1, size)):
            if part.dtype == torch.float16:
                layout = layout if part.ndim == 4 else torch.contiguous_format
                yield part.to(self.classifier.linear.weight).contiguous(memory_format=layout)
            else:
                yield part if part.is_floating_point() else self.normalise(part, layout)

    def pool(self, images: Tensor) -> Tensor:
        """Return the pooled features, float32 (N, feature_dim), of images (N, 3, H, W): uint8 RGB, or normalised float32.

        It also takes activations from below the cut (`models.cut`), float16 (N, ...). A CPU takes either slice by slice.
        """
        return self.read(images, "pooled")[0]

    def trunk(self, images: Tensor, layers: Sequence[str] = ()) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        """Yield the pooled features, float32 (n, feature_dim), and the outputs of the named stages, slice by slice.

        images: as for `pool`. ONNX Runtime runs the backbone if there is a graph that serves these images.
        """
        graph = None if self.training else self.graphs.get(images.shape[-1])
        if graph and graph.serves(images, layers):
            yield from graph(images)
            return
        net = self.cut.net(self.features, images.dtype, self.training) if self.cut else self.features
        for part in self.slices(images):
            with tapped(self.features, layers) as maps:
                pooled = net(part).flatten(1).float()
            yield pooled, maps

    def read(self, images: Tensor, *kinds: str) -> tuple[Tensor, ...]:
        """Return the features of images (as for `pool`) by each readout, from one pass through the backbone.

        kinds: the readouts: "pooled" (N, feature_dim), "embedding" (N, dim), "closed_form" (N, dim), or "description", the
        parts of the closed form (N, P).
        """
        form = self.closed_form if {"closed_form", "description"} & set(kinds) else None
        if "closed_form" in kinds and form is None:
            raise InputError("has no closed form; fit one first", setting="readout")
        pooled, described = list[Tensor](), list[Tensor]()
        for part, maps in self.trunk(images, form.layers if form else ()):
            pooled.append(part)
            if form:
                with full_precision(part):
                    described.append(form.describe(part, maps))
        features = {"pooled": torch.cat(pooled)}
        if "embedding" in kinds:
            features["embedding"] = self.project(features["pooled"])
        if form:
            features["description"] = torch.cat(described)
            if "closed_form" in kinds:
                with full_precision(features["description"]):
                    features["closed_form"] = form.project(features["description"])
        return tuple(features[kind] for kind in kinds)

    @property
    def kinds(self) -> list[str]:
        """List the readouts that give an embedding: "embedding", and "closed_form" if there is one."""
        return ["embedding"] + ["closed_form"] * (self.closed_form is not None)

    @property
    def kind(self) -> str:
        """Return the Embedder's readout: "closed_form" if there is one and it is preferred, else "embedding"."""
        return "closed_form" if self.closed_form is not None and self.closed_form.is_preferred else "embedding"

    def project(self, features: Tensor) -> Tensor:
        """Embed pooled features (N, feature_dim): float32 (N, dim) of length one; a zero vector stays zero, never NaN."""
        with full_precision(features):
            # eps bounds the gradient at a zero vector by 1e6; no real embedding is that short.
            return F.normalize(self.classifier(features.float()), dim=1, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings of images (as for `pool`), float32 (N, dim) of length one, by the Embedder's readout."""
        return self.read(images, self.kind)[0]

    @torch.inference_mode()
    def embed(self, pictures: Picture | Iterable[Picture], batch_size: int = 64, pooled: bool = False) -> np.ndarray:
        """Return the embeddings, float32 (N, dim), of one or more paths, PIL images or uint8 arrays (H, W, 3).

        pooled: return L2-normalised pooled features (N, feature_dim) instead. The net runs in evaluation mode.
        Raises InputError for a file that cannot be read.
        """
        if isinstance(pictures, Picture):
            pictures = [pictures]
        batch, rows = list[Tensor](), [np.empty((0, self.feature_dim if pooled else self.dim), np.float32)]

        def flush() -> None:
            if batch:
                (features,) = self.read(torch.stack(batch), "pooled" if pooled else self.kind)
                rows.append((F.normalize(features) if pooled else features).cpu().numpy())
                batch.clear()

        with evaluating(self):
            for picture in pictures:
                if isinstance(picture, str | os.PathLike):
                    image = self.transforms.load(os.fspath(picture))
                else:
                    image = from_memory(picture, self.transforms.origin_width)
                batch.append(self.transforms.centre_crop(image))
                if len(batch) == batch_size:
                    flush()
            flush()
        return np.concatenate(rows)

    def train(self, mode: bool = True) -> "Embedder":
        """As in torch, except that with freeze_bn every BatchNorm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        if self.cut and self.cut.stage:
            self.cut.halves.below.eval()  # it is frozen
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Embedder":
        """As in torch, where `to` and `cuda` call it; it also moves the constants of the halves, which are no submodules."""
        super()._apply(fn, recurse)
        for half in self.cut.halves if self.cut else ():
            half._apply(fn)
        return self

    def expect_closed_form(self, state_dict: Mapping[str, Any], source: str | os.PathLike) -> None:
        """Make an empty closed form with the shapes in an Embedder's state_dict, or none if the state_dict has none.

        source: name of the state_dict in errors. Raises InputError if its closed form is damaged, or of another net or dim.
        """
        prefix = "closed_form."
        tensors = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if not tensors:
            self.closed_form = None
            return
        weight = self.classifier.linear.weight
        images = weight.new_zeros(1, 3, self.transforms.width, self.transforms.width)
        channels = {name: number for name, (_, number) in stages(self.features, images).items()}
        try:
            form = ClosedForm.like(tensors, self.feature_dim, channels, self.dim, prefix_tokens(self.features))
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        self.closed_form = form.to(weight.device)

    @property
    def layout(self) -> torch.memory_format:
        """Return the memory format of the backbone's first convolution; images should have the same format."""
        first = next((weight for weight in self.features.parameters() if weight.ndim == 4), None)
        if first is None or not first.is_contiguous(memory_format=torch.channels_last):
            return torch.contiguous_format
        return torch.channels_last


def full_precision(features: Tensor) -> Any:
    """Return a context without autocast: heads cost little next to a backbone, and similarities must be exact to 1e-3."""
    return torch.autocast(features.device.type, enabled=False)
