"""The Embedder of a gallery: made for its images or loaded from a checkpoint, and kept in the gallery."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import models
from data.pictures import KEPT
from data.pixels import PIXELS
from gallery.store import Gallery
from models.embedder import Embedder
from models.readout import ENOUGH, NoVariation
from utils import checkpoint, log
from utils.errors import InputError

DEFAULT_WIDTH = 128  # pixels of a crop for a ready-made net
MOST_FITTED = 4096  # images that a closed form is fitted to, at most; of 3,000 birds a third did as well as all


class Model(NamedTuple):
    """An Embedder, and the readout whose features a gallery holds."""

    embedder: Embedder
    kind: str  # the readout: "pooled", "embedding" or "closed_form"
    request: dict[str, Any]  # the settings that it was made with
    fitted_to: int  # images that its closed form was fitted to; 0 if none was fitted

    @property
    def dim(self) -> int:
        """The number of dimensions of an embedding."""
        return self.embedder.feature_dim if self.kind == "pooled" else self.embedder.dim

    @property
    def pixels(self) -> int:
        """The pixel version that its closed form was fitted to; the current version without a closed form."""
        form = self.embedder.closed_form
        return PIXELS if form is None else int(form.pixels)

    @property
    def digest(self) -> str:
        """A hash of weights, crop and readout: embeddings with the same digest can be compared."""
        total = hashlib.sha256(json.dumps([self.kind, self.embedder.settings], sort_keys=True).encode())
        heads = {"closed_form.", "classifier."} - {{"embedding": "classifier."}.get(self.kind, f"{self.kind}.")}
        for name, tensor in sorted(self.embedder.state_dict().items()):
            if name.startswith(tuple(heads)) or name == "closed_form.pixels":  # the readout does not use these
                continue
            if name == "closed_form.focused" and not tensor:  # galleries of earlier versions were hashed without it
                continue
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()[:32]

    def save(self, path: str) -> None:
        """Write a checkpoint, which `models.load` reads too."""
        gallery = {"kind": self.kind, "request": self.request, "fitted_to": self.fitted_to}
        origin = self.embedder.origin
        state = {"state_dict": self.embedder.state_dict(), "epoch": origin.epoch if origin else 0}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        checkpoint.save(path, {**state, "settings": self.embedder.settings, "gallery": gallery})

    def embed(self, pictures: Iterable[Image.Image | str]) -> np.ndarray:
        """Embed pictures by its readout: float32 (n, dim), rows of length 1."""
        return self.embedder.embed(pictures, pooled=self.kind == "pooled")


def load(path: str, device: Any = "cpu") -> Model:
    """Load the Model from a file that `Model.save` wrote. Raises InputError for any other file."""
    try:
        content = checkpoint.load(path).get("gallery")
    except InputError as error:
        raise InputError(f"{error}; run embed.py with --again") from None
    if not isinstance(content, dict) or not {"kind", "request", "fitted_to"} <= set(content):
        raise InputError(f"{path}: not the model of a gallery; run embed.py with --again")
    return Model(_detailed(models.load(path, device)), content["kind"], content["request"], content["fitted_to"])


def _detailed(embedder: Embedder) -> Embedder:
    """Let JPEGs be decoded at a scale that serves thumbnails too, for rows, fits and queries alike.

    The crop's pixels change a little where another scale serves the crop alone: at crops of 144 pixels, for shorter sides
    from 288 to 511, 576 to 1,023 and 1,152 to 2,047.
    """
    embedder.transforms.detail = KEPT
    return embedder


def of_gallery(gallery: Gallery, device: Any = "cpu") -> Model:
    """Load the Model that made a gallery. Raises InputError if its file holds another model."""
    path = gallery.place.model
    model = load(path, device)
    if model.digest != gallery.about["model"]:
        raise InputError(f"{path}: not the model that made the embeddings beside it; run embed.py with --again")
    return model


def make(
    request: dict[str, Any], checkpoint: str | None, weights: str | None, images: int, fit: Callable, fitted_to: int
) -> Model:
    """Make a new Model from a checkpoint, or from a ready-made net.

    request: net, head, dim, width, origin_width, and hashes of the files checkpoint and weights. images: their number.
    fit: gives an Embedder its closed form, from `fitted_to` images. Raises InputError for a model that cannot be made.
    """
    head = request["head"]
    if checkpoint:
        embedder = models.load(checkpoint, **{name: request[name] for name in models.DEFAULTS})
        readout = embedder.kind if head == "auto" else head
    else:
        width = request["width"] or DEFAULT_WIDTH
        origin_width = request["origin_width"] or width * 9 // 8
        net, dim = request["net"], request["dim"]
        embedder = models.create(net, dim, weights=weights, width=width, origin_width=origin_width).eval()
        readout = untrained_kind(head, images)
    _detailed(embedder)
    if readout != "closed_form" or embedder.closed_form is not None:
        fitted_to = 0
    else:
        try:
            fit(embedder)
        except NoVariation as error:
            log.say(f"{error}; the pooled features are kept")
            readout, fitted_to = "pooled", 0
    if embedder.closed_form is not None:
        embedder.closed_form.prefer(readout == "closed_form")
    return Model(embedder, readout, request, fitted_to)


def untrained_kind(head: str, images: int) -> str:
    """Return the readout of an untrained net: `head`, or for "auto" the one that suits the number of images."""
    if head == "embedding":
        raise InputError("embedding: an untrained net has a random one; give a checkpoint", setting="head")
    return ("closed_form" if images >= ENOUGH else "pooled") if head == "auto" else head


def outgrown(model: Model, images: int) -> str | None:
    """Return the reason to make a model anew for this many images, or None."""
    if model.request["checkpoint"] is None and model.kind != untrained_kind(model.request["head"], images):
        return f"{images} images are {'enough' if images >= ENOUGH else 'too few'} for the closed form"
    if model.fitted_to and model.pixels != PIXELS:
        return f"it was fitted to pixel version {model.pixels}, this program reads version {PIXELS}"
    if model.fitted_to and images > 2 * model.fitted_to and model.fitted_to < MOST_FITTED:
        return f"it was fitted to {model.fitted_to} images, now there are {images}"
    return None
