"""The input pipeline: one training step's crops on one core, and what a long list costs in worker processes.

    OMP_NUM_THREADS=1 python scripts/benchmarks/input.py [--images FOLDER] [--entries 1000000 --workers 8]

A step is 80 metric views and 16 images in four rotations of their own crops, decoded, cropped from 256 to 227, normalised.
FOLDER is a data set with a train.txt; without it, images of 227 x 227 are made. Photos of 1600 x 1200 always are.
"""

import multiprocessing
import os
import tempfile

import bench  # finds the project
import numpy as np
import torch
from PIL import Image
from torchvision import transforms as peer
from torchvision.io import ImageReadMode, decode_jpeg

from data.cache import open_images
from data.dataset import read_train
from data.images import Images
from data.lists import Paths
from data.sampler import PKSampler
from data.transforms import Normalise, Transforms
from data.views import TrainViews, collate_views, crops_loader
from models import Preprocessing
from utils import log

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def make_photos(folder, count, size, quality):
    """JPEGs with the smooth parts, the edges and the fine texture of photos, and their train.txt."""
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
    """The usual transforms of a PIL image."""
    return peer.Compose([peer.Resize(256), peer.RandomResizedCrop(227, scale=(0.16, 1)), peer.RandomHorizontalFlip(),
                         peer.ToTensor(), peer.Normalize(MEAN, STD)])


def open_pil(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def usual(paths, draws, crop):
    """The same views as ours, each from the PIL image by the usual transforms; one decode an image."""
    metric, turned = [], []
    for draw in draws:
        image = open_pil(paths[draw.index])
        metric.append(crop(image))
        if draw.rotate:
            turned += [crop(image.rotate(90 * k)) for k in range(4)]
    return torch.stack(metric + turned)


def original(paths, draws, crop):
    """The original's way: four rotations of every image, each by the usual transforms; the step uses some of them."""
    images = [open_pil(paths[draw.index]) for draw in draws]
    return [torch.stack([crop(image.rotate(90 * k)) for image in images]) for k in range(4)]


def step(title, folder, repeats):
    """Print the table of one training step on the images of a folder."""
    images, transforms = read_train(folder), Transforms()
    paths = list(images.paths)
    sampler = PKSampler(80, 5, 16)
    sampler.set_labels(np.arange(max(80, len(paths))) % 16, 1)
    draws = [draw._replace(index=draw.index % len(paths)) for draw in next(iter(sampler))]
    normalise = Normalise(Preprocessing([255 * v for v in MEAN], [255 * v for v in STD], False), channels_last=True)
    crop = usual_crop()

    def ours(opened):
        views = TrainViews(opened, rot_bt=True)
        return lambda: [len(normalise(part)) for part in collate_views([views[draw] for draw in draws]).images.split(5)]

    with tempfile.TemporaryDirectory() as cache_dir:
        measured = bench.measure_together({
            "ours, --cache none": ours(Images(images.paths, transforms)),
            "ours, --cache auto (in memory)": ours(open_images(images, transforms, "auto")),
            "ours, --cache disk": ours(open_images(images, transforms, "disk", cache_dir)),
            "usual torchvision transforms, same crops": lambda: usual(paths, draws, crop),
            "the original's way": lambda: original(paths, draws, crop),
            "limit: Pillow decodes, nothing else": lambda: [open_pil(paths[draw.index]).size for draw in draws],
            "limit: torchvision.io decodes, nothing else": lambda: [
                decode_jpeg(torch.from_numpy(np.fromfile(paths[draw.index], np.uint8)), ImageReadMode.RGB).shape
                for draw in draws],
        }, repeats, warm_up=1)
    print(f"{title}, {np.mean([os.path.getsize(path) for path in paths]) / 1e3:.0f} kB each:\n")
    first = measured["ours, --cache none"].seconds
    bench.table(["", "ms a step", "images/s", "x ours, no cache"],
                [(name, 1e3 * m.seconds, len(draws) / m.seconds, m.seconds / first) for name, m in measured.items()])


def proportional_mb():
    """Memory of this process and its workers, shared pages counted once, in MB of 10^6 bytes."""
    total = 0
    for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            total += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e6


def memory_of_list(kind, entries, workers):
    """MB of all processes once the workers have read a list of `entries` made-up names from end to end."""
    paths = kind([f"/home/user/data/Stanford_Online_Products/class_{i // 5:06d}/{i:012d}.jpg" for i in range(entries)])
    loader = crops_loader(Images(paths, Transforms()), 1000, workers, persistent=True)
    for _ in loader:  # no such file: each comes back as a BadImage
        pass
    return proportional_mb()


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--images", default=None, help="a data set's folder (default: images of 227 x 227 are made)")
    parser.add_argument("--photos", type=int, default=16, help="how many large photos are made")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--entries", type=int, default=100_000, help="of the long list")
    parser.add_argument("--workers", type=int, default=8, help="that read the long list")
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

    if os.path.exists("/proc/self/smaps_rollup"):
        bench.heading(f"Memory of a list of {args.entries:,} images in {args.workers} workers")
        # each in a process of its own: memory that one has freed would count for the next
        with_workers = multiprocessing.get_context("spawn")
        rows = {"ours": (Paths, args.entries), "a Python list of str": (list, args.entries), "": (Paths, 1000)}
        taken = {}
        for name, (kind, entries) in rows.items():
            receiver, sender = with_workers.Pipe(duplex=False)
            process = with_workers.Process(target=_send, args=(sender, kind, entries, args.workers))
            process.start()
            taken[name] = receiver.recv()
            process.join()
        bench.table(["", "MB, all processes together"],
                    [(name, taken[name] - taken[""]) for name in rows if name])


def _send(sender, *arguments):
    sender.send(memory_of_list(*arguments))


if __name__ == "__main__":
    main()
