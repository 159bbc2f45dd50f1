"""Rehearses a run (`train.py --dry_run`): a look, some steps and a checkpoint tell how long the whole run will take."""

import argparse
import copy
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import length_hint
from typing import Any, NamedTuple

import numpy as np
import torch

from utils import checkpoint, log
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
    parts = [Part("start-up", 1, begun), *looks(run, method, batches, fit_readout, epochs)]
    counts = [length_hint(method.draws(epoch)) for epoch in epochs]
    if sum(counts):
        fresh, again, views = steps(run, method, optimiser, inputs)
        new = share_of_new(views * sum(counts), len(inputs) * getattr(inputs, "views", math.inf))
        parts.append(Part("a step", sum(counts), new * fresh + (1 - new) * again))
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
    room = check_disk(args, os.path.getsize(path), saves)
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


def steps(run: Any, method: Any, optimiser: Any, inputs: Any) -> tuple[float, float, float]:
    """Return the seconds of a step with new views, the seconds of a step with views seen before, and the views in a step."""
    draws = list(islice(method.draws(1), STEPS))
    views = statistics.mean(map(len, draws))
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
    return took[0], took[1], views


def readout(run: Any, method: Any, batches: Any, fit_readout: Any) -> float:
    """Return the seconds that fitting the closed form takes: measured on SAMPLE images, and in proportion for the others."""
    fitter = copy.copy(fit_readout)
    fitter.batches = sample = Some(batches, SAMPLE)
    whole = timed(lambda: fitter(method.trained()))
    looked = timed(lambda: run.extract(method, Look("description"), sample, fitter)) / 2  # images pass the net twice
    run.before_steps(method)  # test and checkpoint are tried without a closed form
    return whole + looked / len(sample) * (fit_readout.images_seen - fitter.images_seen)


def share_of_new(drawn: float, views: float) -> float:
    """Return the expected share of first-time views among `drawn` uniform draws from `views` views."""
    return views * -math.expm1(-drawn / views) / drawn if math.isfinite(views) and drawn else 1.0


def check_disk(args: argparse.Namespace, size: int, saves: int) -> str:
    """Return a line about the room for checkpoints of `size` bytes each. RunError where the disk lacks it."""
    kept = min(saves, args.keep_last or saves) + 2  # latest.pth.tar, and a checkpoint that is being written
    free = shutil.disk_usage(args.save_dir).free
    need = f"{kept} checkpoints of {size / 1e6:.0f} MB take {kept * size / 1e9:.2g} GB"
    if kept * size > free:
        remedy = "make room, raise --save_step, or keep fewer with --keep_last"
        raise RunError(f"{need}, but only {free / 1e9:.2g} GB are free; {remedy}")
    return f"  disk: {need}; {free / 1e9:.3g} GB are free"


def timed(work: Callable) -> float:
    """Return the seconds that `work()` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
