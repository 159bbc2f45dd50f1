"""Runs an ONNX file of this project on the CPU, without PyTorch."""

import os
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from utils.errors import InputError

INPUT = "images"  # the name of a graph's input

Run = Callable[[np.ndarray], list[np.ndarray]]


def open_graph(path: str | os.PathLike, threads: int = 0) -> Run:
    """Return a function that runs an ONNX file on the CPU: uint8 (N, 3, H, W) -> its outputs. threads: 0 for all cores.

    Raises InputError if ONNX Runtime is missing.
    """
    if find_spec("onnxruntime") is None:
        raise InputError("onnxruntime is missing; run pip install onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would take PyTorch's cores
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})
