"""Lets ONNX Runtime run an Embedder's backbone where no gradients are needed. On a CPU it is about twice as fast as PyTorch.

A graph belongs to weights, a width of crops and the stages whose outputs the closed form needs. Graphs are kept in a folder
under the hash of these. What follows the backbone (closed form, embedding head) stays in PyTorch.

Every graph is compared with PyTorch when it is opened, and used only if the two agree to TOLERANCE. That is why a gallery
may hold rows of either engine.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import exported
from models.activations import Activations
from models.embedder import Embedder
from models.taps import evaluating, middle_and_last, stages
from models.weights import one_line
from utils import log
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.features import Look
from utils.files import written_whole
from utils.onnx_file import Run, open_graph

BATCH = 4  # images in a graph. With a fixed number the export takes a third of the time, and 4 run about as fast as 16
AT_ONCE = 16  # images whose outputs are handed on together
TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest number of an output
KEPT = 8  # graphs in the folder; the one that was used last stays longest
VERSION = 1  # raise it when graphs are written in another way


class Trunk(exported.Graph):
    """uint8 RGB crops (BATCH, 3, width, width) -> pooled features, and the outputs of the stages `kinds`."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        ((pooled, maps),) = self.embedder.trunk(self.normalised(images), self.kinds)
        return pooled, *(maps[name] for name in self.kinds)


class Graph:
    """ONNX Runtime's copy of a backbone, good for as long as the backbone's weights do not change."""

    def __init__(self, embedder: Embedder, run: Run, layers: Sequence[str]) -> None:
        self._run, self.layers = run, layers
        self._tensors = [*embedder.features.parameters(), *embedder.features.buffers()]
        self._versions = self._present_versions()

    def __deepcopy__(self, memo: Any) -> None:
        """Return None: the copy of a net may get other weights."""

    def _present_versions(self) -> list[int]:
        return [tensor._version for tensor in self._tensors]  # torch counts the changes of each tensor

    def serves(self, images: Tensor, layers: Sequence[str]) -> bool:
        """Return True if the graph may replace PyTorch for these images (N, 3, width, width) and stages."""
        pixels = images.dtype == torch.uint8 and images.is_cpu and len(images) > 0
        exact = not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        return pixels and exact and set(layers) <= set(self.layers) and self._versions == self._present_versions()

    def __call__(self, images: Tensor) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        """Yield the same as `Embedder.trunk`."""
        for part in images.split(AT_ONCE):
            outputs = zip(*(self._run(self._filled(piece)) for piece in part.split(BATCH)))
            pooled, *maps = (torch.from_numpy(np.concatenate(rows)[: len(part)]) for rows in outputs)
            yield pooled, dict(zip(self.layers, maps))

    @staticmethod
    def _filled(piece: Tensor) -> np.ndarray:
        """Repeat the first image until there are BATCH."""
        return torch.cat([piece, piece[:1].expand(BATCH - len(piece), -1, -1, -1)]).contiguous().numpy()


def use(embedder: Embedder, compute: Compute, images: int, group: Group = Group(), width: int | None = None) -> None:
    """Let ONNX Runtime run the backbone until its weights change, if `compute` says so for this number of images; else
    PyTorch, even if there is a graph: a resumed run, which has made none, does the same.

    images: passes of an image through the net. width: of the crops; None: the Embedder's. Of several processes the first
    writes the graph, the others wait.
    Raises InputError if the engine has to be "onnx" and the net cannot be exported.
    """
    width, form = width or embedder.transforms.width, embedder.closed_form
    before = embedder.graphs.pop(width, None)
    if not compute.by_onnx(images):
        if compute.engine == "auto":
            log.say(f"the net at {width} pixels: torch; {images} images do not earn a graph for ONNX Runtime")
        return
    with evaluating(embedder), torch.no_grad():
        sizes = stages(embedder.features, embedder.classifier.linear.weight.new_zeros(1, 3, width, width))
        layers = list(dict.fromkeys([*middle_and_last(sizes), *(form.layers if form else ())]))
        if before and before.serves(torch.zeros(1, 3, width, width, dtype=torch.uint8), layers):
            embedder.graphs[width] = before
            return
        began = time.perf_counter()
        with group.first_before_others():
            run = _opened(embedder, layers, width)
    if not isinstance(run, str):
        embedder.graphs[width] = Graph(embedder, run, layers)
        log.say(f"the net at {width} pixels: {compute.engine_in_full}; ready in {time.perf_counter() - began:.1f} s")
    elif compute.engine == "onnx":
        raise InputError(f"onnx: {embedder.settings['net']} cannot be exported ({run}); give torch", setting="engine")
    else:
        log.say(f"the net at {width} pixels: torch, because it cannot be exported ({run})")


def use_for(look: Look, embedder: Embedder, inputs: Any, compute: Compute, group: Group = Group()) -> None:
    """Do the same as `use` for a look at all inputs of a training run: images, or activations, which have no graph."""
    if look.features == "description" or look.enlarged or not isinstance(inputs, Activations):
        use(embedder, compute, len(inputs), group, look.enlarged)
    else:
        embedder.graphs.clear()


def _opened(embedder: Embedder, layers: Sequence[str], width: int) -> Run | str:
    """Return a function that runs the graph, which is written first if the folder lacks it; or why there is none."""
    path, threads = _path(embedder, layers, width), torch.get_num_threads()
    with suppress(Exception):  # a file that ONNX Runtime cannot read is written anew
        if path.exists() and _agrees(embedder, run := open_graph(path, threads), layers, width):
            os.utime(path)
            return run
    try:
        with tempfile.TemporaryDirectory() as folder:
            written = os.path.join(folder, path.name)
            crops = torch.zeros(BATCH, 3, width, width, dtype=torch.uint8)
            exported.write(Trunk(embedder, layers).eval(), crops, ["pooled", *layers], written, any_number=False)
            run = open_graph(written, threads)
            if not _agrees(embedder, run, layers, width):
                return "its graph gives other numbers"
            with suppress(OSError):  # without the folder, the next process writes the graph again
                _keep(written, path)
            return run
    except Exception as error:  # the net's own code runs in the exporter
        return one_line(error)


def _path(embedder: Embedder, layers: Sequence[str], width: int) -> Path:
    """Return the place of the graph, beside torch's downloads. Its name is a hash of all that the graph depends on."""
    about = [
        VERSION,
        BATCH,
        torch.__version__,
        version("onnxscript"),
        embedder.settings["net"],
        width,
        layers,
        embedder.normalise.bgr,
    ]
    total = hashlib.sha256(json.dumps(about).encode())
    for tensor in (*embedder.features.state_dict().values(), embedder.normalise.scale, embedder.normalise.shift):
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return Path(torch.hub.get_dir()) / "graphs" / f"{total.hexdigest()[:32]}.onnx"


def _agrees(embedder: Embedder, run: Run, layers: Sequence[str], width: int) -> bool:
    """Return True if the graph and PyTorch give the same for three images of noise and a black one."""
    images = torch.randint(256, (BATCH, 3, width, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[0] = 0
    slices = [(pooled, *(maps[name] for name in layers)) for pooled, maps in embedder.trunk(images, layers)]
    expected = [torch.cat(output).numpy() for output in zip(*slices)]
    differences = [abs(ours - theirs).max() / abs(theirs).max() for ours, theirs in zip(run(images.numpy()), expected)]
    return all(difference <= TOLERANCE for difference in differences)  # a NaN does not agree


def _keep(written: str, path: Path) -> None:
    """Copy a graph into the folder. Keep the KEPT graphs that were used last, and remove the others."""
    os.makedirs(path.parent, exist_ok=True)
    with written_whole(path, sync=False) as file, open(written, "rb") as source:
        shutil.copyfileobj(source, file)
    graphs = sorted(path.parent.glob("*.onnx"), key=os.path.getmtime, reverse=True)
    for old in graphs[KEPT:]:
        old.unlink()
