"""Rehearses a run (`train.py --dry_run`): a look, some steps and a checkpoint tell how long the whole run will take."""

import argparse
import copy
import math
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import length_hint
from typing import Any, NamedTuple

import numpy as np
import torch

from utils import beside, checkpoint, log
from utils.arrays import evenly
from utils.errors import InputError, RunError
from utils.features import Look, report_bad
from utils.files import existing_folder
from utils.timing import duration

LOOKED = 4096  # images in the look, at most; many, because for some methods the look decides the number of steps
SAMPLE = 256  # images that the closed form is fitted to
STEPS = 4  # steps, taken twice; the first one warms up
MOST = 50_000  # images in the trial of `method.prepare`, at most


class Part(NamedTuple):
    """A part of a run, which the run repeats."""

    name: str
    times: float
    seconds: float  # each time


@contextmanager
def rehearsed(args: argparse.Namespace) -> Iterator[None]:
    """With `dry_run`, run the block in a temporary folder inside (or above) the run's own, and resume no checkpoint."""
    if not args.dry_run:
        yield
        return
    nearest = existing_folder(args.save_dir)
    try:
        temporary = tempfile.TemporaryDirectory(dir=nearest, prefix=".dry_run-")
    except OSError as error:
        raise InputError(f"{nearest}: cannot be written ({error.strerror})", setting="save_dir") from None
    with temporary as folder:
        args.save_dir, args.resume = folder, "no"
        yield


class Some:
    """Evenly spaced images of a data.views.ImageBatches."""

    def __init__(self, batches: Any, most: int) -> None:
        self.batches, self.places = batches, evenly(len(batches), most).tolist()

    def __len__(self) -> int:
        return len(self.places)

    def enlarged(self, width: int) -> "Some":
        return Some(self.batches.enlarged(width), len(self))

    def crops(self, seed: tuple | None = None, indices: Any = None, ratio: float | None = None) -> Iterator:
        places = self.places if indices is None else [self.places[index] for index in indices]
        return self.batches.crops(seed, places, ratio)


def rehearse(
    run: Any, method: Any, optimiser: Any, batches: Any, inputs: Any, fit_readout: Any, test: Callable | None
) -> None:
    """Try each part of a run, and log how long the whole run will take. Nothing is kept.

    run: a Run that has resumed nothing. batches: data.views.ImageBatches of the training images. inputs: what the method
    trains on, these images or activations. fit_readout: a models.readout.Fitter. test: as in Run.end_epoch.
    Raises RunError where the disk has no room for the checkpoints.
    """
    args, begun = run.args, run.clock.total()
    epochs = range(1, args.epochs + 1)
    saves = math.ceil(args.epochs / args.save_step)
    look, new = method.looks(1), 0.0
    parts = [Part("start-up", 1, begun), *looks(run, method, batches, fit_readout, epochs)]
    counts = [length_hint(method.draws(epoch)) for epoch in epochs]
    if sum(counts):
        fresh, again, per_step = steps(run, method, optimiser, inputs)
        drawn = [views * sum(counts) for views in per_step]
        own = [number / run.group.size for number in drawn]  # each process keeps its own
        new = run.group.size * new_views(own, len(inputs) * getattr(inputs, "views", math.inf))
        share = new / max(1, sum(drawn))
        parts.append(Part("a step", sum(counts), share * fresh + (1 - share) * again))
    if args.readout != "embedding":
        seconds = readout(run, method, batches, fit_readout)
        parts.append(Part("the closed form", saves, seconds))
        if optimiser:
            parts.append(Part("the untrained net", 1, seconds * fit_readout.images_sampled / fit_readout.images_seen))
    if test and args.eval_step:
        parts.append(Part("a test", args.epochs // args.eval_step, timed(lambda: test(method.eval().trained(), 0))))
    run.position.step = 1  # at step 0 there is nothing to save
    path = os.path.join(args.save_dir, "ckp_ep0.pth.tar")
    parts.append(Part("a checkpoint", saves, timed(lambda: checkpoint.save(path, run.capture()))))

    lines = [f"  {part.name:<20} {part.times:8.0f} x {part.seconds:9.2f} s" for part in parts]
    total = sum(part.times * part.seconds for part in parts)
    central = len(inputs) if look and inputs_serve(look, args) else 0
    size = run.group.size
    activations = size * inputs.bytes_of((new + central) / size) if hasattr(inputs, "bytes_of") else None
    room = check_disk(
        args, os.path.getsize(path), saves, sum(map(os.path.getsize, beside.all_in(args.save_dir))), activations
    )
    log.say("\n".join([f"dry run of {len(batches)} images, {args.epochs} epochs; nothing is kept", *lines, room]))
    log.say(f"the whole run will take about {duration(total)}")


def looks(run: Any, method: Any, batches: Any, fit_readout: Any, epochs: range) -> Iterator[Part]:
    """Yield one Part (or none) that stands for all looks of the run, `prepare` included. The first look is tried; the
    method is then ready for steps.

    LOOKED images give features. Copies of these with noise stand for the other images.
    """
    look = method.looks(1)
    if look is None:
        return
    sample, count = Some(batches, LOOKED), min(len(batches), MOST)
    fitter = copy.copy(fit_readout)
    fitter.batches = sample
    began = time.perf_counter()
    features, _ = run.extract(method, look, sample, fitter)
    each = (time.perf_counter() - began) / len(sample)
    rng = np.random.default_rng(0)
    rows = features[np.arange(count) % len(features)]
    copies = rows[len(features) :]
    copies += 0.1 / rows.shape[1] ** 0.5 * rng.standard_normal(copies.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    prepared = timed(lambda: method.prepare(rows, np.arange(count))) if run.group.rank == 0 else 0.0
    run.group.share_state(method)
    again = list(filter(None, map(method.looks, epochs[1:])))
    yield Part("a look", 1 + len(again), each * len(batches) + prepared * len(batches) / count)


def steps(run: Any, method: Any, optimiser: Any, inputs: Any) -> tuple[float, float, list[float]]:
    """Return the seconds of a step with new views, the seconds of a step with views seen before, and the number of views in
    a step for each rotation that occurs."""
    draws = list(islice(method.draws(1), STEPS))
    turns = Counter(max(draw.turn, 0) for step in draws for draw in step)
    per_step = [count / len(draws) for count in turns.values()]
    took = []
    for _ in range(2):
        run.before_steps(method)
        times, requested_at = [], time.perf_counter()
        for batch, bad in inputs.steps(iter(draws)):
            report_bad(sum(run.group.gather_objects(bad), []), run.args.on_bad_image)
            if not run.group.total(len(batch.images))[0]:
                continue
            out, rest = run.forward(method, batch)
            loss, shown = method.loss(out, rest)
            run.backward(loss, optimiser)
            with torch.no_grad():
                method.after_step(out, rest)
            run.note(loss, shown)
            times.append(time.perf_counter() - requested_at)
            requested_at = time.perf_counter()
        took.append(statistics.median(times[len(times) > 1 :] or [0.0]))
    return took[0], took[1], per_step


def readout(run: Any, method: Any, batches: Any, fit_readout: Any) -> float:
    """Return the seconds that fitting the closed form takes: measured on SAMPLE images, and in proportion for the others."""
    fitter = copy.copy(fit_readout)
    fitter.batches = sample = Some(batches, SAMPLE)
    whole = timed(lambda: fitter(method.trained()))
    looked = timed(lambda: run.extract(method, Look("description"), sample, fitter)) / 2  # images pass the net twice
    run.before_steps(method)  # test and checkpoint are tried without a closed form
    return whole + looked / len(sample) * (fit_readout.images_seen - fitter.images_seen)


def new_views(drawn: list[float], views: float) -> float:
    """Return the expected number of different views in uniform draws. drawn: the number of draws for each rotation.
    views: the number of views that a rotation has."""
    return sum(views * -math.expm1(-number / views) if math.isfinite(views) else number for number in drawn)


def inputs_serve(look: Look, args: argparse.Namespace) -> bool:
    """Return True if a look uses the central crops of what the method trains on."""
    return look.features != "description" and not look.enlarged and args.cluster_crops != "random"


def check_disk(args: argparse.Namespace, size: int, saves: int, beside_them: int = 0, activations: int | None = None) -> str:
    """Return a line about the room for checkpoints of `size` bytes each, for the bytes beside them, and for the bytes of
    kept activations (None: none are kept). RunError where the disk lacks it."""
    kept = min(saves, args.keep_last or saves) + 2  # latest.pth.tar, and a checkpoint that is being written
    free, total = shutil.disk_usage(args.save_dir).free, kept * size + beside_them
    what = f" and {beside_them / 1e6:.0f} MB beside them" if beside_them else ""
    need = f"{kept} checkpoints of {size / 1e6:.0f} MB{what} take {total / 1e9:.2g} GB"
    if activations is not None:
        need += f", kept activations about {activations / 1e9:.2g} GB"
        if os.stat(args.features_dir or args.save_dir).st_dev == os.stat(args.save_dir).st_dev:
            total += activations
    if total > free:
        remedy = "make room, raise --save_step, or keep fewer with --keep_last"
        remedy += ", or give another disk by --features_dir" if activations else ""
        raise RunError(f"{need}, but only {free / 1e9:.2g} GB are free; {remedy}")
    return f"  disk: {need}; {free / 1e9:.3g} GB are free"


def timed(work: Callable) -> float:
    """Return the seconds that `work()` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
