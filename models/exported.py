"""An Embedder as a graph that ONNX Runtime runs: pixels in, embeddings out, everything between inside the graph."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.embedder import Embedder
from utils.errors import InputError
from utils.onnx_file import INPUT, Run

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # what an export needs
OPSET = 18  # the oldest that torch's exporter writes, so that older runtimes read it too
MOST_BYTES = 2**31 - 2**24  # of weights: an ONNX file is a protobuf message, of at most 2 GB


class Graph(nn.Module):
    """uint8 RGB crops (N, 3, H, W) -> an Embedder's features by each readout, float32 (N, dim), rows of length one."""

    scale: Tensor
    shift: Tensor

    def __init__(self, embedder: Embedder, kinds: Sequence[str]) -> None:
        """kinds: the readouts, as for `Embedder.read`."""
        super().__init__()
        self.embedder, self.kinds, self.bgr = embedder, kinds, embedder.normalise.bgr
        self.register_buffer("scale", embedder.normalise.scale.view(3, 1, 1))
        self.register_buffer("shift", embedder.normalise.shift.view(3, 1, 1))

    def normalised(self, images: Tensor) -> Tensor:
        """Do the work of `Normalise`, which writes in place; a graph cannot."""
        images = images.flip(1) if self.bgr else images
        return images.float() * self.scale + self.shift

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.embedder.read(self.normalised(images), *self.kinds)


def require_packages() -> None:
    """Raise InputError if a package that an export needs is missing."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InputError(f"an export needs {', '.join(missing)}; run pip install {' '.join(PACKAGES)}")


def write_graph(embedder: Embedder, path: str | os.PathLike, kinds: Sequence[str] | None = None) -> None:
    """Write an Embedder, on the CPU and in evaluation mode, as an ONNX file.

    Its input `images` is uint8 (N, 3, width, width), N of any size. Its outputs are float32 (N, dim), rows of length one.
    kinds: the readouts, each an output of that name; None: the Embedder's own readout, as the output `embeddings`.
    Raises InputError for a missing package, and for weights that are too large for one file.
    """
    width = embedder.transforms.width
    graph = Graph(embedder, kinds or (embedder.kind,)).eval()
    write(graph, torch.zeros(2, 3, width, width, dtype=torch.uint8), list(kinds or ("embeddings",)), path, any_number=True)


@torch.no_grad()
def write(graph: Graph, example: Tensor, outputs: list[str], path: str | os.PathLike, any_number: bool) -> None:
    """Write a graph, on the CPU and in evaluation mode, as an ONNX file.

    example: images that it could get. any_number: it takes any number of images, not just as many as the example has.
    outputs: names of the outputs. Raises InputError as `write_graph` does.
    """
    require_packages()
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    if size > MOST_BYTES:
        what = f"{size / 1e9:.1f} GB of weights do not fit into an ONNX file, which ends at 2 GB"
        raise InputError(f"{what}; take a smaller net")
    with _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},) if any_number else None,
            input_names=[INPUT],
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None  # only the older exporter returns None
        _spare_transposes_of_doubles(program.model.graph)
        program.save(path, external_data=False)


def _spare_transposes_of_doubles(graph: Any) -> None:
    """Replace A^T B of float64 matrices (N, p, r), as in the second order, by an Einsum.

    ONNX Runtime (at least 1.20 to 1.24) fuses Transpose and MatMul into one operator. It has that operator for float32
    alone, so it then refuses the file.
    """
    from onnxscript import ir

    for node in list(graph):
        transpose = node.inputs[0].producer() if node.op_type == "MatMul" else None
        if transpose is None or transpose.op_type != "Transpose" or node.outputs[0].dtype != ir.DataType.DOUBLE:
            continue
        einsum = ir.node("Einsum", [transpose.inputs[0], node.inputs[1]], {"equation": "npr,nps->nrs"})
        ir.convenience.replace_nodes_and_values(graph, node, [node], [einsum], node.outputs, einsum.outputs)


@torch.inference_mode()
def largest_difference(embedder: Embedder, run: Run, crops: Tensor, kinds: Sequence[str] | None = None) -> float:
    """Return the largest absolute difference between the outputs of `run` and the Embedder for crops, uint8 (N, 3, H, W).

    The crops go through both one by one, and then all at once. The result is NaN if either side gives a NaN.
    """
    largest = 0.0
    for batch in (*crops.split(1), crops):
        for ours, expected in zip(run(batch.numpy()), embedder.read(batch, *(kinds or (embedder.kind,)))):
            largest = np.maximum(largest, abs(ours - expected.numpy()).max())  # unlike max(), it keeps a NaN
    return float(largest)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter in a block: its remarks are many, concern its own code and need no action."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # also torch.__trace, which takes long to write
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
