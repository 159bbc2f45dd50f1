"""Measures how the cost of each part grows, and predicts it for larger sets: Recall@K with dimension, k-means with N,
clusters and dimension, decoding with the size of photos, the network with the width of crops.

    python scripts/benchmarks/curves.py [--n 20000] [--net EfficientNet-Lite0]
"""

import tempfile

import torch

import bench  # finds the project
import models
from bench import curve, embeddings, measure, table
from data.dataset import read_train
from data.images import Images
from data.transforms import Transforms
from evaluations.recall import recall_at_k
from input import make_photos
from utils import device
from utils.clustering.kmeans import assign, lloyd
from utils.features import encoder

ITERATIONS = 10


def recall_seconds(n, dim):
    x, labels = embeddings(n, dim)
    return measure(lambda: recall_at_k(x, labels))[:2]


def kmeans_seconds(n, k, dim):
    """Return the seconds of one iteration, a mean over the assignment and up to ITERATIONS, and the peak MB."""
    x, _ = embeddings(n, dim, classes=max(2, n // 10), noise=0.5)
    took = measure(lambda: (solver := lloyd(x, x[:k].copy(), ITERATIONS, settled=0), assign(solver, x)))
    return took.seconds / (len(took.result[0].obj) + 1), took.peak_mb


def decode_seconds(width, count=16):
    """Return seconds and MB for a photo, width x 3/4 width, which is decoded and shrunk to 256 on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        make_photos(f"{folder}/photos", count, (width, width * 3 // 4), 88)
        images = Images(read_train(f"{folder}/photos").paths, Transforms())
        seconds, mb, _ = measure(lambda: [len(images[i]) for i in range(count)], repeats=3, warm_up=1)
        return seconds / count, mb


def network_seconds(net, width, count=64):
    """Return seconds and MB for the features of one crop."""
    compute = device.choose("cpu")
    model = compute.place(models.create(net, pretrained=False, width=width)).eval()
    encode = encoder(model, ["embedding"], compute)
    crops = torch.randint(256, (count, 3, width, width), dtype=torch.uint8)
    with torch.inference_mode():
        seconds, mb, _ = measure(lambda: encode(crops), repeats=3, warm_up=1)
    return seconds / count, mb


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("--n", type=int, default=20000, help="images of the curves of Recall@K and k-means")
    flags.add_argument("--dims", type=int, nargs="+", default=[128, 256, 512, 1024])
    flags.add_argument("--clusters", type=int, nargs="+", default=[250, 500, 1000, 2000])
    flags.add_argument("--photos", type=int, nargs="+", default=[320, 640, 1280, 2560], help="widths of photos")
    flags.add_argument("--widths", type=int, nargs="+", default=[96, 128, 160, 224], help="widths of crops")
    flags.add_argument("--net", default="EfficientNet-Lite0")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Cost curves")
    n, k, dim, threads = args.n, args.clusters[-1], args.dims[-2], torch.get_num_threads()

    print(f"### Recall@K of {n:,} images against dimension\n")
    curve("d", [(d, *recall_seconds(n, d)) for d in args.dims], powers=(0, 1))
    print(f"### An iteration of k-means, {k:,} clusters, d = {dim}, against images\n")
    sizes = [size for size in (n // 4, n // 2, n) if size >= k]
    curve("N", rows := [(size, *kmeans_seconds(size, k, dim)) for size in sizes], powers=(0, 1))
    per_iteration = rows[-1][1] / (n * k * dim)
    print(f"### An iteration of k-means, {n:,} images, d = {dim}, against clusters\n")
    curve("K", [(c, *kmeans_seconds(n, c, dim)) for c in args.clusters], powers=(0, 1))
    print(f"### An iteration of k-means, {n:,} images, {k:,} clusters, against dimension\n")
    curve("d", [(d, *kmeans_seconds(n, k, d)) for d in args.dims], powers=(0, 1))
    torch.set_num_threads(1)
    print("### Decoding one photo (4:3, to a shorter side of 256, one thread) against its width\n")
    curve("w", photos := [(width, *decode_seconds(width)) for width in args.photos], powers=(0, 1, 2))
    torch.set_num_threads(threads)
    print(f"### Features of one crop, {args.net}, against its width\n")
    curve("w", network := [(width, *network_seconds(args.net, width)) for width in args.widths], powers=(0, 2))

    recall = recall_seconds(n, dim)[0] / n**2
    rows = []
    for name, images, clusters in (
        ("Stanford Online Products", 60_000, 10_000),
        ("ImageNet", 1_200_000, 10_000),
        ("100 million", 100_000_000, 100_000),
    ):
        rows.append(
            (
                name,
                images,
                clusters,
                4 * images * dim / 1e9,
                hours(images * photos[2][1] / threads),
                hours(images * network[1][1]),
                hours(per_iteration * images * clusters * dim),
                hours(recall * images**2),
            )
        )
    print(
        f"### Prediction for larger sets, on this machine, d = {dim}\n\nPhotos {args.photos[2]} pixels wide, crops of "
        f"{args.widths[1]}; each part once, with the constants of the largest sizes above.\n"
    )
    table(
        ["", "images", "clusters", "features, GB", "decoding", "features", "one iteration of k-means", "Recall@K, exact"],
        rows,
    )


def hours(seconds):
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"


if __name__ == "__main__":
    main()
