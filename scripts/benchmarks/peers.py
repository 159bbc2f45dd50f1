"""Compares with what people would install instead: finding copies, finding neighbours, scoring an embedding.

python scripts/benchmarks/peers.py --images FOLDER [--each 100] [--n 20000] --threads 1      # pip install imagededup lightly

Copies: files are planted among the photos of a folder with a subfolder for each class, as by planted_copies.py. Recall: the
share of copies that are found together with their original. Other class: the share, among all found pairs of a copy and a
photo, of pairs from two classes, which cannot be copies. Neighbours and scores: made vectors.
"""

import importlib.util
import logging
import os
import tempfile
import warnings
from pathlib import Path

import faiss
import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.neighbors import NearestNeighbors

from bench import embeddings, heading, measure_together, parser, set_threads, table
from data.images import decode
from evaluations.ranking import precision_at_r
from evaluations.recall import recall_at_k
from gallery.duplicates import near
from gallery.thumbprints import thumbprint
from planted_copies import DECODED, WAYS, images_below
from utils.arrays import nearest_rows

UPRIGHT = [way for way in WAYS if "turned" not in way and "mirrored" not in way]  # the peers know no others
K = 10
VOTING = "ours, and the class they vote for"


# ---- copies ----------------------------------------------------------------------------------------------------------


def plant(folder, images, each, seed=0):
    """Link all images into a folder, and write copies beside them. Returns {name of a copy: name of its original}, and
    {name: class}."""
    from PIL import Image

    files = images_below(images)
    classes = {f"{row:06}{Path(path).suffix}": Path(path).parent.name for row, path in enumerate(files)}
    names, originals = list(classes), {}
    for name, path in zip(names, files):
        os.symlink(os.path.abspath(path), os.path.join(folder, name))
    order = np.random.default_rng(seed).permutation(len(files))[: each * len(UPRIGHT)]
    for number, row in enumerate(order.tolist()):
        change, quality = WAYS[UPRIGHT[number // each]]
        name = f"copy{number:06}.jpg"
        with Image.open(files[row]) as image:
            change(image.convert("RGB")).save(os.path.join(folder, name), "JPEG", quality=quality)
        originals[name], classes[name] = names[row], classes[names[row]]
    return originals, classes


def ours(folder):
    """Return {name: names found together with it}, from thumbprints."""
    names = sorted(os.listdir(folder))
    groups = near(np.stack([thumbprint(decode(os.path.join(folder, name), DECODED)) for name in names])).copies
    together = {names[row]: {names[other] for other in group.rows} - {names[row]} for group in groups for row in group.rows}
    return {name: together.get(name, set()) for name in names}


def imagededup(method, folder):
    from imagededup import methods

    hasher = getattr(methods, method)(verbose=False)
    codes = hasher.encode_images(folder, num_enc_workers=0)
    return {name: set(found) for name, found in hasher.find_duplicates(encoding_map=codes, num_dist_workers=0).items()}


def decoded_only(folder):
    for name in os.listdir(folder):
        decode(os.path.join(folder, name), DECODED)


def judged(found, originals, classes):
    """Return the recall of the planted copies, and the share of pairs of a copy and a photo that are of two classes."""
    pairs = [(copy, other) for copy in originals for other in found[copy] if other not in originals]
    wrong = sum(classes[copy] != classes[other] for copy, other in pairs)
    return np.mean([original in found[copy] for copy, original in originals.items()]), wrong / max(1, len(pairs))


def copies(args):
    methods = {"ours": ours}
    if importlib.util.find_spec("imagededup"):
        methods |= {f"imagededup {name}": lambda folder, name=name: imagededup(name, folder) for name in ("PHash", "DHash")}
    else:
        print("imagededup is not installed: pip install imagededup\n")
    with tempfile.TemporaryDirectory() as folder:
        originals, classes = plant(folder, args.images, args.each)
        print(f"{len(classes) - len(originals):,} photos, {len(originals):,} copies, each of another photo\n")
        jobs = {name: lambda method=method: method(folder) for name, method in methods.items()}
        took = measure_together({**jobs, "limit: decoding alone": lambda: decoded_only(folder)})
    rows = []
    for name, measured in took.items():
        shares = judged(measured.result, originals, classes) if name in methods else ()
        texts = [f"{share:.1%}" for share in shares] or ["", ""]
        rows.append((name, measured.core_seconds, measured.peak_mb, *texts))
    table(["", "core seconds", "MB", "recall of copies", "other class"], rows)
    print("imagededup's CNN downloads its weights, so it runs only where there is a network.\n")


# ---- vectors ---------------------------------------------------------------------------------------------------------


def exact_index(x):
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return index.search(x, K)[1]


def product(x, block=2048):
    for start in range(0, len(x), block):
        x[start : start + block] @ x.T


def votes(x, labels):
    """Return the class that the K neighbours of each vector vote for, each with the weight exp(similarity / 0.1): (n, 1)."""
    indices, similarities = nearest_rows(x, x, K)
    voted, weights = labels[indices], np.exp(similarities / 0.1)
    scores = (weights[:, None] * (voted[:, :, None] == voted[:, None])).sum(2)
    return np.take_along_axis(voted, scores.argmax(1)[:, None], 1)


def lightly(x, labels, block=256):
    """Return a function with the result of `votes`, by lightly's knn_predict; None where lightly is not installed."""
    if not importlib.util.find_spec("lightly"):
        print("lightly is not installed: pip install lightly\n")
        return None
    from lightly.utils.benchmarking import knn_predict

    x, labels = torch.from_numpy(x), torch.from_numpy(labels)
    classes = int(labels.max()) + 1
    return lambda: torch.cat([knn_predict(part, x.T, labels, classes, K)[:, :1] for part in x.split(block)]).numpy()


def neighbours(args):
    x, labels = embeddings(args.n)
    brute = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine")
    ways = {
        "ours": lambda: nearest_rows(x, x, K)[0],
        "faiss IndexFlatIP": lambda: exact_index(x),
        "scikit-learn NearestNeighbors": lambda: brute.fit(x).kneighbors(x, return_distance=False),
        "limit: the product alone": lambda: product(x),
    }
    if peer := lightly(x, labels):
        ways |= {VOTING: lambda: votes(x, labels), "lightly knn_predict: that class": peer}
    took = measure_together(ways)
    print(f"{K} neighbours of each of {args.n:,} vectors of {x.shape[1]} numbers, exactly\n")
    rows = []
    for name, measured in took.items():
        own = took[VOTING if "class" in name else "ours"].result
        same = "" if measured.result is None else f"{np.mean(np.sort(measured.result) == np.sort(own)):.2%}"
        rows.append((name, measured.core_seconds, measured.peak_mb, same))
    table(["", "core seconds", "MB", "as ours"], rows)


def scores(args):
    x, labels = embeddings(args.n)
    names = ("precision_at_1", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    peer = lambda: calculator.get_accuracy(torch.from_numpy(x), torch.from_numpy(labels))
    took = measure_together(
        {
            "ours": lambda: dict(zip(names, (recall_at_k(x, labels, ks=(1,))[0][1], precision_at_r(x, labels).map_at_r))),
            "pytorch-metric-learning": peer,
            "limit: the product alone": lambda: product(x),
        }
    )
    print(f"R@1 and MAP@R of {args.n:,} vectors\n")
    rows = []
    for name, measured in took.items():
        values = measured.result or {}
        rows.append((name, measured.core_seconds, measured.peak_mb, *(f"{values[n]:.4f}" if values else "" for n in names)))
    table(["", "core seconds", "MB", "R@1", "MAP@R"], rows)


def main():
    flags = parser(__doc__)
    flags.add_argument("--images", required=True, help="a folder with a subfolder for each class; it is only read")
    flags.add_argument("--each", type=int, default=100, help="copies made in each way, all of different images")
    flags.add_argument("--n", type=int, default=20000, help="number of made vectors")
    args = flags.parse_args()
    set_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    heading("Beside what people would install instead")
    copies(args)
    neighbours(args)
    scores(args)


if __name__ == "__main__":
    main()
