"""Embeds images with the files of export.py. It needs onnxruntime, numpy and Pillow, and no torch.

data/pixels.py opens the pictures. export.py puts copies of it and of this program into DIR, which runs without the project.

python embed_onnx.py DIR photo.jpg other.jpg            # prints the similarity of the first image to each other image
python embed_onnx.py DIR photo.jpg                      # prints its embedding
python embed_onnx.py DIR *.jpg --out embeddings.npy     # float32 (n, dim), rows of length 1, in the order of the images
"""

import argparse
import hashlib
import json
import os

import numpy as np
import onnxruntime

from data.crops import centre_crop
from data.formats import Unreadable
from data.pixels import read


def crop_of(path: str, origin_width: int, width: int) -> np.ndarray:
    """Crop an image file as the project does: uint8 (3, width, width). Raises Unreadable."""
    return centre_crop(read(path, origin_width), width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the folder that export.py wrote")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--out", help="write the embeddings to this file (.npy)")
    args = parser.parse_args()
    try:
        with open(os.path.join(args.model, "model.json"), encoding="utf-8") as file:
            about = json.load(file)
        with open(os.path.join(args.model, "model.onnx"), "rb") as file:
            graph = file.read()
        if hashlib.sha256(graph).hexdigest() != about["sha256"]["model.onnx"]:
            raise ValueError("model.onnx is damaged, or of another export than model.json")
        origin_width, width, name = int(about["origin_width"]), int(about["width"]), about["input"]["name"]
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has errors of its own
        parser.error(f"{args.model}: not the folder of an export ({str(error).splitlines()[0]})")
    rows = []
    for path in args.images:
        try:
            crop = crop_of(path, origin_width, width)
        except Unreadable as error:
            parser.error(f"{path}: cannot be read as an image ({error})")
        rows.append(session.run(None, {name: crop[None]})[0][0])
    for path, row in zip(args.images[1:], rows[1:]):
        print(f"{row @ rows[0]:.4f}  {path}")
    if len(rows) == 1 and not args.out:
        print(json.dumps(rows[0].tolist()))
    if args.out:
        try:
            np.save(args.out, np.stack(rows))
        except OSError as error:
            parser.error(f"{args.out}: cannot be written ({error.strerror})")


if __name__ == "__main__":
    main()
