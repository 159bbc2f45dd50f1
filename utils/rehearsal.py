"""A rehearsal of a run, `train.py --dry_run`: a look, some steps, a checkpoint, and how long the whole will take."""

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

LOOKED = 4096  # images that are looked at, at most: how many steps some methods make depends on what they find
SAMPLE = 256  # images that the closed form is fitted to
STEPS = 4  # that are made, twice; the first of them warms up
MOST = 50_000  # images for which what a method makes of a look is tried at full size


class Part(NamedTuple):
    """What a run does several times."""

    name: str
    times: float
    seconds: float  # each


@contextmanager
def rehearsed(args: argparse.Namespace) -> Iterator[None]:
    """With `dry_run`, the run's folder is a temporary one in its own or above it, and nothing goes on from a checkpoint."""
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
    """Some images of a data.views.ImageBatches, at even distances."""

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
    """Try each part of a run, and log how long all of it will take. Nothing that it learns is kept.

    run: a Run that has resumed nothing. batches: data.views.ImageBatches of the training images; inputs: what the method is
    trained on, these or activations. fit_readout: a models.readout.Fitter. test: as in Run.end_epoch.
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
        parts.append(Part("the closed form", saves, readout(run, method, batches, fit_readout)))
    if test and args.eval_step:
        parts.append(Part("a test", args.epochs // args.eval_step, timed(lambda: test(method.eval().trained(), 0))))
    run.position.step = 1  # else there would be nothing to save
    path = os.path.join(args.save_dir, "ckp_ep0.pth.tar")
    parts.append(Part("a checkpoint", saves, timed(lambda: checkpoint.save(path, run.capture()))))

    lines = [f"  {part.name:<20} {part.times:8.0f} x {part.seconds:9.2f} s" for part in parts]
    total = sum(part.times * part.seconds for part in parts)
    room = check_disk(args, os.path.getsize(path), saves)
    log.say("\n".join([f"dry run of {len(batches)} images, {args.epochs} epochs; nothing is kept", *lines, room]))
    log.say(f"the whole run will take about {duration(total)}")


def looks(run: Any, method: Any, batches: Any, fit_readout: Any, epochs: range) -> Iterator[Part]:
    """The looks of a run, each with what the method makes of them. The first is tried: the method is then ready for steps.

    Of LOOKED images there are features; copies of them with noise stand for the others.
    """
    look = method.looks(1)
    if look is None:
        return
    some, count = Some(batches, LOOKED), min(len(batches), MOST)
    fitter = copy.copy(fit_readout)
    fitter.batches = some
    began = time.perf_counter()
    features, _ = run.extract(method, look, some, fitter)
    each = (time.perf_counter() - began) / len(some)
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
    """Seconds of a step of new views, and of one whose views came before; and views a step."""
    draws = list(islice(method.draws(1), STEPS))
    views = statistics.mean(map(len, draws))
    took = []
    for _ in range(2):
        run.before_steps(method)
        times, asked = [], time.perf_counter()
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
            times.append(time.perf_counter() - asked)
            asked = time.perf_counter()
        took.append(statistics.median(times[len(times) > 1 :] or [0.0]))
    return took[0], took[1], views


def readout(run: Any, method: Any, batches: Any, fit_readout: Any) -> float:
    """Seconds that fitting the closed form takes: of SAMPLE images, and what more images cost in proportion."""
    fitter = copy.copy(fit_readout)
    fitter.batches = some = Some(batches, SAMPLE)
    whole = timed(lambda: fitter(method.trained()))
    looked = timed(lambda: run.extract(method, Look("description"), some, fitter)) / 2  # they go through the net twice
    run.before_steps(method)  # test and checkpoint are tried without it
    return whole + looked / len(some) * (fit_readout.images_seen - fitter.images_seen)


def share_of_new(drawn: float, views: float) -> float:
    """The share of so many draws from so many views that none came before, when all are equally likely."""
    return views * -math.expm1(-drawn / views) / drawn if math.isfinite(views) and drawn else 1.0


def check_disk(args: argparse.Namespace, size: int, saves: int) -> str:
    """A line about the room that checkpoints of `size` bytes take; RunError where it is not there."""
    kept = min(saves, args.keep_last or saves) + 2  # latest.pth.tar, and the one that is being written
    free = shutil.disk_usage(args.save_dir).free
    need = f"{kept} checkpoints of {size / 1e6:.0f} MB take {kept * size / 1e9:.2g} GB"
    if kept * size > free:
        remedy = "make room, raise --save_step, or keep fewer with --keep_last"
        raise RunError(f"{need}, but only {free / 1e9:.2g} GB are free; {remedy}")
    return f"  disk: {need}; {free / 1e9:.3g} GB are free"


def timed(work: Callable) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
