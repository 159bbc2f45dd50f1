"""Brings a gallery up to date with a folder of images: embeds new and changed images, forgets deleted ones."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import compress
from sqlite3 import Error as TableError
from typing import Any

import numpy as np
import torch

from data.lists import first_few, shown
from data.pixels import PIXELS
from data.views import BadImage
from gallery import summary
from gallery.folder import GalleryFolder, refuse_among_photos
from gallery.intake import Taken, Unopened, take_in
from gallery.model import Model
from gallery.model_choice import Machine, Settings, choose_model, loading_processes
from gallery.store import UNNUMBERED, Gallery
from gallery.survey import Survey, survey
from gallery.table import Bad, File, replace_left_out
from gallery.writer import Writer, is_current, known_bad
from models import engine
from utils import log
from utils.device import Compute
from utils.errors import InputError, RunError
from utils.features import encoder
from utils.lock import locked
from utils.progress import bar


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


def bring_up_to_date(settings: Settings, machine: Machine, place: GalleryFolder, model: Model, images: Survey) -> None:
    """Embed the images that the gallery lacks, put the gallery in place, and say what was done."""
    group, everything = machine.group, len(images.files) + len(images.gone)
    earlier = settings.out, images.files, images.details, settings.memory
    previously_bad = [] if settings.again or group.rank else known_bad(*earlier)
    bad: list[Bad] = group.share_object(images.gone + previously_bad)
    unreadable = {entry.file.path for entry in bad}
    readable = [file.path not in unreadable for file in images.files]
    files, details = list(compress(images.files, readable)), list(compress(images.details, readable))
    digest, source = model.digest, first_few(settings.images)
    about = about_of(settings, model, images)
    current = not group.rank and not settings.again and is_current(settings.out, digest, settings.dtype, files, bad, details)
    if group.share_object(current):
        log.say(f"{len(files)} images of {source}: all are embedded already")
        if not group.rank:
            place.amend(about)
            gallery = Gallery(settings.out)
            if gallery.left_out != images.left_out:
                replace_left_out(place.table, images.left_out)
                gallery.left_out = images.left_out
            summary.say_of_gallery(gallery)
        return
    if not group.rank and not settings.again:
        say_if_pixels_changed(place)
    writer = Writer(settings.out, digest, model.dim, settings.dtype, group, settings.thumbnails)
    todo = writer.plan(files, settings.again, details)
    if writer.moved:
        log.say(f"{writer.moved} images have moved: their rows are found again")
    kind = f"{about['net']}, {model.kind}, {model.dim} numbers"
    size = writer.size(len(files), len(todo)) / 1e6
    log.say(f"{len(files)} images of {source}, {len(todo)} to embed: {kind}; about {size:,.0f} MB on the disk")
    engine.use(model.embedder, machine.compute, len(todo), group)
    began, new = time.monotonic(), list[Bad]()
    with machine.stop.deferred():
        try:
            share, paths = todo[group.stretch(len(todo))], [file.path for file in files]
            workers = loading_processes(settings.nThreads, len(share))
            how = settings.batch_size, workers, settings.thumbnails
            for batch, rows in embedded(model, machine.compute, paths, share, *how):
                writer.put(batch.indices, rows, batch.prints, batch.hashes, batch.entries)
                new += [bad_of(files[item.index], item) for item in batch.bad]
                machine.stop.check(machine.stop.signal)  # torchrun passes a signal on to all processes
        finally:
            writer.flush()
        bad += [entry for of_process in group.gather_objects(new) for entry in of_process]
        seconds = time.monotonic() - began
        if len(bad) >= everything:
            raise InputError(f"none of the {len(bad)} images can be read, the first: {bad[0].reason}", setting="images")
        writer.finish(bad, about, images.left_out)
    if not group.rank:
        summary.say_of_gallery(Gallery(settings.out))
    speed = f"{seconds:.0f} s, {len(todo) / max(seconds, 1e-9):.0f} images/s"
    log.say(f"{everything - len(bad)} images are embedded ({speed}), in {shown(settings.out)}")


def named_sources(images: Sequence[str]) -> str:
    """Return the absolute names of the folders, lists and photos, the first three of many."""
    names = [os.path.abspath(path) for path in images]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def about_of(settings: Settings, model: Model, images: Survey) -> dict[str, Any]:
    """Return the entries of about.json that do not come from the rows."""
    return {
        "name": settings.name,
        "root": images.root,
        "roots": images.roots,
        "source": named_sources(settings.images),
        "kind": model.kind,
        "net": model.embedder.settings["net"],
        "dim": model.dim,
        "fitted_to": model.fitted_to,
    }


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
    model: Model,
    compute: Compute,
    paths: list[str],
    indices: np.ndarray,
    batch_size: int,
    workers: int,
    thumbnails: bool = True,
) -> Iterator[tuple[Taken, np.ndarray]]:
    """Yield the images at these indices batch by batch, with the embeddings of readable images, float32 (n, d)."""
    encode, transforms = encoder(model.embedder, [model.kind], compute), model.embedder.transforms
    batches = take_in(paths, indices.tolist(), transforms, batch_size, workers, compute.pin_memory, thumbnails)
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
