"""Chooses the model by which a gallery is made: the gallery's own, or a new one."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data.images import Images
from data.lists import shown
from data.views import ImageBatches
from gallery import model as gallery_model
from gallery.folder import GalleryFolder
from gallery.model import MOST_FITTED, Model
from models.readout import Fitter
from utils import log
from utils.arrays import evenly
from utils.device import Compute
from utils.distributed import Group, cores_here
from utils.errors import InputError
from utils.files import file_digest
from utils.interrupt import Stop

FEW = 500  # images: fewer are read sooner than loading processes start


class Settings(NamedTuple):
    """The flags of embed.py."""

    images: Sequence[str]  # folders, lists, photos
    exclude: Sequence[str]
    include_excluded: bool
    out: str
    name: str
    dtype: str  # "float32" or "float16"
    again: bool
    checkpoint: str | None
    net: str | None
    weights: str | None
    head: str
    dim: int | None
    width: int | None
    origin_width: int | None
    batch_size: int
    nThreads: int | None
    seed: int
    thumbnails: bool
    memory: int  # bytes that decoding one picture may take


class Machine(NamedTuple):
    compute: Compute
    group: Group
    stop: Stop


def choose_model(
    settings: Settings,
    machine: Machine,
    place: GalleryFolder,
    paths: list[str],
    before_fit: Callable[[Model], None] = lambda plain: None,
) -> Model:
    """Return the gallery's model if it fits the settings and the number of images; else make one and save it in `making`.

    before_fit: called with the plain features of a ready-made net, before a closed form is fitted to it.
    """
    request = {name: getattr(settings, name) for name in ("net", "head", "dim", "width", "origin_width")}
    request |= {name: hash_of_setting(getattr(settings, name)) for name in ("checkpoint", "weights")}
    group = machine.group
    usable = group.share_object(find_model(settings, place, request, len(paths)) if not group.rank else None)
    if usable:
        model = gallery_model.load(usable)
    else:
        sample = [paths[row] for row in evenly(len(paths), MOST_FITTED).tolist()]

        def fit(embedder: Any) -> None:
            machine.compute.place(embedder)
            if not settings.checkpoint:
                before_fit(Model(embedder, "pooled", request, 0))
            workers = loading_processes(settings.nThreads, len(sample))
            batches = ImageBatches(Images(sample, embedder.transforms), settings.batch_size, workers, group=group)
            Fitter(batches, machine.compute, group, "closed_form", settings.seed, "skip")(embedder)

        model = gallery_model.make(request, settings.checkpoint, settings.weights, len(paths), fit, len(sample))
        if group.rank == 0:
            model.save(place.making.model)
    machine.compute.place(model.embedder).eval()
    model.embedder.transforms.memory = settings.memory
    return model


def find_model(settings: Settings, place: GalleryFolder, request: dict[str, Any], images: int) -> str | None:
    """Return the file of a model to use again, or None. Without --again, another model in the gallery raises InputError."""
    for path in [place.making.model] if settings.again else [place.making.model, place.model]:
        in_place = path == place.model
        if not os.path.exists(path):
            continue
        try:
            model = gallery_model.load(path)
        except InputError:
            if in_place:
                raise
            continue
        if model.request != request:
            if in_place:
                differ = ", ".join(name for name in request if model.request.get(name) != request[name])
                what = f"holds embeddings of another model ({differ}); give another folder, or --again to embed all anew"
                raise InputError(f"{shown(settings.out)}: {what}", setting="out")
        elif reason := gallery_model.outgrown(model, images):
            log.say(f"the model is made anew: {reason}")
        else:
            if in_place and os.path.exists(place.making.model):
                os.remove(place.making.model)
            return path
    return None


def hash_of_setting(path: str | None) -> str | None:
    """Hash a file that a flag names (SHA-256), to recognise a checkpoint wherever it lies."""
    try:
        return None if path is None else file_digest(path)
    except OSError as error:
        raise InputError(f"{shown(str(path))}: cannot be read ({error.strerror})") from None


def loading_processes(requested: int | None, images: int) -> int:
    """Return how many processes load images. They help even on a CPU: decoding a photo takes longer than embedding it."""
    if requested is not None:
        return requested
    return 0 if images < FEW else cores_here()
