"""A training run: everything but the method. It owns log, lock, device, processes, signals, clock, checkpoints, health,
metrics and progress, and decides when each is due. train.py shows the order of its calls.

After a signal or an error the run is saved as it was after its last whole step, if that is worth saving.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from utils import checkpoint, device, distributed, health, log, run_json
from utils.errors import RunError
from utils.features import Look, encoder, extract, report_bad
from utils.grad_cache import ForwardBackward
from utils.interrupt import Stop
from utils.lock import locked
from utils.metrics import Metrics
from utils.progress import bar
from utils.run_state import Cost, Position, capture, restore, what_is_left
from utils.seeding import seed_step
from utils.timing import TimeByPart, process_age

OF_LOSS = 2**32 - 1  # replaces a process's number in the seed for the random draws of a loss


class Run(AbstractContextManager["Run"]):
    """One process of a run. args: the settings of train.py; changed: the settings that differ from the defaults."""

    def __init__(self, args: argparse.Namespace, changed: dict[str, Any]) -> None:
        """Raises InputError where another run uses the folder, and for checkpoints as `checkpoint.find` does."""
        self.args = args
        self.clock, self.stop = TimeByPart("start-up", already=process_age()), Stop()
        log.make_folder(args.save_dir)
        log.start(vars(args), changed, args.log_file)
        self.compute = device.choose(args.device, args.amp, args.channels_last, args.engine)
        self.scaler = self.compute.scaler()
        self.group = distributed.join(self.compute.device)
        with ExitStack() as opened:
            if self.group.rank == 0:
                opened.enter_context(locked(args.save_dir))
            opened.enter_context(self.group.watching())
            self.path, self._saved = checkpoint.find(args.resume, args.save_dir)
            self._open = opened.pop_all()
        self.resumes = self._saved is not None  # True: it goes on from a checkpoint, which has all weights
        self.position, self.epoch = Position(), 0  # epoch: the one under way
        self.cost, self.watch = Cost(self.clock), health.Watch()
        self.saver = checkpoint.Saver(args.save_dir, self.capture, args.save_minutes, args.keep_last, self.group.rank == 0)
        self._measured: dict[str, float] = {}  # measurements of the step under way
        later: Any = None  # `resume` sets these, and `epochs` the progress bar
        self.method, self.images = later, later  # a models.methods Method, and the data.lists.ImageList it learns from
        self.optimiser: torch.optim.Optimizer | None = later
        self.passes: ForwardBackward = later
        self.metrics: Metrics = later
        self.progress: tqdm = later
        torch.manual_seed(args.seed)  # for the weights that start at random

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)
        if error[0] is None:
            log.say(self.clock.summary())
            if not self.args.dry_run:
                self._write_run_json()
                log.say(f"done: the checkpoints are in {self.args.save_dir}")
            self.metrics.close()
            self.passes.close()
            self.group.leave()

    def _write_run_json(self) -> None:
        if self.group.rank == 0 and self.epoch:  # at 0 no epoch was left to do
            run_json.write(self.args, self.images, self.clock.seconds, self.cost.before[0])

    def resume(self, method: Any, optimiser: torch.optim.Optimizer | None, images: Any) -> None:
        """Restore the checkpoint, if there is one, and get ready to train. images: the ImageList to train on."""
        self.method, self.optimiser, self.images = method, optimiser, images
        args, group, unreported, has_readout = self.args, self.group, list[dict](), False
        args.engine = self.compute.engine_in_full  # a resumed run goes on with the same
        if self._saved is not None:
            has_readout = any(key.startswith("closed_form.") for key in self._saved["state_dict"])
            method.trained().agreement_before = self._saved.get("agreement_before", {})
            parts = (method, optimiser, self.scaler)
            self.position, unreported = restore(self._saved, self.path, *parts, images.digest, args)
            self.cost.resume(self._saved)
            self._saved = None  # as large as the net
        if len({str(position) for position in group.gather_objects(self.position)}) > 1:
            raise RunError(f"{args.save_dir}: the processes found different checkpoints; all have to share this folder")
        self.passes = ForwardBackward(method, self.compute, group, args.micro_batch)
        board = args.tensorboard and not args.dry_run
        self.metrics = Metrics(args.save_dir, self.position.epoch, self.position.step, unreported, group.rank == 0, board)
        how = f"{args.method} with {args.net} on {self.compute.device} in {self.compute.amp or torch.float32}"
        left = what_is_left(self.position, args, has_readout)
        log.say(f"{len(images)} images of {images.source}; {how}; {group.size} process(es); {left}")

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs. From here on signals wait for a whole step, and a run that ends early is saved."""
        self.clock.outside("other")
        for context in (self.stop.deferred(), self.saver.rescue(), self.group.watching()):
            self._open.enter_context(context)
        self.progress = self._open.enter_context(bar(desc="training", unit="step"))
        for epoch in range(self.position.epoch + 1, self.args.epochs + 1):
            self.epoch = epoch
            yield epoch

    # ---- look at all images ------------------------------------------------------------------------------------------

    def due(self, looks: Callable[[int], Look | None], epoch: int) -> Look | None:
        """Return the look that a method needs before this epoch; None if the checkpoint was saved after that look."""
        return looks(epoch) if self.position.looked < epoch else None

    def extract(self, method: Any, look: Look, batches: Any, fit_readout: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of all images by the method's present net, and the image of each row.

        After a look at descriptions, the net has a closed form without projection. The next step removes it.
        batches: a data.views.ImageBatches, or a stand-in. fit_readout: a models.readout.Fitter.
        Returns float32 (n, d), rows of length 1, and int64 (n,). Of several processes only the first has all rows.
        """
        method.eval()
        seed = (self.args.seed, self.epoch) if self.args.cluster_crops == "random" else None
        with self.stop.at_once():
            if look.features == "description":
                batches = fit_readout.batches  # descriptions use stages that may lie below the trained stages
                with self.clock("feature extraction"):
                    fit_readout.describe_only(method.trained())
            if look.enlarged:
                batches, seed = fit_readout.batches.enlarged(look.enlarged), None
            encode = encoder(method.trained(), [look.features], self.compute)
            how = len(batches), "features", self.args.features_dir or self.args.save_dir, self.group
            (features,), rows, bad = extract([encode], self.clock.over(batches.crops(seed), "feature extraction"), *how)
        report_bad(bad, self.args.on_bad_image)
        return features, rows

    def prepare(self, method: Any, features: np.ndarray, rows: np.ndarray) -> None:
        """Call `method.prepare(features, rows)` in the first process, and give its state to all others.

        A signal may interrupt it anywhere. The state at the last step is then restored, and the next run prepares anew."""
        began, state = time.perf_counter(), method.state_dict()
        before = copy.deepcopy(state) if self.position.begun else state  # no progress: nothing to save, nothing to restore
        try:
            with self.stop.at_once(), self.clock("clustering"):
                if self.group.rank == 0:
                    summary = method.prepare(features, rows)
                    log.say(f"epoch {self.epoch} ({time.perf_counter() - began:.1f} s): {summary}")
                self.group.share_state(method)
        except BaseException:
            method.load_state_dict(before)
            raise
        self.position.looked = self.epoch

    # ---- learn from batches ------------------------------------------------------------------------------------------

    @staticmethod
    def before_steps(method: Any) -> None:
        """Prepare a method for steps: training mode, and no closed form, because steps change the net it was fitted to."""
        method.train()
        method.trained().closed_form = None

    def batches(self, draws: Iterable[list], batches: Any) -> Iterator[Any]:
        """Yield this process's share of each remaining batch of the epoch. Asking for the next batch completes the step.

        draws: lists of data.sampler.Draw, one for each step of the epoch.
        """
        done = self.position.step
        left = (self.args.epochs - self.epoch + 1) * length_hint(draws) - done
        self.progress.total = self.progress.n + left if left > 0 else None
        self.before_steps(self.method)
        requested = time.perf_counter()
        loaded = self.clock.over(batches.steps(islice(draws, done, None)), "forward/backward")
        for step, (batch, bad) in enumerate(loaded, done + 1):
            arrived = time.perf_counter()
            total, bad_in_all, stopping = self.group.total(len(batch.images), len(bad), bool(self.stop.signal))
            self.stop.check(stopping)
            if bad_in_all:
                report_bad(sum(self.group.gather_objects(bad), []), self.args.on_bad_image)
            if total:
                seed_step(self.args.seed, self.epoch, step, self.group.rank)
                yield batch
            self.position.step = step
            if total:
                took = time.perf_counter() - requested
                self._step_is_whole({**self._measured, "images": total, "waited": arrived - requested, "seconds": took})
            requested = time.perf_counter()

    def forward(self, method: Any, batch: Any) -> tuple[dict[str, Tensor], Any]:
        """Return the method's outputs for a batch, and the batch's other fields, with the rows of all processes."""
        out = {name: self.group.gather(rows) for name, rows in self.passes.forward(batch).items()}
        seed_step(self.args.seed, self.epoch, self.position.step + 1, OF_LOSS)  # all processes compute the same loss
        fields = (self.group.gather(field.long()).to(field.dtype) for field in batch[1:])
        return out, type(batch)(batch.images[:0], *fields)

    def backward(self, loss: Tensor, optimiser: Any) -> None:
        """Compute the gradients, and take a step of the optimiser."""
        optimiser.zero_grad(set_to_none=True)
        self.passes.backward(self.scaler.scale(loss))
        self.scaler.step(optimiser)
        self.scaler.update()

    def note(self, loss: Tensor, shown: dict[str, Tensor]) -> None:
        """Keep a step's measurements for the log. shown: scalars by name. RunError when the loss is not finite."""
        values = torch.stack([loss.detach(), *(value.detach().to(loss) for value in shown.values())]).tolist()
        self._measured = dict(zip(shown, values[1:]))
        lowest, where = self._measured.pop("lowest", 0.0), f"epoch {self.epoch} step {self.position.step + 1}"
        self.watch.step(where, values[0], lowest)

    def _step_is_whole(self, measured: dict[str, float]) -> None:
        self.metrics.unreported.append(measured)
        took = measured["seconds"]
        if self.stop.step_seconds is None:
            effect = "Ctrl-C takes effect after the current step, a second Ctrl-C at once"
            log.say(f"a step takes about {took:.1f} s; {effect}")
        self.stop.step_seconds = max(took, self.stop.step_seconds or 0)
        self.progress.update()
        if len(self.metrics.unreported) >= self.args.print_freq:
            self.metrics.report(self.epoch, self.args.epochs, self.position.step)
        with self.clock("checkpoints"):
            self.saver.after_step()

    # ---- test and save -----------------------------------------------------------------------------------------------

    def end_epoch(self, epoch: int, method: Any, test: Callable | None, fit_readout: Callable | None = None) -> None:
        """Test and save when due. test(embedder, epoch) returns (log line, metrics) in the first process, None elsewhere.
        fit_readout(embedder) gives the Embedder a closed form before it is saved."""
        saves = epoch % self.args.save_step == 0 or epoch == self.args.epochs
        self.cost.begin_readout()
        if fit_readout and saves and self.args.readout != "embedding":
            with self.stop.at_once(), self.clock("closed form"):
                fit_readout(method.trained())
        if test and self.args.eval_step and epoch % self.args.eval_step == 0:
            method.eval()
            with self.stop.at_once(), self.clock("evaluation"):
                result = test(method.trained(), epoch)
            if result:
                line, measured = result
                log.say(line)
                self.metrics.write(epoch, test=measured)
        steps = self.position.step
        self.position.epoch, self.position.step = epoch, 0
        if saves:
            self.metrics.report(epoch, self.args.epochs, steps)
            with self.clock("checkpoints"):
                self.saver.epoch(epoch)
                self._write_run_json()

    def capture(self) -> dict | None:
        """Return the content of a checkpoint, or None while there is no progress to lose."""
        if not self.position.begun:
            return None
        self.metrics.sync()
        parts = (self.method, self.method.trained(), self.optimiser, self.scaler)
        state = capture(self.position, *parts, self.metrics.unreported, self.images.digest, self.args)
        state["look"] = {name: state["method"].pop(name) for name in self.method.of_look}
        return {**state, **self.cost.capture(), "agreement_before": self.method.trained().agreement_before}
