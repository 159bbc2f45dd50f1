"""Compares ways to smooth the rows of galleries over their neighbours, by labels.

    python scripts/smoothing.py GALLERY [GALLERY ...]       # galleries of embed.py

The name of an image's folder counts as its class. First come the ways that were tried, then the choice of the constants of
utils/clustering/smooth.py: the best setting on all sets but one, and what it does on that one. Galleries with the same
classes are one set.
"""

import argparse
import os
import sys
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from gallery.store import Gallery
from utils.arrays import nearest_rows
from utils.clustering import smooth
from utils.clustering.smooth import neighbours_among, smoothed, smoothed_twice
from utils.errors import exit_on_error

LOSS = 0.3  # points that the nearest may lose
AT_ONCE = 1024  # queries
CHOICES = list(product((1, 2, 3, 5), (0, 5, 10), (0.5, 1.0)))  # FEW, MORE (0: smoothed once), H


class Labelled:
    """The rows of a gallery, float32 (n, d), with the neighbours and the class of each."""

    def __init__(self, folder):
        gallery = Gallery(folder)
        self.name, self.rows = gallery.name, np.array(gallery.embeddings, np.float32)
        folders = [os.path.basename(os.path.dirname(path)) for path in gallery.paths]
        classes, self.labels, counts = np.unique(folders, return_inverse=True, return_counts=True)
        self.set = tuple(classes.tolist())
        self.positives = counts[self.labels] - 1
        self.neighbours = neighbours_among(self.rows, self.rows, np.arange(len(self.rows)))

    def scores(self, similarities):
        """Return (nearest right, ten nearest right, MAP@R) in per cent. similarities(part) gives float32 (n of part, n)."""
        depth, found = max(10, self.positives.max()), []
        for part in np.split(np.arange(len(self.rows)), range(AT_ONCE, len(self.rows), AT_ONCE)):
            values = torch.as_tensor(similarities(part))
            values[torch.arange(len(part)), torch.as_tensor(part)] = -torch.inf
            found.append(values.topk(depth, 1).indices.numpy())
        right = self.labels[np.concatenate(found)] == self.labels[:, None]
        judged, r = self.positives > 0, self.positives[:, None]
        place = np.arange(1, depth + 1)
        precision = (np.cumsum(right, 1) / place * right * (place <= r)).sum(1)[judged] / self.positives[judged]
        return tuple(100 * float(x) for x in (right[judged, 0].mean(), right[judged, :10].mean(), precision.mean()))

    def scores_of(self, queries, rows=None):
        """Return the scores if each row of `queries`, float32 (n, d), searches among `rows`."""
        queries, rows = (torch.from_numpy(x) for x in (queries, queries if rows is None else rows))
        return self.scores(lambda part: queries[part] @ rows.T)

    def once(self, k, h):
        return smoothed(self.rows, self.neighbours.rows[:, :k], self.neighbours.similarities[:, :k], h)

    def twice(self):
        return smoothed_twice(self.rows, self.neighbours, self.rows, self.neighbours)


@contextmanager
def constants(few, more, h):
    """Set the constants of utils/clustering/smooth.py in this block."""
    before = smooth.FEW, smooth.MORE, smooth.H
    smooth.FEW, smooth.MORE, smooth.H = few, more, h
    try:
        yield
    finally:
        smooth.FEW, smooth.MORE, smooth.H = before


def csls(gallery, k=10):
    """Similarities without hubs: 2 s_ij - r_j, r_j the mean similarity of the neighbours of j (Conneau et al. 2018)."""
    hubs = torch.from_numpy(gallery.neighbours.similarities[:, :k].mean(1))
    rows = torch.from_numpy(gallery.rows)
    return gallery.scores(lambda part: 2 * rows[part] @ rows.T - hubs)


def diffusion(gallery, k=20, alpha=0.9, gamma=3, steps=20):
    """Similarities by diffusion on the graph of mutual neighbours (Iscen et al. 2017, arXiv 1611.05113)."""
    from scipy.sparse import csr_matrix, diags

    count, near = len(gallery.rows), gallery.neighbours
    place = np.repeat(np.arange(count), k), np.maximum(near.rows[:, :k], 0).ravel()
    graph = csr_matrix((np.maximum(near.similarities[:, :k], 0).ravel() ** gamma, place), (count, count))
    graph = graph.minimum(graph.T)
    scale = diags(np.asarray(graph.sum(1)).ravel().clip(1e-12) ** -0.5)
    graph = (scale @ graph @ scale).tocsr().astype(np.float32)

    def similarities(part):
        start = np.zeros((count, len(part)), np.float32)
        start[part, np.arange(len(part))] = 1
        value = start
        for _ in range(steps):
            value = alpha * (graph @ value) + start
        return value.T + 1e-6 * gallery.rows[part] @ gallery.rows.T  # unreached rows: as they are

    return gallery.scores(similarities)


def within_shortlist(gallery, size=500):
    """Smooth within the nearest `size` rows of each query, without a table of neighbours."""
    found, _ = nearest_rows(gallery.rows, gallery.rows, min(size, len(gallery.rows)))

    def similarities(part):
        values = np.full((len(part), len(gallery.rows)), -1, np.float32)
        for i, row in enumerate(part):
            places = np.append(found[row][found[row] != row], row)
            rows = gallery.rows[places]
            near = neighbours_among(rows, rows, np.arange(len(rows)))
            result = smoothed_twice(rows, near, rows, near)
            values[i, places] = result @ result[-1]
        return values

    return gallery.scores(similarities)


WAYS = {
    "as it is": lambda g: g.scores_of(g.rows),
    "smoothed (used)": lambda g: g.scores_of(g.twice()),
    "smoothed once, k 3, h 0.5": lambda g: g.scores_of(g.once(3, 0.5)),
    "smoothed once, k 10, h 0.5": lambda g: g.scores_of(g.once(10, 0.5)),
    "query expansion alone, k 10": lambda g: g.scores_of(g.once(10, 0.5), g.rows),
    "gallery side alone, k 10": lambda g: g.scores_of(g.rows, g.once(10, 0.5)),
    "diffusion, k 20": diffusion,
    "CSLS, k 10": csls,
}


def print_table(headings, rows):
    for cells in (headings, ["---"] * len(headings), *rows):
        print("| " + " | ".join(cells) + " |", flush=True)


def text(scores):
    return "{:.2f} / {:.1f} / {:.1f}".format(*scores)


def chosen(table, galleries):
    """Return the setting with the most of the ten nearest right on these galleries. The nearest may lose LOSS on each."""
    fits = lambda setting: all(table[g][setting][0] >= table[g][None][0] - LOSS for g in galleries)
    return max(filter(fits, CHOICES), key=lambda setting: sum(table[g][setting][1] for g in galleries))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("galleries", nargs="+", metavar="GALLERY")
    parser.add_argument("--shortlist", action="store_true", help="also smooth within the shortlist of each query; slow")
    args = parser.parse_args()
    galleries = [Labelled(folder) for folder in args.galleries]
    print("Nearest right / ten nearest right / MAP@R, per cent.\n")
    ways = WAYS | ({"within a shortlist of 500": within_shortlist} if args.shortlist else {})
    rows = ([name, *(text(way(gallery)) for gallery in galleries)] for name, way in ways.items())
    print_table(["", *(gallery.name for gallery in galleries)], rows)
    if len({gallery.set for gallery in galleries}) < 2:
        return
    table = {gallery: {None: gallery.scores_of(gallery.rows)} for gallery in galleries}
    for gallery, (few, more, h) in product(galleries, CHOICES):
        with constants(few, more, h):
            rows_now = gallery.twice() if more else gallery.once(few, h)
        table[gallery][few, more, h] = gallery.scores_of(rows_now)
    print(f"\nThe best of {len(CHOICES)} settings on all sets but one, measured on that one.\n")
    rows = []
    for gallery in galleries:
        setting = chosen(table, [other for other in galleries if other.set != gallery.set])
        cells = gallery.name, "{} then {}, h {}".format(*setting), text(table[gallery][None]), text(table[gallery][setting])
        rows.append(cells)
    print_table(["left out", "chosen: FEW then MORE, H", "as it is", "smoothed"], rows)
    print("\nOn all galleries: {} then {}, h {}".format(*chosen(table, galleries)))


if __name__ == "__main__":
    exit_on_error(main)
