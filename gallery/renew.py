"""Brings a gallery up to date with a folder of images: embeds new and changed images, forgets deleted ones."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from sqlite3 import Error as TableError
from typing import Any, NamedTuple

import numpy as np
import torch

from data.images import PIXELS, Images
from data.lists import first_few, shown
from data.views import BadImage, ImageBatches
from gallery import model as gallery_model
from gallery.folder import GalleryFolder, refuse_among_photos
from gallery.intake import Taken, Unopened, take_in
from gallery.model import MOST_FITTED, Model
from gallery.store import UNNUMBERED, Bad, File
from gallery.survey import Survey, survey
from gallery.writer import Writer, is_current, known_bad
from models.readout import Fitter
from utils import log
from utils.arrays import evenly
from utils.device import Compute
from utils.distributed import Group, cores_here
from utils.errors import InputError, RunError
from utils.features import encoder
from utils.files import file_digest
from utils.interrupt import Stop
from utils.lock import locked
from utils.progress import bar

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


class Machine(NamedTuple):
    compute: Compute
    group: Group
    stop: Stop


def renew(settings: Settings, machine: Machine) -> None:
    """Bring the gallery in `settings.out` up to date with the images, and say what was done.

    Raises InputError for images, a folder or a net that cannot be used, and RunError if the disk is full.
    """
    group, place = machine.group, GalleryFolder(settings.out)
    with ExitStack() as until_the_end:
        surveyed = None if group.rank else survey(settings.images, settings.exclude, settings.include_excluded)
        images: Survey = group.share_object(surveyed)
        if group.rank == 0:
            refuse_among_photos(settings.out, images.roots)
            log.make_folder(settings.out)
            until_the_end.enter_context(locked(settings.out, "out"))
            until_the_end.enter_context(clear_words(settings.out))
            place.refuse_foreign()
            place.put_in_place()
        until_the_end.enter_context(group.watching())
        model = choose_model(settings, machine, place, [file.path for file in images.files])
        bring_up_to_date(settings, machine, place, model, images)
        group.leave()


@contextmanager
def clear_words(out: str) -> Iterator[None]:
    """Turn the errors of a full or unwritable disk in this block into a RunError."""
    try:
        yield
    except (OSError, TableError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{shown(out)}: cannot be written ({reason}); make room and run the same command again") from None


# ---- by which model --------------------------------------------------------------------------------------------------


def choose_model(settings: Settings, machine: Machine, place: GalleryFolder, paths: list[str]) -> Model:
    """Return the gallery's model if it fits the settings and the number of images; else make one and save it in `making`."""
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
            workers = loading_processes(settings.nThreads, len(sample))
            batches = ImageBatches(Images(sample, embedder.transforms), settings.batch_size, workers, group=group)
            Fitter(batches, machine.compute, group, "closed_form", settings.seed, "skip")(embedder)

        model = gallery_model.make(request, settings.checkpoint, settings.weights, len(paths), fit, len(sample))
        if group.rank == 0:
            model.save(place.making.model)
    machine.compute.place(model.embedder).eval()
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


# ---- embedding -------------------------------------------------------------------------------------------------------


def bring_up_to_date(settings: Settings, machine: Machine, place: GalleryFolder, model: Model, images: Survey) -> None:
    """Embed the images that the gallery lacks, put the gallery in place, and say what was done."""
    group, everything = machine.group, len(images.files) + len(images.gone)
    previously_bad = [] if settings.again or group.rank else known_bad(settings.out, images.files)
    bad: list[Bad] = group.share_object(images.gone + previously_bad)
    unreadable = {entry.file.path for entry in bad}
    files = [file for file in images.files if file.path not in unreadable]
    digest, source = model.digest, first_few(settings.images)
    about: dict[str, Any] = {"name": settings.name, "root": images.root, "roots": images.roots}
    about["source"] = named_sources(settings.images)
    about |= {"kind": model.kind, "net": model.embedder.settings["net"], "dim": model.dim, "fitted_to": model.fitted_to}
    current = not group.rank and not settings.again and is_current(settings.out, digest, settings.dtype, files, bad)
    if group.share_object(current):
        if not group.rank:
            place.amend(about)
        log.say(f"{len(files)} images of {source}: all are embedded already")
        report(bad)
        return
    if not group.rank and not settings.again:
        say_if_pixels_changed(place)
    writer = Writer(settings.out, digest, model.dim, settings.dtype, group)
    todo = writer.plan(files, settings.again)
    log.say(f"{len(files)} images of {source}, {len(todo)} to embed: {about['net']}, {model.kind}, {model.dim} numbers")
    began, new = time.monotonic(), list[Bad]()
    with machine.stop.deferred():
        try:
            share, paths = todo[group.stretch(len(todo))], [file.path for file in files]
            workers = loading_processes(settings.nThreads, len(share))
            for batch, rows in embedded(model, machine.compute, paths, share, settings.batch_size, workers):
                writer.put(batch.indices, rows, batch.prints, batch.hashes)
                new += [bad_of(files[item.index], item) for item in batch.bad]
                machine.stop.check(machine.stop.signal)  # torchrun passes a signal on to all processes
        finally:
            writer.flush()
        bad += [entry for of_process in group.gather_objects(new) for entry in of_process]
        seconds = time.monotonic() - began
        if len(bad) >= everything:
            raise InputError(f"none of the {len(bad)} images can be read, the first: {bad[0].reason}", setting="images")
        writer.finish(bad, about)
    report(bad)
    speed = f"{seconds:.0f} s, {len(todo) / max(seconds, 1e-9):.0f} images/s"
    log.say(f"{everything - len(bad)} images are embedded ({speed}), in {shown(settings.out)}")


def named_sources(images: Sequence[str]) -> str:
    """Return the absolute names of the folders, lists and photos, the first three of many."""
    names = [os.path.abspath(path) for path in images]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def say_if_pixels_changed(place: GalleryFolder) -> None:
    """Say that all images are embedded anew if the gallery's rows are of another pixel version."""
    try:
        version = place.read_about().get("pixels", UNNUMBERED)
    except InputError:  # there is none yet, or a damaged one
        return
    if version != PIXELS:
        log.say(f"the rows are of pixel version {version}, this program reads version {PIXELS}: all are embedded anew")


def bad_of(file: File, item: BadImage) -> Bad:
    """Return the record of an unreadable file. A file that could not be opened will be tried again."""
    return Bad(file._replace(mtime_ns=0) if isinstance(item, Unopened) else file, item.message)


def embedded(
    model: Model, compute: Compute, paths: list[str], indices: np.ndarray, batch_size: int, workers: int
) -> Iterator[tuple[Taken, np.ndarray]]:
    """Yield the images at these indices batch by batch, with the embeddings of readable images, float32 (n, d)."""
    encode, transforms = encoder(model.embedder, [model.kind], compute), model.embedder.transforms
    batches = take_in(paths, indices.tolist(), transforms, batch_size, workers, compute.pin_memory)
    with bar(total=len(indices), desc="embedding", unit="img") as progress, torch.inference_mode():
        for batch in batches:
            rows = np.empty((0, model.dim), np.float32)
            if batch.crops is not None:
                (features,) = encode(batch.crops.to(compute.device, non_blocking=True))
                rows = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
                if not np.isfinite(rows).all():
                    first = shown(paths[batch.indices[~np.isfinite(rows).all(1)][0]])
                    raise RunError(f"{first}: its embedding is not finite; give --amp off, or another net")
            yield batch, rows
            progress.update(len(batch.indices) + len(batch.bad))


def loading_processes(requested: int | None, images: int) -> int:
    """Return how many processes load images. They help even on a CPU: decoding a photo takes longer than embedding it."""
    if requested is not None:
        return requested
    return 0 if images < FEW else cores_here()


def report(bad: list[Bad]) -> None:
    """Say which files cannot be read: the first 20 on the terminal, all in the log file."""
    for number, entry in enumerate(bad, 1):
        (log.say if number <= 20 else log.debug)(f"left out ({number} of {len(bad)}): {entry.reason}")
    if len(bad) > 20:
        log.say("more are left out: the table `bad` in images.sqlite lists them all")
