"""Measures the input pipeline: one training step's crops on one core, and the memory of a long list in worker processes.

    OMP_NUM_THREADS=1 python scripts/benchmarks/input.py [--images FOLDER] [--entries 1000000 --workers 8]

A step has 80 metric views, and 16 images in four rotations of their own crops: decoded, cropped from 256 to 227, normalised.
A look has the central crops of 80 images: before each clustering, training looks at all images.
FOLDER is a data set with a train.txt. Without it, images of 227 x 227 are made. Photos of 1600 x 1200 are always made.
"""

import multiprocessing
import os
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as peer
from torchvision.io import ImageReadMode, decode_jpeg

import bench  # finds the project
import models
from data.cache import open_images
from data.dataset import read_train
from data.images import Images, decode
from data.lists import Paths
from data.sampler import Draw, PKBatches
from data.transforms import Transforms
from data.views import Crops, ImageBatches, Views, collate_views, share_of
from models.backbones import IMAGENET
from models.normalise import Normalise
from utils import log

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def make_photos(folder, count, size, quality):
    """Make JPEGs with the smooth parts, the edges and the fine texture of photos, and their train.txt."""
    os.makedirs(folder)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = np.zeros((*size[::-1], 3), np.float32)
        for cells in (3, 9, 30, 100, 300):  # most of it coarse
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            pixels += (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float32) - 128) / cells**0.35
        pixels += 3 * rng.standard_normal(pixels.shape, dtype=np.float32)
        Image.fromarray(np.uint8(np.clip(pixels + 128, 0, 255))).save(f"{folder}/{i}.jpg", quality=quality)
    with open(f"{folder}/train.txt", "w", encoding="utf-8") as lines:
        lines.writelines(f"{i}.jpg\n" for i in range(count))


def usual_crop():
    """Return the usual torchvision transforms of a PIL image."""
    return peer.Compose(
        [
            peer.Resize(256),
            peer.RandomResizedCrop(227, scale=(0.16, 1)),
            peer.RandomHorizontalFlip(),
            peer.ToTensor(),
            peer.Normalize(MEAN, STD),
        ]
    )


def open_pil(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def usual(paths, picks, crop):
    """Make the same views as ours, each from the PIL image by the usual transforms. Each image is decoded once."""
    metric, turned = [], []
    for pick in picks:
        image = open_pil(paths[pick.index])
        metric.append(crop(image))
        if pick.rotate:
            turned += [crop(image.rotate(90 * k)) for k in range(4)]
    return torch.stack(metric + turned)


def original(paths, picks, crop):
    """Make views as the original does: four rotations of every image by the usual transforms. A step uses some of them."""
    images = [open_pil(paths[pick.index]) for pick in picks]
    return [torch.stack([crop(image.rotate(90 * k)) for image in images]) for k in range(4)]


def picks_of(count):
    """Return the sampler's picks for a step of 80 from `count` images."""
    labels = np.arange(max(80, count)) % 16
    return [pick._replace(index=pick.index % count) for pick in next(iter(PKBatches(labels, 80, 5, list, 0, 1, 16)))]


def ours(opened):
    """Return a function that makes our views of a step."""
    picks, views, normalise = picks_of(len(opened)), Views(opened), Normalise(IMAGENET)
    draws = [Draw(*pick[:3]) for pick in picks]
    draws += [Draw(*pick[:3], False, turn, 1 + turn) for pick in picks if pick.rotate for turn in range(4)]
    return lambda: [
        len(normalise(part, torch.channels_last))
        for part in collate_views([views[rows] for rows in share_of(draws)])[0].images.split(5)
    ]


def look(opened):
    """Return a function that makes our crops of 80 images."""
    crops = Crops(opened)
    return lambda: [crops[pick.index, None] for pick in picks_of(len(opened))]


def step(title, folder, repeats):
    """Print the table of one training step on the images of a folder."""
    images, transforms = read_train(folder), Transforms()
    paths, picks, crop = list(images.paths), picks_of(len(images)), usual_crop()
    print(f"{title}, {np.mean([os.path.getsize(path) for path in paths]) / 1e3:.0f} kB each:\n")
    measured = bench.measure_together(
        {
            "ours, --cache none": ours(Images(images.paths, transforms)),
            "ours, --cache auto (in memory)": ours(open_images(images, transforms, "auto")),
            "usual torchvision transforms, same crops": lambda: usual(paths, picks, crop),
            "the original's way": lambda: original(paths, picks, crop),
            "limit: Pillow decodes, nothing else": lambda: [open_pil(paths[pick.index]).size for pick in picks],
            "limit: torchvision.io decodes, nothing else": lambda: [
                decode_jpeg(torch.from_numpy(np.fromfile(paths[pick.index], np.uint8)), ImageReadMode.RGB).shape
                for pick in picks
            ],
        },
        repeats,
        warm_up=1,
    )
    first = measured["ours, --cache none"].seconds
    bench.table(
        ["", "ms a step", "images/s", "x ours, no cache"],
        [(name, 1e3 * m.seconds, len(picks) / m.seconds, m.seconds / first) for name, m in measured.items()],
    )


def worth_of_a_cache(folder, shrunk, repeats, net, width, origin_width):
    """Print one core's time for a step and a look, network and images together, with and without a cache.

    shrunk: a new folder for the photos as JPEGs of quality 95 at the size that is needed: a cache on the disk.
    """
    images, transforms = read_train(folder), Transforms(width, origin_width)
    os.makedirs(shrunk)
    small = [f"{shrunk}/{i}.jpg" for i in range(len(images))]
    began = time.perf_counter()
    for path, name in zip(images.paths, small):
        Image.fromarray(decode(path, origin_width).permute(1, 2, 0).numpy()).save(name, quality=95)
    shrinking = time.perf_counter() - began
    opened = {
        "--cache none": Images(images.paths, transforms),
        "--cache ram": open_images(images, transforms, "ram"),
        "photos shrunk once": Images(small, transforms),
    }
    off = [
        (shrunk.float() - whole.float()).abs().mean()
        for whole, shrunk in zip(opened["--cache none"], opened["photos shrunk once"])
    ]
    print(
        f"{net}, {width} px. Shrinking a photo to {origin_width} px takes {1e3 * shrinking / len(small):.1f} ms; "
        f"{np.mean([os.path.getsize(name) for name in small]) / 1e3:.0f} kB each, {np.mean(off):.1f} of 255 off.\n"
    )

    model = models.create(net, pretrained=False, freeze_bn=True).to(memory_format=torch.channels_last)
    few = torch.randint(256, (16, 3, width, width), dtype=torch.uint8)
    measured = bench.measure_together(
        {
            "step": lambda: model.pool(few).sum().backward(),
            "look": torch.no_grad()(lambda: model.pool(few)),
            **{f"step {name}": ours(way) for name, way in opened.items()},
            **{f"look {name}": look(way) for name, way in opened.items()},
        },
        repeats,
        warm_up=1,
    )
    rows = []
    for name in opened:
        row = [name]
        for part, views in (("step", 144), ("look", 80)):
            data, network = measured[f"{part} {name}"].seconds, measured[part].seconds * views / len(few)
            row += [1e3 * data, 1e3 * network, (data + network) / (measured[f"{part} --cache ram"].seconds + network)]
        rows.append(row)
    bench.table(["", "a step: images, ms", "network, ms", "x ram", "a look: images, ms", "network, ms", "x ram"], rows)


def proportional_mb():
    """Return the memory of this process and its workers in MB of 10^6 bytes. Shared pages count once."""
    total = 0
    for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            total += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e6


def memory_of_list(sequence, entries, workers):
    """Return the MB of all processes after the workers have read a list of `entries` made-up names from end to end."""
    paths = sequence([f"/home/user/data/Stanford_Online_Products/class_{i // 5:06d}/{i:012d}.jpg" for i in range(entries)])
    batches = ImageBatches(Images(paths, Transforms()), 1000, workers, persistent=True)
    for _ in batches.crops():  # the files do not exist: each gives a BadImage
        pass
    return proportional_mb()


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--images", default=None, help="a data set's folder (default: images of 227 x 227 are made)")
    parser.add_argument("--photos", type=int, default=16, help="number of large photos to make")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--entries", type=int, default=100_000, help="names in the long list")
    parser.add_argument("--workers", type=int, default=8, help="worker processes that read the long list")
    args = parser.parse_args()
    bench.set_threads(args.threads or 1)
    log.log.setLevel("ERROR")

    bench.heading("Input pipeline: one step of 80 metric views + 4 x 16 rotations")
    with tempfile.TemporaryDirectory() as folder:
        if not args.images:
            make_photos(f"{folder}/small", 160, (227, 227), 90)
        name = os.path.basename(os.path.abspath(args.images)) if args.images else "227 x 227"
        step(f"Images of {name}", args.images or f"{folder}/small", args.repeats)
        make_photos(f"{folder}/large", args.photos, (1600, 1200), 88)
        step("Photos of 1600 x 1200", f"{folder}/large", args.repeats)
        bench.heading("What a cache is worth: photos of 1600 x 1200, and a network, on one core")
        for number, net in enumerate(
            (("Inception", 227, 256), ("EfficientNet-Lite0", 227, 256), ("EfficientNet-Lite0", 128, 146))
        ):
            worth_of_a_cache(f"{folder}/large", f"{folder}/shrunk{number}", args.repeats, *net)

    if os.path.exists("/proc/self/smaps_rollup"):
        bench.heading(f"Memory of a list of {args.entries:,} images in {args.workers} workers")
        # each row in a process of its own: memory freed by one would count for the next
        with_workers = multiprocessing.get_context("spawn")
        rows = {"ours": (Paths, args.entries), "a Python list of str": (list, args.entries), "": (Paths, 1000)}
        megabytes = {}
        for name, (sequence, entries) in rows.items():
            receiver, sender = with_workers.Pipe(duplex=False)
            process = with_workers.Process(target=_send, args=(sender, sequence, entries, args.workers))
            process.start()
            megabytes[name] = receiver.recv()
            process.join()
        bench.table(["", "MB, all processes together"], [(name, megabytes[name] - megabytes[""]) for name in rows if name])


def _send(sender, *arguments):
    sender.send(memory_of_list(*arguments))


if __name__ == "__main__":
    main()
