"""The Embedder: any backbone, with an embedding head and a rotation head on its pooled features.

UDML-SS (Cao, Chen, Lim 2019, arXiv 1911.07072): one backbone learns from pseudo-labels through the embedding and from
four rotations (Gidaris et al. 2018, arXiv 1803.07728) through a second head.
"""

from collections import OrderedDict
from typing import Callable, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from models import state

ROTATIONS = 4
# On a CPU images go through the backbone in slices of this many pixels (16 images of 128 x 128), so that no activation
# exceeds 32 MB: larger blocks the allocator returns to the system at once, and zeroing their pages takes most of the time.
SLICE = 2**18


class Preprocessing(NamedTuple):
    """What a backbone expects: (pixel - mean) / std on 0..255 values, in the channel order of its input."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool


# The two Caffe-born Inceptions were trained on BGR pixels from which only a mean was taken.
CAFFE = Preprocessing(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), bgr=True)


class Backbone(NamedTuple):
    """What a family's `build` returns.

    features: (N, 3, H, W) images -> pooled features, (N, feature_dim) or (N, feature_dim, 1, 1).
    rename: a key of the original project's checkpoints -> our key, where they differ.
    """

    features: nn.Module
    feature_dim: int
    preprocessing: Preprocessing
    rename: Callable[[str], str] = str  # str leaves a key as it is


class Embedder(nn.Module):
    """images -> pooled features -> embedding, or -> rotation logits.

    The parts are named as in the original project, so that its checkpoints load: `features`, `classifier.linear`,
    `classifier_rot.0`, `classifier_rot.2`.
    """

    def __init__(self, backbone, dim=512, freeze_bn=False, rotation=True):
        """backbone: a Backbone; the rest as in `models.create`."""
        super().__init__()
        self.features = backbone.features
        self.feature_dim = backbone.feature_dim
        self.preprocessing = backbone.preprocessing
        self.rename = backbone.rename
        self.dim = dim
        self.freeze_bn = freeze_bn
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(self.feature_dim, dim)))
        self.classifier_rot = None
        if rotation:
            # No ReLU after the last layer, where the original has one: it would cut the gradient of negative logits.
            self.classifier_rot = nn.Sequential(
                nn.Linear(self.feature_dim, 512), nn.ReLU(inplace=True), nn.Linear(512, ROTATIONS)
            )
        for name, bias in self.named_parameters():
            if name.startswith("classifier") and name.endswith("bias"):
                nn.init.zeros_(bias)
        self.train()

    @torch.no_grad()
    def start_embedding_at(self, features):
        """Set the embedding head to the linear map that keeps the inner products of `features` (N, feature_dim) best.

        Its rows are the leading eigenvectors of F^T F (Eckart and Young 1936), so training starts from what the backbone
        knows; a random head starts from a random part of it. Scaled to the size of torch's random start, because
        Adam's step does not scale with it. Rows beyond feature_dim are zero.
        """
        features = torch.as_tensor(features)
        vectors = torch.linalg.eigh((features.T @ features).double()).eigenvectors.flip(1).T[:self.dim]
        weight = self.classifier.linear.weight
        weight.zero_()
        weight[:len(vectors)] = vectors.to(weight) / 3**0.5

    def pool(self, images, normalise=nn.Identity()):
        """images: float32 (N, 3, H, W), normalised as `preprocessing` says, or what `normalise` makes so (uint8, say; on a
        CPU it is called slice by slice). Returns float32 (N, feature_dim)."""
        size = len(images)
        if self.classifier.linear.weight.is_cpu and (self.freeze_bn or not self.training):  # batch statistics need them all
            size = max(SLICE // images.shape[2:].numel(), torch.get_num_threads())  # an image for each thread at least
        return torch.cat([self.features(normalise(part)).flatten(1).float() for part in images.split(max(1, size))])

    def pool_views(self, images, num_metric, normalise=nn.Identity()):
        """As `pool`, of images the first `num_metric` of which are metric views and the others rotated copies."""
        if self.freeze_bn or num_metric in (0, len(images)):
            return self.pool(images, normalise)  # one pass for all views
        # rotated copies would disturb the batch statistics of the others
        return torch.cat([self.pool(part, normalise) for part in (images[:num_metric], images[num_metric:])])

    def embed(self, features):
        """features: (N, feature_dim). Returns float32 (N, dim) of length one; a zero vector stays zero, never NaN."""
        with _full_precision(features):
            # eps bounds the gradient at a zero vector by 1e6; no real embedding is that short.
            return F.normalize(self.classifier(features.float()), dim=1, eps=1e-6)

    def rotate(self, features):
        """features: (N, feature_dim). Returns float32 (N, 4): logits for 0, 90, 180 and 270 degrees."""
        if self.classifier_rot is None:
            raise RuntimeError("this Embedder was created with rotation=False")
        with _full_precision(features):
            return self.classifier_rot(features.float())

    def forward(self, images):
        """images: (N, 3, H, W). Returns their embeddings, float32 (N, dim)."""
        return self.embed(self.pool(images))

    def train(self, mode=True):
        """As in torch, except that with freeze_bn every BatchNorm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _full_precision(features):
    """The heads cost nothing next to the backbone, and similarities are compared to 1e-3: keep them out of autocast."""
    return torch.autocast(features.device.type, enabled=False)


def load_state(model, state_dict, source="checkpoint"):
    """Fill an Embedder from a checkpoint of this project or of the original one; all or nothing.

    state_dict: key -> tensor, also with the "module." that DataParallel puts before each key. Every parameter and
        running statistic of the model has to be there, except the rotation head when the checkpoint has none.
    source: what to call the checkpoint in an error, best its path.

    Returns the keys that the model has no use for (`classifier.bn.*` of the original, a rotation head).
    Raises InputError naming the keys that are missing or too many and the shapes that differ.
    """
    tensors = {model.rename(key): value for key, value in state.tensors(state_dict, source).items()}
    rot = "classifier_rot."
    optional = () if any(key.startswith(rot) for key in tensors) else (rot,)
    ignored = ("classifier.bn.",) if model.classifier_rot is not None else ("classifier.bn.", rot)
    width = tensors.get("classifier.linear.weight")
    hint = "is it from another --net?"
    if width is not None and width.ndim == 2 and width.shape[0] != model.dim:
        hint = f"it was trained with --dim {width.shape[0]}, not {model.dim}"
    return state.fit(model, tensors, source, ignored=ignored, optional=optional, hint=hint)
