"""The Embedder: a backbone and an embedding head, with the crop and the normalisation that they were made for."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
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

# On a CPU images go through the backbone in slices of this many pixels (16 images of 128 x 128), so that no activation
# exceeds 32 MB: larger blocks the allocator returns to the system at once, and zeroing their pages takes most of the time.
SLICE = 2**18

Picture = str | os.PathLike | Image.Image | np.ndarray


class Head(nn.Sequential):
    """Pooled features -> the embedding before it gets length one."""

    linear: nn.Linear

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__(OrderedDict(linear=nn.Linear(feature_dim, dim)))
        nn.init.zeros_(self.linear.bias)


class Origin(NamedTuple):
    """The checkpoint that an Embedder comes from, and what training it took."""

    path: str
    epoch: int
    seconds: float | None  # of wall time, without tests and earlier checkpoints' readouts; None: unknown
    cpu_seconds: float | None  # that cores were busy; None: unknown

    @property
    def times(self) -> dict[str, float]:
        """The seconds that are known, by name."""
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {name: seconds for name, seconds in times.items() if seconds is not None}


class Embedder(nn.Module):
    """images -> pooled features -> embedding; or, where it has one, its closed form in place of the embedding head.

    The parts are named as in the original project, so that its checkpoints load: `features`, `classifier.linear`.
    """

    origin: Origin | None = None  # the checkpoint that it was loaded from
    closed_form: ClosedForm | None  # fitted to the weights as they are: it is dropped when training goes on
    cut: Cut | None = None  # where training takes it in two halves

    def __init__(self, backbone: Backbone, settings: dict[str, Any], freeze_bn: bool = False) -> None:
        """settings: those of models.DEFAULTS: the net's name, dim, width, origin_width. The rest as in `models.create`."""
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
        self.train()

    @torch.no_grad()
    def start_embedding_at(self, features: np.ndarray | Tensor) -> None:
        """Set the embedding head to the linear map that keeps the inner products of `features` (N, feature_dim) best.

        Its rows are the leading eigenvectors of F^T F (Eckart and Young 1936), so training starts from what the backbone
        knows; a random head starts from a random part of it. Scaled to the size of torch's random start, because
        Adam's step does not scale with it. Rows beyond feature_dim are zero, as is the bias.
        """
        rows = torch.as_tensor(features)
        vectors = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors.flip(1).T[: self.dim]
        weight = self.classifier.linear.weight
        weight.zero_()
        self.classifier.linear.bias.zero_()  # that of a checkpoint is for another map
        weight[: len(vectors)] = vectors.to(weight) / 3**0.5

    def slices(self, images: Tensor) -> Iterator[Tensor]:
        """images as for `pool` -> as the backbone takes them, on a CPU slice by slice."""
        size = images.shape[0]  # not len(), which would fix it in an exported graph
        if self.classifier.linear.weight.is_cpu and (self.freeze_bn or not self.training):  # batch statistics need them all
            pixels = self.transforms.width**2 if images.dtype == torch.float16 else images.shape[2:].numel()
            size = max(SLICE // pixels, torch.get_num_threads())  # an image for each thread at least
        layout = self.layout
        # an exported graph takes any number of images, which pieces of a fixed number would not allow
        for part in (images,) if torch.compiler.is_exporting() else images.split(max(1, size)):
            if part.dtype == torch.float16:
                layout = layout if part.ndim == 4 else torch.contiguous_format
                yield part.to(self.classifier.linear.weight).contiguous(memory_format=layout)
            else:
                yield part if part.is_floating_point() else self.normalise(part, layout)

    def pool(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W), uint8 RGB, or float32 and normalised already -> pooled features, float32 (N, feature_dim).

        float16 (N, ...) are activations from below the cut (`models.cut`). On a CPU all are taken slice by slice.
        """
        return self.read(images, "pooled")[0]

    def read(self, images: Tensor, *kinds: str) -> tuple[Tensor, ...]:
        """images as for `pool` -> their features of each kind, from one pass through the backbone.

        kinds: "pooled" (N, feature_dim), "embedding" (N, dim), "closed_form" (N, dim), and "description", what the closed
        form is made of (N, P).
        """
        form = self.closed_form if {"closed_form", "description"} & set(kinds) else None
        if "closed_form" in kinds and form is None:
            raise InputError("has no closed form; fit one first", setting="readout")
        net = self.cut.net(self.features, images.dtype, self.training) if self.cut else self.features
        pooled, described = list[Tensor](), list[Tensor]()
        for part in self.slices(images):
            with tapped(self.features, form.layers if form else ()) as maps:
                pooled.append(net(part).flatten(1).float())
            if form:
                with full_precision(part):
                    described.append(form.describe(pooled[-1], maps))
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
        """The embeddings that it can give: of its head, and its closed form where it has one."""
        return ["embedding"] + ["closed_form"] * (self.closed_form is not None)

    @property
    def kind(self) -> str:
        """The kind of features that it gives: "closed_form" where it has one that is preferred, else "embedding"."""
        return "closed_form" if self.closed_form is not None and self.closed_form.is_preferred else "embedding"

    def project(self, features: Tensor) -> Tensor:
        """features: (N, feature_dim). Returns float32 (N, dim) of length one; a zero vector stays zero, never NaN."""
        with full_precision(features):
            # eps bounds the gradient at a zero vector by 1e6; no real embedding is that short.
            return F.normalize(self.classifier(features.float()), dim=1, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """images as for `pool`. Returns their features of its `kind`, float32 (N, dim) of length one."""
        return self.read(images, self.kind)[0]

    @torch.inference_mode()
    def embed(self, pictures: Picture | Iterable[Picture], batch_size: int = 64, pooled: bool = False) -> np.ndarray:
        """Paths, PIL images or uint8 arrays (H, W, 3) -> their embeddings, float32 (N, dim); one or any number of them.

        pooled: the L2-normalised pooled features instead, (N, feature_dim). The net is used in evaluation mode.
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
        """As in torch, which `to` and `cuda` come down to; constants of the halves, which are no submodules, go along."""
        super()._apply(fn, recurse)
        for half in self.cut.halves if self.cut else ():
            half._apply(fn)
        return self

    def expect_closed_form(self, state_dict: Mapping[str, Any], source: str | os.PathLike) -> None:
        """Have a closed form of the shapes that a state_dict of an Embedder holds, or none where it holds none.

        source: what to call it in an error. Raises InputError for one that is damaged, of another net, or of another dim.
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
        """The memory format of the backbone's first convolution, which its images should have too."""
        first = next((weight for weight in self.features.parameters() if weight.ndim == 4), None)
        if first is None or not first.is_contiguous(memory_format=torch.channels_last):
            return torch.contiguous_format
        return torch.channels_last


def full_precision(features: Tensor) -> Any:
    """A context without autocast: heads cost nothing next to a backbone, and similarities are compared to 1e-3."""
    return torch.autocast(features.device.type, enabled=False)
