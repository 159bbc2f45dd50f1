"""Brings a gallery up to date with a folder of images: embeds new and changed images, forgets deleted ones."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from sqlite3 import Error as TableError
from typing import Any, NamedTuple

import numpy as np
import torch

from data.lists import first_few, shown
from data.pixels import PIXELS
from data.views import BadImage
from gallery import summary
from gallery.folder import GalleryFolder, refuse_among_photos
from gallery.growth import FIRST, Growth, unfinished_images
from gallery.intake import Taken, Unopened, take_in
from gallery.model import Model
from gallery.model_choice import Machine, Settings, choose_model, loading_processes
from gallery.progress import EMBEDDING, FITTING, Progress
from gallery.store import UNNUMBERED, Gallery
from gallery.survey import Survey, survey
from gallery.table import Bad, File, replace_left_out, without
from gallery.writer import Writer, is_current, known_bad
from models import engine
from utils import log
from utils.device import Compute
from utils.errors import InputError, RunError
from utils.features import encoder
from utils.lock import locked
from utils.progress import bar

PREVIEW_SECONDS = 4.0  # for plain features of the first images, before a closed form is fitted


class Task(NamedTuple):
    """A run of embed.py."""

    settings: Settings
    machine: Machine
    place: GalleryFolder
    images: Survey
    progress: Progress


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
        task = Task(settings, machine, place, images, Progress(place, quiet=group.rank > 0))
        until_the_end.callback(task.progress.end)
        until_the_end.enter_context(group.watching())
        task.progress.say("loading the net")
        paths = [file.path for file in images.files]
        model = choose_model(settings, machine, place, paths, before_fit=lambda plain: preview(task, plain))
        bring_up_to_date(task, model)
        group.leave()


@contextmanager
def clear_words(out: str) -> Iterator[None]:
    """Turn the errors of a full or unwritable disk in this block into a RunError."""
    try:
        yield
    except (OSError, TableError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{shown(out)}: cannot be written ({reason}); make room and run the same command again") from None


def preview(task: Task, plain: Model) -> None:
    """Put plain features of some images in place for as long as the closed form is fitted, if there is no gallery yet."""
    settings, group, images = task.settings, task.machine.group, task.images
    is_useful = not settings.again and len(images.files) > FIRST and not os.path.exists(task.place.about)
    if group.share_object(is_useful):
        if group.rank == 0:
            plain.save(task.place.making.model)
        plain.embedder.transforms.memory = settings.memory
        writer = Writer(settings.out, plain.digest, plain.dim, settings.dtype, group, settings.thumbnails)
        growth, bad = Growth(images.files, least_seconds=PREVIEW_SECONDS), list(images.gone)
        with task.machine.stop.deferred():
            for _ in range(2):
                put_state_in_place(task, plain, writer, growth, bad, plain=True)
    task.progress.say(FITTING)


def bring_up_to_date(task: Task, model: Model) -> None:
    """Embed the images that the gallery lacks, put the gallery in place, and say what was done."""
    settings, machine, place, images, _ = task
    group, everything = machine.group, len(images.files) + len(images.gone)
    earlier = settings.out, images.files, images.details, settings.memory
    previously_bad = [] if settings.again or group.rank else known_bad(*earlier)
    bad: list[Bad] = group.share_object(images.gone + previously_bad)
    files, details = without(bad, images.files, images.details)
    about, source = about_of(settings, model, images), first_few(settings.images)
    wanted = settings.out, model.digest, settings.dtype, files, bad, details
    if group.share_object(not group.rank and not settings.again and is_current(*wanted)):
        log.say(f"{len(files)} images of {source}: all are embedded already")
        if not group.rank:
            leave_as_it_is(place, about, images)
        return
    if not group.rank and not settings.again:
        say_if_pixels_changed(place)
    writer = Writer(settings.out, model.digest, model.dim, settings.dtype, group, settings.thumbnails)
    todo = writer.plan(files, settings.again, details)
    if writer.moved:
        log.say(f"{writer.moved} images have moved: their rows are found again")
    kind = f"{about['net']}, {model.kind}, {model.dim} numbers"
    size = writer.size(len(files), len(todo)) / 1e6
    log.say(f"{len(files)} images of {source}, {len(todo)} to embed: {kind}; about {size:,.0f} MB on the disk")
    engine.use(model.embedder, machine.compute, len(todo), group)
    began, new = time.monotonic(), len(todo)
    with machine.stop.deferred():
        growth = growth_of(task, files, todo)
        while not growth.is_whole:
            put_state_in_place(task, model, writer, growth, bad)
            if growth.is_whole:
                files, details = without(bad, images.files, images.details)
                todo = writer.plan(files, details=details)
        bad += embed_rows(task, model, writer, todo)
        seconds = time.monotonic() - began
        if len(bad) >= everything:
            raise InputError(f"none of the {len(bad)} images can be read, the first: {bad[0].reason}", setting="images")
        writer.finish(sorted(bad), about, images.left_out)
    if not group.rank:
        summary.say_of_gallery(Gallery(settings.out))
    speed = f"{seconds:.0f} s, {new / max(seconds, 1e-9):.0f} images/s"
    log.say(f"{everything - len(bad)} images are embedded ({speed}), in {shown(settings.out)}")


def leave_as_it_is(place: GalleryFolder, about: dict[str, Any], images: Survey) -> None:
    """Write what may have changed of a gallery without new images: its name, and the files that are left out."""
    place.amend(about)
    gallery = Gallery(place)
    if gallery.left_out != images.left_out:
        replace_left_out(place.table, images.left_out)
        gallery.left_out = images.left_out
    summary.say_of_gallery(gallery)


def growth_of(task: Task, files: list[File], todo: np.ndarray) -> Growth:
    """Return the states in which the gallery of these files grows: one, unless it is made for the first time."""
    group = task.machine.group
    unfinished = group.share_object(None if task.settings.again or group.rank else unfinished_images(task.place))
    if unfinished is None:
        return Growth(task.images.files, {file.path for file in task.images.files})
    new = set(todo.tolist())
    return Growth(task.images.files, unfinished | {file.path for row, file in enumerate(files) if row not in new})


def put_state_in_place(
    task: Task, model: Model, writer: Writer, growth: Growth, bad: list[Bad], plain: bool = False
) -> None:
    """Embed the images of the next state, and put it in place. bad: gets the unreadable images of all processes.

    plain: a closed form will take the place of this model.
    """
    chosen = task.machine.group.share_object(growth.images())
    files, details = without(bad, *([of_all[row] for row in chosen] for of_all in (task.images.files, task.images.details)))
    todo = writer.plan(files, details=details)
    bad += embed_rows(task, model, writer, todo)
    growth.embedded(len(todo))
    if without(bad, files, details)[0]:
        about = about_of(task.settings, model, task.images)
        writer.finish(bad, {**about, "of": len(task.images.files), "plain": plain}, task.images.left_out)
    growth.in_place(task.machine.group)


def embed_rows(task: Task, model: Model, writer: Writer, todo: np.ndarray) -> list[Bad]:
    """Embed these images of the writer. Returns the unreadable images of all processes."""
    settings, machine, group = task.settings, task.machine, task.machine.group
    share, paths, bad = todo[group.stretch(len(todo))], [file.path for file in writer.files], list[Bad]()
    how = settings.batch_size, loading_processes(settings.nThreads, len(share)), settings.thumbnails
    embedded_before, here = len(paths) - len(todo), 0
    try:
        for batch, rows in embedded(model, machine.compute, paths, share, *how):
            writer.put(batch.indices, rows, batch.prints, batch.hashes, batch.entries)
            bad += [bad_of(writer.files[item.index], item) for item in batch.bad]
            here += len(batch.indices) + len(batch.bad)
            task.progress.say(EMBEDDING, embedded_before + group.size * here, len(task.images.files))
            machine.stop.check(machine.stop.signal)  # torchrun passes a signal on to all processes
    finally:
        writer.flush()
    return [entry for of_process in group.gather_objects(bad) for entry in of_process]


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
