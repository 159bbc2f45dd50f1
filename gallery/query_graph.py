"""Embeds query images without PyTorch, which takes seconds to import and to load a net.

The graph takes a crop through backbone and readout. The first query writes it into the gallery, after its answer. query.json
beside it names the model and the hash of the graph. A graph of another model, or a damaged one, is not used; the gallery's
model then embeds the query by PyTorch.
"""

import copy
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from data.crops import centre_crop
from data.formats import Unreadable
from data.pixels import read
from data.reports import refused, warn_once
from gallery.folder import GalleryFolder, read_json
from gallery.store import Gallery
from utils import log
from utils.files import file_digest, write_json, written_whole
from utils.onnx_file import open_graph

if TYPE_CHECKING:
    from gallery.model import Model

TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest number of an embedding
VERSION = 1  # raise it when graphs or query.json are written in another way


class QueryEmbedder:
    """Embeds image files for a gallery: by its graph, or by its model if there is no graph, or if a device is asked for."""

    def __init__(self, gallery: Gallery, device: str, memory: int) -> None:
        """device: as `utils.device.choose` takes it; InputError if there is none. memory: bytes for decoding a picture."""
        self.gallery, self.device, self.memory = gallery, device, memory
        self._loaded: Model | None = None
        if device != "cpu":
            from utils.device import choose  # imports PyTorch

            choose(device)

    def __call__(self, paths: list[str]) -> np.ndarray:
        """Return float32 (n, d), rows of length 1. Raises InputError for a file that cannot be read."""
        rows = embed(self.gallery, paths, self.memory) if self.device == "cpu" else None
        if rows is not None:
            return rows
        from gallery import model
        from utils.device import choose

        self._loaded = model.of_gallery(self.gallery, choose(self.device).device)
        self._loaded.embedder.transforms.memory = self.memory
        return self._loaded.embed(paths)

    def prepare_next(self) -> None:
        """Write a graph for further calls, if this one had to load the model."""
        if self._loaded and self.device == "cpu":
            prepare(self.gallery.place, self._loaded)


def prepare(place: GalleryFolder, model: "Model") -> None:
    """Write the graph of the gallery's model. A model that cannot be exported is not tried again; a full disk is."""
    transforms = model.embedder.transforms
    sizes = {"origin_width": transforms.origin_width, "width": transforms.width, "detail": transforms.detail}
    about = {"version": VERSION, "model": model.digest, "graph": None, **sizes}
    with suppress(Exception):  # there is none yet, or a damaged one
        if read_json(place.query_about) == about:
            return
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, suppress(OSError):  # a read-only gallery: queries stay slow
        path = os.path.join(folder, "query.onnx")
        try:
            reason = _write(model, path)
        except Exception as error:  # the net's own code runs in the exporter
            reason = (str(error) or type(error).__name__).splitlines()[0]
        if reason:
            log.say(f"further queries are as slow as this one, because the net has no graph for ONNX Runtime ({reason})")
        else:
            with open(path, "rb") as source, written_whole(place.query_graph) as target:
                target.write(source.read())
            about["graph"] = file_digest(path)
            log.say(f"further queries start sooner: wrote a graph for ONNX Runtime in {time.perf_counter() - began:.1f} s")
        write_json(place.query_about, about)


def embed(gallery: Gallery, paths: Sequence[str], memory: int) -> np.ndarray | None:
    """Embed image files by the gallery's graph: float32 (n, d), rows of length 1. None if no graph of its model runs.

    memory: bytes that decoding a picture may take. Raises InputError for a file that cannot be read.
    """
    about = _about(gallery.place, gallery.about["model"])
    if about is None:
        return None
    try:
        run = open_graph(gallery.place.query_graph)
    except Exception:  # ONNX Runtime is missing, or its version cannot read the graph
        return None
    rows = [run(_crop(path, about, memory)[None])[0][0] for path in paths]
    embeddings = np.stack(rows).astype(np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def _crop(path: str, about: dict[str, Any], memory: int) -> np.ndarray:
    """Read the crop of an image file as the model does: uint8 (3, width, width)."""
    try:
        picture = read(path, about["origin_width"], about["detail"], memory)
    except Unreadable as error:
        raise refused(path, error) from None
    warn_once(path, picture.notes)
    return centre_crop(picture, about["width"])


def _write(model: "Model", path: str) -> str:
    """Write a model's graph for one crop, and compare it with the model. Returns why it cannot be used, or ""."""
    import torch

    from models import exported
    from models.taps import evaluating

    embedder, width = copy.deepcopy(model.embedder).cpu(), model.embedder.transforms.width
    with evaluating(embedder), torch.no_grad():
        crops = torch.randint(256, (2, 3, width, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        graph = exported.Graph(embedder, [model.kind]).eval()
        exported.write(graph, crops[:1], ["embeddings"], path, any_number=False)
        run = open_graph(path)
        ours = np.concatenate([run(crop.numpy())[0] for crop in crops.split(1)])
        (theirs,) = embedder.read(crops, model.kind)
    difference = abs(ours - theirs.numpy()).max() / abs(theirs.numpy()).max()
    return "" if difference <= TOLERANCE else f"it differs from PyTorch by {difference:.1e}"  # NaN differs too


def _about(place: GalleryFolder, digest: str) -> dict[str, Any] | None:
    """Read query.json. None if it is missing, of another model or version, or if the graph is damaged."""
    with suppress(Exception):  # a damaged file can fail in any way
        about = read_json(place.query_about)
        if (about["version"], about["model"], about["graph"]) == (VERSION, digest, file_digest(place.query_graph)):
            return about
    return None
