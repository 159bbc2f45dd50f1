"""A 12-megapixel photo from file to hash, crop, thumbprint and thumbnail, against its decoder alone, on one core.

python scripts/benchmarks/intake.py [--photos 8] [--repeats 5]

The limit is libjpeg-turbo at the smallest sufficient scale (in Pillow), or pi-heif, which decodes whole pictures only.
"""

import argparse
import os
import tempfile
import time

import numpy as np
import torch
from PIL import Image

from bench import table
from data.creatures import recipe, snapshot
from data.formats import installed
from data.pictures import KEPT
from data.transforms import Transforms
from gallery.intake import Intake

SIZE = (4000, 3000)


def write_photos(folder, container, count):
    """Write photos with the detail and the noise of a camera, about 4 MB each as JPEG."""
    rng = np.random.default_rng(0)
    for number in range(count):
        drawn = snapshot(recipe(0, 0, number), np.random.default_rng(number)).resize(SIZE)
        noise = rng.normal(0, 8, (SIZE[1], SIZE[0], 3))
        photo = Image.fromarray(np.uint8(np.clip(np.asarray(drawn) + noise, 0, 255)))
        extension = {"JPEG": "jpg", "MPO": "jpg", "HEIF": "heic"}[container]
        more = {"save_all": True, "append_images": [photo.resize((640, 480))]} if container == "MPO" else {}
        photo.save(
            os.path.join(folder, f"{number}.{extension}"), container, quality=85 if container != "HEIF" else 60, **more
        )


def decode_alone(path):
    with Image.open(path) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (KEPT, KEPT))
        image.load()


def seconds(work, items, repeats):
    """The least CPU time of an item, in a pass over all of them."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        for item in items:
            work(item)
        best = min(best, (time.process_time() - began) / len(items))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    installed("pi-heif")
    transforms, rows = Transforms(128, 144), []
    transforms.detail = KEPT
    for container in ("JPEG", "MPO", "HEIF"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                if container == "HEIF":
                    import pillow_heif  # encodes; the project itself only decodes

                    pillow_heif.register_heif_opener()
                write_photos(folder, container, args.photos)
            except ImportError:
                rows.append((container, "pip install pillow-heif", "", ""))
                continue
            installed.cache_clear()
            installed("pi-heif")  # decodes again, in place of pillow-heif
            paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))
            intake = Intake(paths, transforms)
            ours = seconds(lambda i: intake[i], range(len(paths)), args.repeats)
            alone = seconds(decode_alone, paths, args.repeats)
            rows.append((container, f"{1000 * ours:.1f}", f"{1000 * alone:.1f}", f"{ours / alone:.2f}"))
    print("## From a 12-MP photo to hash, crop, thumbprint and thumbnail, one core\n")
    print(f"{args.photos} photos of {SIZE[0]} x {SIZE[1]}; torch threads: 1\n")
    table(["photo", "ours, ms", "limit: the decoder alone, ms", "ours / limit"], rows)


if __name__ == "__main__":
    main()
