"""Judges galleries of labelled folders: neighbours from the same folder, neighbours kept on the map, clusters.

python scripts/benchmarks/galleries.py GALLERY [GALLERY ...]       # galleries of embed.py

The name of an image's folder counts as its class, and is used for nothing else.
"""

import os
import time

import numpy as np
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA

import bench  # finds the project
from evaluations.cluster_metrics import nmi
from evaluations.retrieval import nearest
from gallery.store import Gallery
from utils.clustering.grouping import group
from utils.clustering.layout import layout

NEAREST = 10


def kept(places, neighbours, among):
    """Return the share of each image's neighbours that are among its nearest on a map. places: (N, 2)."""
    _, on_map = cKDTree(places).query(places, among + 1)
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(neighbours.tolist(), on_map[:, 1:].tolist())])


def measured(folder):
    """Return a gallery's row of the first table, and its rows of the second."""
    gallery = Gallery(folder)
    rows = np.asarray(gallery.embeddings, np.float32)
    _, labels = np.unique([os.path.basename(os.path.dirname(path)) for path in gallery.paths], return_inverse=True)
    neighbours, _ = nearest(rows, k=NEAREST)
    same = labels[neighbours] == labels[:, None]
    maps, times = {}, {}
    for name, make in (("PCA", PCA(2, random_state=0).fit_transform), ("ours, t-SNE", layout)):
        began = time.perf_counter()
        maps[name] = make(rows)
        times[name] = time.perf_counter() - began
    began = time.perf_counter()
    clusters = group(rows)
    took = time.perf_counter() - began
    cells = [gallery.name, len(rows), f"{same[:, 0].mean():.2%}", f"{same.mean():.2%}"]
    cells += [len(clusters.order), labels.max() + 1, f"{nmi(labels, clusters.labels):.2%}", took]
    on_maps = [
        (gallery.name, name, *(f"{kept(places, neighbours, among):.1%}" for among in (10, 30)), times[name])
        for name, places in maps.items()
    ]
    return [int(x) if isinstance(x, np.integer) else x for x in cells], on_maps


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("galleries", nargs="+", metavar="GALLERY")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Galleries")
    measurements = [measured(folder) for folder in args.galleries]
    headings = ["gallery", "images", "nearest of the same folder", f"{NEAREST} nearest", "clusters", "folders", "NMI", "s"]
    bench.table(headings, [row for row, _ in measurements])
    print(f"Share of an image's {NEAREST} nearest neighbours that are among its nearest on the map.\n")
    bench.table(["gallery", "map", "10 nearest", "30 nearest", "s"], [row for _, rows in measurements for row in rows])


if __name__ == "__main__":
    main()
