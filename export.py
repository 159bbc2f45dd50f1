"""Exports a trained net to a folder that runs without this project: ONNX, safetensors, JSON, and a program that embeds.

python export.py --checkpoint results/.../ckp_ep600.pth.tar --out results/exported
python results/exported/embed_onnx.py results/exported photo.jpg other.jpg     # needs onnxruntime, numpy and Pillow alone

`models.load("results/exported/model.safetensors")` gives the same embedder back.
"""

import argparse
import os
import platform
import tempfile
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

import models
from data.creatures import recipe, snapshot
from data.images import from_memory
from data.pixels import MAX_ASPECT
from gallery.survey import survey
from models import export_files, exported
from models.checkpoints import read_checkpoint
from models.embedder import Embedder
from utils import flags, log, onnx_file
from utils.arrays import evenly
from utils.errors import InputError, RunError, exit_on_error
from utils.files import existing_folder
from utils.interrupt import Stop

TOLERANCE = 1e-4  # largest difference between ONNX and PyTorch, in numbers of an embedding of length 1
COMPARED = 8  # images for the comparison of ONNX with PyTorch
LIBRARIES = ("torch", "timm", "safetensors", *exported.PACKAGES)


def parse_args() -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return all settings, and the settings that differ from their defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", required=True, help="a trained net: ckp_ep<N>.pth.tar, or model.pth.tar of embed.py")
    add("--out", required=True, help="the folder for the files; an earlier export there is replaced")
    about = "how an embedding is taken from the net: embedding head or closed form (default: the checkpoint's readout)"
    add("--readout", "--head", choices=("embedding", "closed_form"), default=None, help=about)
    about = f"a folder or list of images, {COMPARED} of which test that ONNX and PyTorch agree (default: drawn images)"
    add("--images", default=None, help=about)
    add("--log_file", default=None, help="also append the log to this file")
    args = parser.parse_args()
    return args, parser.changed(args)


def main() -> None:
    args, changed = parse_args()
    stop = Stop()
    log.start(vars(args), changed, args.log_file)
    exported.require_packages()
    export_files.refuse_foreign(args.out)
    if read_checkpoint(args.checkpoint).get("gallery", {}).get("kind") == "pooled":
        what = "gives pooled features of an untrained net, no embedding; run embed.py with --readout closed_form"
        raise InputError(f"{args.checkpoint}: {what}, or train", setting="checkpoint")
    embedder = models.load(args.checkpoint, readout=args.readout)
    crops = crops_to_compare(embedder, args.images)
    out = os.path.abspath(args.out)
    parent = existing_folder(out)  # on the same disk, where moving is renaming
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".export-", ignore_cleanup_errors=True) as temporary:
            whole = os.path.join(temporary, "whole")
            os.mkdir(whole)
            difference = write(embedder, crops, whole)
            with stop.deferred():
                export_files.put_in_place(whole, out)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{args.out}: cannot be written ({reason}); make room or give another folder") from None
    size = os.path.getsize(os.path.join(out, export_files.GRAPH)) / 1e6
    log.say(f"{args.out}: {embedder.settings['net']}, {embedder.kind}, {embedder.dim} numbers, {size:.0f} MB")
    log.say(f"largest difference between ONNX and PyTorch on {len(crops)} images: {difference:.1e}")


def crops_to_compare(embedder: Embedder, images: str | None) -> Tensor:
    """Return a few crops of the given images, or else of drawn creatures: uint8 (n, 3, width, width)."""
    transforms = embedder.transforms
    if images is None:
        drawn = [snapshot(recipe(0, 0, i), np.random.default_rng(i)) for i in range(COMPARED)]
        pictures = [from_memory(picture, transforms.origin_width) for picture in drawn]
    else:
        files = survey([images]).files
        if not files:
            raise InputError(f"{images}: no image in it", setting="images")
        pictures = [transforms.load(files[place].path) for place in evenly(len(files), COMPARED).tolist()]
    return torch.stack([transforms.centre_crop(picture) for picture in pictures])


def write(embedder: Embedder, crops: Tensor, folder: str) -> float:
    """Write the files. Returns the largest difference between ONNX and PyTorch; RunError where it is too large."""
    graph = os.path.join(folder, export_files.GRAPH)
    exported.write_graph(embedder, graph)
    difference = exported.largest_difference(embedder, onnx_file.open_graph(graph), crops)
    if not difference <= TOLERANCE:  # also true for NaN
        raise RunError(
            f"ONNX and PyTorch differ by {difference:.1e} on {len(crops)} images, more than {TOLERANCE:.0e}; nothing is "
            "exported. Give another version of torch, onnxscript or onnxruntime, or --images like those it was trained on"
        )
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in embedder.state_dict().items()}
    with open(os.path.join(folder, export_files.WEIGHTS), "wb") as file:  # by save_file, only its owner could read it
        file.write(save(tensors, metadata={"format": "pt"}))
    export_files.copy_program(folder)
    export_files.write_about(folder, about(embedder, difference))
    return difference


def about(embedder: Embedder, difference: float) -> dict[str, Any]:
    """Return the content of model.json, without the hashes of the files."""
    width, normalise, origin = embedder.transforms.width, embedder.normalise, embedder.origin
    steps = [
        "decode, a JPEG at 1/2, 1/4 or 1/8 where its sides stay at least origin_width; turn it upright by EXIF orientation",
        "8-bit RGB, converted from the file's colour profile to sRGB, transparent pixels white; details: data/pixels.py",
        f"shorter side to origin_width, longer one to int(origin_width * min(longer / shorter, {MAX_ASPECT})): bilinear, "
        "antialiased, 8 bits",
        "crop width x width from the centre: top = round((height - width) / 2), left likewise, halves to the even number",
    ]
    numbers = {"mean": -normalise.shift / normalise.scale, "std": 1 / normalise.scale}
    inside = {name: [round(value, 3) for value in each.tolist()] for name, each in numbers.items()}
    return {
        **embedder.settings,
        "readout": embedder.kind,
        "epoch": origin.epoch if origin else None,
        **({"seconds": origin.seconds} if origin and origin.seconds is not None else {}),
        "crop": steps,
        "normalised_in_the_graph": {**inside, "bgr": normalise.bgr},
        "input": {"name": onnx_file.INPUT, "dtype": "uint8", "shape": ["N", 3, width, width]},
        "output": {"name": "embeddings", "dtype": "float32", "shape": ["N", embedder.dim]},
        "opset": exported.OPSET,
        "largest_difference": difference,
        "versions": {"python": platform.python_version(), **{name: log.version_of(name) for name in LIBRARIES}},
    }


if __name__ == "__main__":
    exit_on_error(main)
