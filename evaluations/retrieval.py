"""Held-out images -> Recall@K and NMI, for one or several encoders at once."""

import numpy as np

from evaluations.features import extract, l2_normalise
from evaluations.nmi import nmi
from evaluations.recall import recall_at_k


def evaluate(encoders, query, gallery, loader, on_bad, ks, seed=0):
    """Score every encoder on the same images, each decoded once.

    encoders: functions of a uint8 batch (n, 3, H, W) that give features (n, d), normalised here.
    query, gallery: image lists with `labels`; the same object when one set serves as both.
    loader: function of an image list that returns its loader of crops; on_bad: called with the unreadable images.
    Returns a dict for each encoder: `recall` {K: share}, `nmi` (of the gallery), `queries`, `without_positive`,
    `unreadable`.
    """
    features, labels, unreadable = [], [], 0
    for images in (query,) if gallery is query else (query, gallery):
        arrays, bad = extract(encoders, loader(images), len(images), "test images")
        on_bad(bad)
        unreadable += len(bad)
        good = np.setdiff1d(np.arange(len(images)), [item.index for item in bad])
        features.append([l2_normalise(array[good]) for array in arrays])
        labels.append(images.labels[good])
    results = []
    for sets in zip(*features):
        recall = recall_at_k(*[x for pair in zip(sets, labels) for x in pair], ks=ks)
        results.append({"recall": recall.at, "nmi": nmi(sets[-1], labels[-1], seed), "queries": recall.queries,
                        "without_positive": recall.without_positive, "unreadable": unreadable})
    return results


def result_line(epoch, result):
    """`Epoch-600 0.5441  0.6634  ...  <NMI>`, as the original prints it."""
    return f"Epoch-{epoch} " + "  ".join(f"{value:.4f}" for value in (*result["recall"].values(), result["nmi"]))
