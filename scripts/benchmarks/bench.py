"""Shared code of the benchmarks: measures time and memory, prints tables, makes synthetic embeddings."""

import argparse
import gc
import os
import platform
import sys
import threading
import time
from typing import NamedTuple

import faiss
import numpy as np
import torch
import torchvision
from scipy.optimize import nnls

# Puts the project on the path, for all benchmarks.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


class Measured(NamedTuple):
    """Time, memory and result of one function."""

    seconds: float  # median over the repeats
    peak_mb: float  # highest resident memory (anonymous and shared) above its start, in MB of 10^6 bytes
    result: object  # result of the last call
    core_seconds: float  # median busy time of cores, child processes that ended included; other work hardly changes it


def measure(function, repeats=1, warm_up=0):
    """Time `function()`, and watch the memory of the process meanwhile (sampled from /proc; 0 without /proc)."""
    return measure_together({"": function}, repeats, warm_up)[""]


def measure_together(functions, repeats=1, warm_up=0):
    """Measure a dict of functions as `measure` does. They take turns, so that a slow minute meets all alike."""
    seconds, core_seconds, peaks, results = ({name: [] for name in functions} for _ in range(4))
    gc.collect()
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            results[name] = None  # the last result must not count as memory of this call
            with _PeakMemory() as memory:
                began, busy = time.perf_counter(), sum(os.times()[:4])
                results[name] = function()
                took, busy = time.perf_counter() - began, sum(os.times()[:4]) - busy
            if turn >= warm_up:
                seconds[name].append(took)
                core_seconds[name].append(busy)
                peaks[name].append(memory.peak_mb)
    median = lambda of: float(np.median(of))
    return {n: Measured(median(seconds[n]), max(peaks[n]), results[n], median(core_seconds[n])) for n in functions}


class _PeakMemory:
    def __enter__(self):
        self.peak_mb, self._before, self._stop = 0.0, _resident_mb(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.02):  # rarely enough not to disturb calls of milliseconds
            self.peak_mb = max(self.peak_mb, _resident_mb() - self._before)

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.peak_mb = max(self.peak_mb, _resident_mb() - self._before)


def _resident_mb():
    """Return the memory that the system cannot take back. Pages of mapped files, which it can, do not count."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) * 1024 / 1e6
    except OSError:
        return 0.0


def embeddings(n, dim=512, classes=None, noise=0.1, seed=0):
    """Return clustered unit vectors and their labels: float32 (n, dim), int64 (n,).

    A vector is its class centre, of length 1, plus noise of standard deviation `noise` in each dimension, normalised. Class
    sizes are unequal (Dirichlet, concentration 3). classes: by default 11,316 for 60,502 vectors, as in the test half of
    Stanford Online Products, and in that proportion for other n.
    """
    rng = np.random.default_rng(seed)
    classes = classes or max(2, round(n * 11316 / 60502))
    share = rng.dirichlet(np.full(classes, 3.0))
    twice = np.tile(np.arange(classes), 2)[:n]  # every class gets two vectors, as far as n reaches
    labels = np.concatenate([twice, rng.choice(classes, n - len(twice), p=share)])
    centres = rng.standard_normal((classes, dim), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = rng.standard_normal((n, dim), dtype=np.float32)
    x *= noise
    for block in range(0, n, 65536):
        x[block : block + 65536] += centres[labels[block : block + 65536]]
        x[block : block + 65536] /= np.linalg.norm(x[block : block + 65536], axis=1, keepdims=True)
    return x, labels


def parser(doc):
    """Return an ArgumentParser with --threads."""
    flags = argparse.ArgumentParser(description=doc.split("\n")[0])
    flags.add_argument("--threads", type=int, default=0, help="number of threads; 0: OMP_NUM_THREADS, or one a core")
    return flags


def set_threads(threads):
    """Give torch and faiss the same number of threads."""
    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


def heading(title):
    """Print the title of a section, and the machine under it."""
    print(
        f"## {title}\n\n{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}, faiss {faiss.__version__}, numpy {np.__version__}"
        + (f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")
        + "\n",
        flush=True,
    )


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def table(header, rows):
    """Print a Markdown table. Cells are strings or numbers (shown with 3 significant digits)."""

    def text(cell):
        if not isinstance(cell, float):
            return f"{cell:,}" if isinstance(cell, int) else str(cell)
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"

    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(text(cell) for cell in row) + " |")
    print(flush=True)


def curve(name, rows, predict=(), powers=(1, 2)):
    """Print a measured cost curve, and a model's prediction for the sizes in `predict`.

    rows: (size, seconds, MB), sorted by size. The model is a sum of `powers` of the size with coefficients of 0 or more,
    fitted to relative errors. The printed exponent is the logarithmic slope between the last two sizes.
    """
    sizes, seconds = (np.array([row[i] for row in rows], dtype=float) for i in (0, 1))
    basis = np.stack([sizes**p for p in powers], axis=1) / seconds[:, None]
    factors = nnls(basis, np.ones(len(rows)))[0]
    model = [
        (f"{size:,} (model)", float(sum(f * size**p for f, p in zip(factors, powers))), "")
        for size in predict
        if size > sizes[-1]
    ]
    table([name, "s", "MB above the inputs"], [*rows, *model])
    if len(rows) > 1:
        exponent = np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])
        terms = [f"{f:.3g}" + (f" {name}" if p else "") + (f"^{p}" if p > 1 else "") for f, p in zip(factors, powers) if f]
        print(f"time ~ {name}^{exponent:.2f} between the last two; model {' + '.join(terms)}\n", flush=True)


def compare(measured, unit="s", scale=1.0):
    """Print a table of {name: Measured}: time, ratio to ours, memory. The first entry is ours."""
    ours = next(iter(measured.values())).seconds
    table(
        ["", unit, "x ours", "MB above the inputs"],
        [(name, m.seconds * scale, m.seconds / ours, m.peak_mb) for name, m in measured.items()],
    )
