"""metrics.jsonl: what a run measured, one JSON object a line."""

import json
import os
from contextlib import contextmanager

from utils.errors import RunError
from utils.log import make_folder, say


class Metrics:
    """Appends to `<save_dir>/metrics.jsonl`, if it `writes`, and keeps the steps since the last line in `window`.

    epoch, step: where the run starts, after whole epochs and some steps of the next. Lines that an earlier run wrote of what
    comes after that go first: the steps will be made again, and give the same lines.
    window: a dict for each step: what it measured (floats), and `images`, `waited` and `seconds`.
    """

    def __init__(self, save_dir, epoch=0, step=0, window=(), writes=True):
        self.path, self.window, self.writes = os.path.join(save_dir, "metrics.jsonl"), list(window), writes
        if not writes:
            return
        kept, temporary = [], self.path + ".tmp"
        with self._reported():
            if (epoch or step) and os.path.exists(self.path):
                with open(self.path, encoding="utf-8", errors="replace") as lines:
                    # The line of a window that is still open was not there yet; that run wrote it before it died.
                    kept = [line for line in lines if _is_of(line, epoch, step - bool(self.window))]
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)

    def write(self, epoch, **values):
        """epoch: 1-based, the epoch in which it was measured."""
        if self.writes:
            make_folder(os.path.dirname(self.path))  # it may have been removed meanwhile
            with self._reported(), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"epoch": epoch, **values}) + "\n")

    def report(self, epoch, epochs, step):
        """Log and write the mean of the steps in the window, the last of which is `step` of `epoch`, and empty it."""
        if not self.window:
            return
        total = {name: sum(values.get(name, 0.0) for values in self.window) for name in self.window[-1]}
        images, waited, seconds = (total.pop(name) for name in ("images", "waited", "seconds"))
        mean = {name: value / len(self.window) for name, value in total.items()}
        say(f"epoch {epoch}/{epochs} " + " ".join(f"{name} {value:.4f}" for name, value in mean.items())
            + f" images/s {images / seconds:.1f} waiting for data {waited / seconds:.1%}")
        self.write(epoch, step=step, steps=len(self.window), **mean, images_per_s=images / seconds,
                   data_wait=waited / seconds)
        self.window.clear()

    def sync(self):
        """Have the lines on the disk before a checkpoint that counts on them."""
        if self.writes and os.path.exists(self.path):
            with self._reported(), open(self.path, "a", encoding="utf-8") as file:
                os.fsync(file.fileno())

    @contextmanager
    def _reported(self):
        """What goes wrong with the file inside ends the run, in one line."""
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}); make room or correct its permissions, the "
                           "same command goes on from the last checkpoint", rescue=True) from None


def _is_of(line, epoch, step):
    """Whether a line is of what a run had measured after `epoch` whole epochs and `step` steps of the next."""
    try:
        measured = json.loads(line) if line.endswith("\n") else {}  # a run that was killed may have left half a line
        return measured["epoch"] <= epoch or measured["epoch"] == epoch + 1 and measured.get("step", step + 1) <= step
    except (ValueError, TypeError, LookupError, RecursionError):  # no line of ours
        return False
