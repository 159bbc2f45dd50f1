"""One process of several, for test_processes.py: torchrun ... tests/one_of_several.py WHAT FILE [train.py's arguments].

WHAT: `steps` runs train.py and writes the loss, the summed gradients and the labels of its steps to FILE-<rank>; `features`
writes features extracted in shares; `dies` runs train.py, in which process 1 kills itself in its third step, and writes to
FILE when.
"""

import os
import signal
import sys
import time
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
rank = int(os.environ.get("RANK", 0))


def train(arguments):
    import train as program
    from utils.errors import exit_on_error

    sys.argv = ["train.py", *arguments]
    exit_on_error(program.main)


def steps(file, *arguments):
    from utils.grad_cache import ForwardBackward
    from utils.run import Run

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
        recorded["labels"].append(method.labels.clone())

    ForwardBackward.backward, Run.prepare = recording_backward, recording_labels
    try:
        train(arguments)
    finally:
        torch.save(recorded, f"{file}-{rank}")


def features(file, count, columns, bad):
    """Image i has the feature (i, i^2, ...) before normalising; `bad` ones cannot be read."""
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
        f"{file}-{rank}", good=done.rows, bad=np.array(done.bad, dtype=int), first=done.arrays[0], second=done.arrays[1]
    )
    group.leave()


def dies(file, *arguments):
    from utils.grad_cache import ForwardBackward

    backward, calls = ForwardBackward.backward, []

    def dying(self, loss):
        calls.append(1)
        if rank == 1 and len(calls) == 3:
            Path(file).write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        backward(self, loss)

    ForwardBackward.backward = dying
    train(arguments)


if __name__ == "__main__":
    {"steps": steps, "features": features, "dies": dies}[sys.argv[1]](*sys.argv[2:])
