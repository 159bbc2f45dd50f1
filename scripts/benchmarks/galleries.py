"""Judges galleries of labelled folders: neighbours from the same folder, neighbours kept on the map, clusters.

Each gallery is judged twice: by its rows as they are, and by the smoothed rows, which search, groups and map use.

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
from evaluations.ranking import precision_at_r
from evaluations.retrieval import nearest
from gallery.smoothing import SmoothedRows, made
from gallery.store import Gallery
from utils.clustering.grouping import group
from utils.clustering.layout import layout

NEAREST = 10


def kept(places, neighbours, among):
    """Return the share of each image's neighbours that are among its nearest on a map. places: (N, 2)."""
    _, on_map = cKDTree(places).query(places, among + 1)
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(neighbours.tolist(), on_map[:, 1:].tolist())])


def measured(folder):
    """Return a gallery's rows of the first table, and its rows of the second."""
    gallery = Gallery(folder)
    _, labels = np.unique([os.path.basename(os.path.dirname(path)) for path in gallery.paths], return_inverse=True)
    rows = np.array(gallery.embeddings, np.float32)
    began = time.perf_counter()
    smoothed = SmoothedRows(rows, made(rows))[:]
    took = time.perf_counter() - began
    of_rows = [
        measured_rows(gallery.name, rows, labels, 0),
        measured_rows(f"{gallery.name}, smoothed", smoothed, labels, took),
    ]
    return [cells for cells, _ in of_rows], [cells for _, several in of_rows for cells in several]


def measured_rows(name, rows, labels, seconds):
    neighbours, _ = nearest(rows, k=NEAREST)
    same = labels[neighbours] == labels[:, None]
    map_at_r = precision_at_r(rows, labels).map_at_r
    maps, times = {}, {}
    for way, make in (("PCA", PCA(2, random_state=0).fit_transform), ("ours, t-SNE", layout)):
        began = time.perf_counter()
        maps[way] = make(rows)
        times[way] = time.perf_counter() - began
    began = time.perf_counter()
    clusters = group(rows)
    took = time.perf_counter() - began
    cells = [name, len(rows), *(f"{share:.2%}" for share in (same[:, 0].mean(), same.mean(), map_at_r)), seconds]
    cells += [len(clusters.order), labels.max() + 1, f"{nmi(labels, clusters.labels):.2%}", took]
    on_maps = [
        (name, way, *(f"{kept(places, neighbours, among):.1%}" for among in (10, 30)), times[way])
        for way, places in maps.items()
    ]
    return [int(x) if isinstance(x, np.integer) else x for x in cells], on_maps


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("galleries", nargs="+", metavar="GALLERY")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    bench.heading("Galleries")
    measurements = [measured(folder) for folder in args.galleries]
    headings = ["gallery", "images", "nearest of the same folder", f"{NEAREST} nearest", "MAP@R", "smoothing, s"]
    headings += ["clusters", "folders", "NMI", "clustering, s"]
    bench.table(headings, [row for rows, _ in measurements for row in rows])
    print(f"Share of an image's {NEAREST} nearest neighbours that are among its nearest on the map.\n")
    bench.table(["gallery", "map", "10 nearest", "30 nearest", "s"], [row for _, rows in measurements for row in rows])


if __name__ == "__main__":
    main()
