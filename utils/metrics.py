"""metrics.jsonl: what a run measured, one JSON object a line."""

import json
import os

from utils.log import say


class Metrics:
    """Appends to `<save_dir>/metrics.jsonl`. Lines of epochs after `epoch`, from a run that is now resumed, go first."""

    def __init__(self, save_dir, epoch=0):
        self.path = os.path.join(save_dir, "metrics.jsonl")
        kept = []
        if epoch and os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as lines:
                # an interrupted write may have left half a line at the end
                kept = [line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] <= epoch]
        temporary = self.path + ".tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(kept)
        os.replace(temporary, self.path)

    def write(self, epoch, **values):
        """epoch: 1-based, the epoch in which it was measured."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, **values}) + "\n")

    def report(self, window, epoch, epochs):
        """Log and write the mean of the steps in `window`, and empty it.

        window: a dict for each step: what it measured (scalars or scalar tensors), and `images`, `waited` and `seconds`.
        """
        if not window:
            return
        total = {name: float(sum(step.get(name, 0.0) for step in window)) for name in window[-1]}
        images, waited, seconds = (total.pop(name) for name in ("images", "waited", "seconds"))
        mean = {name: value / len(window) for name, value in total.items()}
        say(f"epoch {epoch}/{epochs} " + " ".join(f"{name} {value:.4f}" for name, value in mean.items())
            + f" images/s {images / seconds:.1f} waiting for data {waited / seconds:.1%}")
        self.write(epoch, steps=len(window), **mean, images_per_s=images / seconds, data_wait=waited / seconds)
        window.clear()
