"""What one of several processes runs, for test_processes.py.

`steps` runs train.py and writes the loss, the summed gradients and the labels of its steps to FILE-<rank>. `features`
writes features that the processes extract in shares. `torchrun ... tests/one_of_several.py FILE [train.py's arguments]`
runs train.py; there, process 1 kills itself in its third step, and writes FILE.
"""

import os
import signal
import sys
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from forked import train  # noqa: E402


def rank():
    return int(os.environ.get("RANK", 0))


def steps(file, *arguments):
    """Run train.py and record its steps. Methods with a fixed number of steps in an epoch get two."""
    from models.methods import shared_neighbours
    from utils.grad_cache import ForwardBackward
    from utils.run import Run

    shared_neighbours.STEPS = 2
    recorded = {"loss": [], "gradients": [], "labels": []}
    backward, prepare = ForwardBackward.backward, Run.prepare

    def recording_backward(self, loss):
        backward(self, loss)
        recorded["loss"].append(loss.item())
        recorded["gradients"].append(
            {name: p.grad.clone() for name, p in self.local.named_parameters() if p.grad is not None}
        )

    def recording_labels(self, method, *more):
        prepare(self, method, *more)
        if hasattr(method, "labels"):
            recorded["labels"].append(method.labels.clone())

    ForwardBackward.backward, Run.prepare = recording_backward, recording_labels
    try:
        train(*arguments)
    finally:
        torch.save(recorded, f"{file}-{rank()}")


def features(file, count, columns, bad):
    """Extract features in shares. Image i has the feature (i, i^2, ...) before normalising; `bad` images are unreadable."""
    from utils import distributed
    from utils.features import extract

    group = distributed.join(torch.device("cpu"))
    share, bad = group.stretch(int(count)), [int(index) for index in bad.split(",") if index]

    def loader():
        for start in range(share.start, share.stop, 4):
            indices = range(start, min(start + 4, share.stop))
            good = torch.tensor([i for i in indices if i not in bad], dtype=torch.int64)
            yield good, good[:, None] if len(good) else None, [i for i in indices if i in bad]

    encoders = [lambda x, d=d: (x.double() + torch.arange(d) ** 2,) for d in (int(columns), 3)]
    done = extract(encoders, loader(), int(count), group=group)
    np.savez(
        f"{file}-{rank()}", good=done.rows, bad=np.array(done.bad, dtype=int), first=done.arrays[0], second=done.arrays[1]
    )
    group.leave()


def dies(file, *arguments):
    from utils.grad_cache import ForwardBackward

    backward, calls = ForwardBackward.backward, []

    def dying(self, loss):
        calls.append(1)
        if rank() == 1 and len(calls) == 3:
            Path(file).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        backward(self, loss)

    ForwardBackward.backward = dying
    train(*arguments)


if __name__ == "__main__":
    torch.set_num_threads(1)
    dies(*sys.argv[1:])
