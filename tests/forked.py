"""Runs programs in processes of their own, forked from a process that has already done the slow imports."""

import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = "train test embed models models.methods utils.run evaluations.retrieval gallery.renew timm torchvision faiss"
IMPORTED += " sklearn.cluster scipy.sparse pytorch_metric_learning.losses torch.nn.parallel torch.distributed"
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(IMPORTED.split())


def enter(function, arguments, output, environment):
    """Prepare a new process, then call the function: output goes to a file, and Ctrl-C is handled as in a terminal."""
    import torch

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(ROOT)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    function(*arguments)


class Forked:
    """A process that calls `function(*arguments)`; its output is in the file `output`."""

    def __init__(self, output, function, *arguments, **environment):
        self.output = Path(output)
        self.output.unlink(missing_ok=True)
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the process that is forked later: threads do not survive a fork
        self.process = context.Process(target=enter, args=(function, arguments, str(output), environment))
        self.process.start()
        self.pid = self.process.pid

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=600):
        """Wait for the process, and return (exit code, output)."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
        return self.process.exitcode, self.output.read_text()


def together(processes, folder, function, *arguments):
    """Call the function in several processes, as torchrun would start them. Returns [(exit code, output)]."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    several = []
    for rank in range(processes):
        here = {**(place if processes > 1 else {}), "RANK": rank, "LOCAL_RANK": rank}
        environment = {name: str(value) for name, value in here.items()}
        several.append(Forked(f"{folder}/output-{rank}", function, *arguments, **environment))
    return [process.wait() for process in several]


def succeed(processes, folder, function, *arguments):
    """Run `together`, check that all processes end well, and return their output."""
    ended = together(processes, folder, function, *arguments)
    assert not any(code for code, _ in ended), "\n".join(output for _, output in ended)
    return "".join(output for _, output in ended)


def train(*arguments):
    """Run train.py, as a program does."""
    import train as program
    from utils.errors import exit_on_error

    sys.argv = ["train.py", *map(str, arguments)]
    exit_on_error(program.main)
