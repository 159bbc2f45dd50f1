"""Held-out images -> Recall@K, NMI and further metrics, for one or several encoders at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from evaluations import cluster_metrics
from evaluations.ranking import count_positives, precision_at_r
from evaluations.recall import recall_at_k
from utils.arrays import nearest_rows
from utils.clustering.kmeans import kmeans
from utils.distributed import Group
from utils.features import Encoder, extract, report_bad

NEIGHBOURS = 16  # nearest images of each query that can be asked for
# name -> heading of its column; Recall@K has a column for each K
METRICS = {
    "recall": "R@",
    "precision_at_1": "P@1",
    "r_precision": "RP",
    "map_at_r": "MAP@R",
    "nmi": "NMI",
    "ami": "AMI",
    "f1": "F1",
}


def evaluate(
    encoders: list[Encoder],
    query: Any,
    gallery: Any,
    crops: Callable[[Any], Iterable],
    on_bad_image: str,
    ks: Sequence[int],
    metrics: Sequence[str] = ("recall", "nmi"),
    nmi_average: str = "arithmetic",
    seed: int = 0,
    features_dir: str | None = None,
    device: str | torch.device = "cpu",
    group: Group = Group(),
    neighbours: bool = False,
    embedded: bool = False,
) -> list[dict]:
    """Score every encoder on the same images, each decoded once.

    encoders: functions of a uint8 batch (n, 3, H, W) that give features (n, d) of one or more kinds.
    query, gallery: data.lists.ImageLists with labels; the same object when one set serves as both.
    crops: of such a list, gives batches of its central crops, as `extract` takes them.
    on_bad_image: "stop" or "skip", see report_bad.
    metrics: names of METRICS. nmi_average: see cluster_metrics.nmi.
    features_dir, group: see `extract`. device: where retrieval metrics are computed.

    Returns a dict for each kind of each encoder, empty but in the first of several processes: its metrics as `score` gives
    them, then `queries`, `without_positive`, `unreadable`; with `neighbours` what `nearest` gives, as places in the
    lists; with `embedded`, of the query list and of a gallery of its own, the places of readable images and their features.
    """
    features, labels, readable, unreadable = [], [], [], 0
    for images in (query,) if gallery is query else (query, gallery):
        arrays, rows, bad = extract(encoders, crops(images), len(images), "test images", features_dir, group)
        report_bad(bad, on_bad_image)
        unreadable += len(bad)
        features.append(arrays)
        labels.append(images.labels[rows])
        readable.append(rows)
    if group.rank:
        return [{}] * len(features[0])
    positives = count_positives(*labels)
    counts = {"queries": int((positives > 0).sum()), "without_positive": int((positives == 0).sum())}
    results = []
    for sets in zip(*features):
        result = {**score(sets, labels, ks, metrics, nmi_average, seed, device), **counts, "unreadable": unreadable}
        if neighbours:
            indices, similarities = nearest(*sets)
            places = {"query": readable[0], "indices": readable[-1][indices]}
            result["neighbours"] = {**places, "similarities": similarities}
        if embedded:
            result["embedded"] = list(zip(readable, sets))
        results.append(result)
    return results


def nearest(query: np.ndarray, gallery: np.ndarray | None = None, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar gallery images of each query, the most similar first: int64 and float32 (Q, k).

    query, gallery: float32 (Q, d) and (G, d), L2-normalised; without a gallery the queries are each other's, and each is
    left out of its own. When there are fewer than k images to find, it finds them all.
    """
    if gallery is not None:
        return nearest_rows(query, gallery, min(k, len(gallery)))
    k = min(k, len(query) - 1)
    indices, similarities = nearest_rows(query, query, k + 1)
    other = indices != np.arange(len(query))[:, None]
    other[other.all(1), -1] = False  # an image with more than k copies may not find itself
    return indices[other].reshape(-1, k), similarities[other].reshape(-1, k)


def score(
    sets: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    ks: Sequence[int],
    metrics: Sequence[str],
    nmi_average: str = "arithmetic",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict:
    """The `metrics` of L2-normalised features: a dict of shares, in their order; `recall` is a dict {K: share} itself.

    sets: the features, float32 (N, d), of one set of images that are each other's gallery, or of queries and gallery.
    labels: int64 (N,) of each set. Cluster metrics are of one k-means of the gallery, with a cluster for each label in it.
    """
    measured: dict[str, Any] = {}
    pairs = [x for features, classes in zip(sets, labels) for x in (torch.from_numpy(features).to(device), classes)]
    if {"recall", "precision_at_1"} & set(metrics):
        at_k = recall_at_k(*pairs, ks=sorted({1, *ks})).at_k
        measured.update(recall={k: at_k[k] for k in ks}, precision_at_1=at_k[1])  # of one neighbour the two are the same
    if {"r_precision", "map_at_r"} & set(metrics):
        measured.update(precision_at_r(*pairs, seed=seed)._asdict())
    if {"nmi", "ami", "f1"} & set(metrics):
        truth = labels[-1]
        clusters = kmeans(sets[-1], len(np.unique(truth)), seed=seed).labels
        measured["nmi"] = cluster_metrics.nmi(truth, clusters, nmi_average)
        measured["f1"] = cluster_metrics.pairwise_f1(truth, clusters)
        if "ami" in metrics:  # it takes long
            measured["ami"] = cluster_metrics.ami(truth, clusters)
    return {name: measured[name] for name in metrics}


def columns(result: dict) -> dict[str, float]:
    """The metrics in a result of `evaluate`, heading -> share: a column for each K of Recall@K and for each other metric."""
    flat: dict[str, float] = {}
    for name in result:
        if name == "recall":
            flat.update({f"{METRICS[name]}{k}": share for k, share in result[name].items()})
        elif name in METRICS:
            flat[METRICS[name]] = result[name]
    return flat


def result_line(epoch: int, result: dict, kind: str = "") -> str:
    """`Epoch-600 0.5441  0.6634  ...  <NMI>`, as the original prints it; any metrics come in the order of `result`.

    kind: of the features; the closed form's line starts with `Epoch-600-closed_form`.
    """
    name = f"{epoch}-{kind}" if kind == "closed_form" else epoch
    return f"Epoch-{name} " + "  ".join(f"{value:.4f}" for value in columns(result).values())
