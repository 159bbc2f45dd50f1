"""metrics.jsonl: what a run measured, one JSON object a line."""

import json
import os


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
