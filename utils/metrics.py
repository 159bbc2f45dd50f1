"""Writes the measurements of a run to metrics.jsonl, one JSON object a line, and on request to TensorBoard."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from utils.errors import InputError, RunError
from utils.files import written_whole
from utils.log import make_folder, say


class Metrics:
    """Writes the file `<save_dir>/metrics.jsonl`. `unreported` holds the steps that have no line in it yet.

    epoch, step: where the run starts: after `epoch` whole epochs and `step` steps of the following epoch. Lines of later
    steps are removed: an earlier run went further and wrote them. This run repeats the steps, and writes the same lines.
    unreported: a dict for each step, with its measurements (floats), `images`, `waited` and `seconds`.
    writes: True in the first process of a run only; the others leave the file alone.
    tensorboard: also write scalars over steps to `<save_dir>/tensorboard`. InputError where its package is missing.
    """

    def __init__(
        self,
        save_dir: str,
        epoch: int = 0,
        step: int = 0,
        unreported: Iterable[dict] = (),
        writes: bool = True,
        tensorboard: bool = False,
    ) -> None:
        self.path, self.unreported, self.writes = os.path.join(save_dir, "metrics.jsonl"), list(unreported), writes
        self.steps, self.board = 0, None  # steps: the number of steps that have lines
        if not writes:
            return
        kept = []
        with self._reported():
            if (epoch or step) and os.path.exists(self.path):
                with open(self.path, encoding="utf-8", errors="replace") as lines:
                    # If the checkpoint holds unreported steps, the earlier run may have reported them right after it saved.
                    # That line has the checkpoint's own step. Remove it too: the steps will be reported again.
                    kept = [line for line in lines if _is_of(line, epoch, step - bool(self.unreported))]
            with written_whole(self.path, alone=True) as whole:
                whole.write("".join(kept).encode())
        self.steps = sum(json.loads(line).get("steps", 0) for line in kept)
        if tensorboard:
            self.board = open_board(save_dir, self.steps)

    def write(self, epoch: int, **values: Any) -> None:
        """Add a line. epoch: the epoch of the measurements, counted from 1."""
        if self.writes:
            make_folder(os.path.dirname(self.path))  # it may have been removed meanwhile
            with self._reported(), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"epoch": epoch, **values}) + "\n")
        if self.board:
            for name, value in scalars(values):
                self.board.add_scalar(name, value, self.steps)
            self.board.flush()

    def close(self) -> None:
        if self.board:
            self.board.close()

    def report(self, epoch: int, epochs: int, step: int) -> None:
        """Log and write the mean of the unreported steps. The last of them is `step` of `epoch`."""
        if not self.unreported:
            return
        total = {name: sum(values.get(name, 0.0) for values in self.unreported) for name in self.unreported[-1]}
        images, waited, seconds = (total.pop(name) for name in ("images", "waited", "seconds"))
        mean = {name: value / len(self.unreported) for name, value in total.items()}
        speed = {"images_per_s": images / seconds, "data_wait": waited / seconds}
        shown = " ".join(f"{name} {value:.4f}" for name, value in mean.items())
        say(f"epoch {epoch}/{epochs} {shown} images/s {images / seconds:.1f} waiting for data {waited / seconds:.1%}")
        self.steps += len(self.unreported)
        self.write(epoch, step=step, steps=len(self.unreported), **mean, **speed)
        self.unreported.clear()

    def sync(self) -> None:
        """Put the lines on the disk. Call this before a checkpoint, which counts on the lines."""
        if self.writes and os.path.exists(self.path):
            with self._reported(), open(self.path, "a", encoding="utf-8") as file:
                os.fsync(file.fileno())

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn an error of the file in the block into a RunError."""
        try:
            yield
        except OSError as error:
            remedy = "make room or correct its permissions, the same command goes on from the last checkpoint"
            raise RunError(f"{self.path}: cannot be written ({error.strerror}); {remedy}", rescue=True) from None


def open_board(save_dir: str, step: int) -> Any:
    """Return a TensorBoard writer, which drops an earlier run's scalars of steps after `step`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("needs a package that is missing; run pip install tensorboard", setting="tensorboard") from None
    return SummaryWriter(os.path.join(save_dir, "tensorboard"), purge_step=step + 1)


def scalars(values: dict[str, Any], under: str = "") -> Iterator[tuple[str, float]]:
    """Yield (name, value) for the numbers in a line of metrics.jsonl: `loss`, `test/recall/1`, ..."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{under}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "steps"):
            yield f"{under}{name}", float(value)


def _is_of(line: str, epoch: int, step: int) -> bool:
    """Return True if a run had written the line by the end of `epoch` whole epochs and `step` steps of the next."""
    try:
        measured = json.loads(line) if line.endswith("\n") else {}  # a run that was killed may have left half a line
        return measured["epoch"] <= epoch or measured["epoch"] == epoch + 1 and measured.get("step", step + 1) <= step
    except (ValueError, TypeError, LookupError, RecursionError):  # no line of ours
        return False
