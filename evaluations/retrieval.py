"""Evaluates one or several encoders at once on test images: Recall@K, NMI and further metrics."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from evaluations import cluster_metrics
from evaluations.ranking import count_positives, precision_at_r
from evaluations.recall import recall_at_k
from utils.arrays import nearest_rows
from utils.clustering.kmeans import kmeans
from utils.clustering.smooth import neighbours_among, smoothed_twice
from utils.distributed import Group
from utils.features import Encoder, extract, report_bad

NEIGHBOURS = 16  # nearest images of each query
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


class Found(NamedTuple):
    """Features of readable test images: of queries and gallery, or of one list, in which every image searches all others."""

    sets: list[tuple[np.ndarray, ...]]  # for each readout: the features of each list, float32 (n, d), rows of length 1
    labels: list[np.ndarray]  # for each list, int64 (n,): the class of each readable image
    places: list[np.ndarray]  # for each list, int64 (n,): the position of each readable image in the list
    unreadable: int  # number of images left out


def extract_lists(
    encoders: list[Encoder],
    lists: Iterable[Any],
    crops: Callable[[Any], Iterable],
    on_bad_image: str,
    features_dir: str | None = None,
    group: Group = Group(),
) -> Found:
    """Run every encoder over the test images; each image is decoded once.

    encoders: functions from a uint8 batch (n, 3, H, W) to features (n, d) of one or more readouts.
    lists: data.lists.ImageLists with labels: queries and gallery; a list that is given twice counts once.
    crops: maps a list to batches of its central crops, as `extract` takes them.
    on_bad_image: "stop" or "skip", see report_bad. features_dir, group: see `extract`.
    The first of several processes gets all features, the others get no sets.
    """
    features, labels, places, unreadable = [], [], [], 0
    for images in dict.fromkeys(lists):
        arrays, rows, bad = extract(encoders, crops(images), len(images), "test images", features_dir, group)
        report_bad(bad, on_bad_image)
        unreadable += len(bad)
        features.append(arrays)
        labels.append(images.labels[rows])
        places.append(rows)
    return Found([] if group.rank else list(zip(*features)), labels, places, unreadable)


def score_lists(
    tested: Found,
    ks: Sequence[int],
    metrics: Sequence[str] = ("recall", "nmi"),
    nmi_average: str = "arithmetic",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[dict]:
    """Return for each readout the metrics of `score`, then `queries`, `without_positive` and `unreadable`."""
    if not tested.sets:
        return []
    positives = count_positives(*tested.labels)
    counts = {"queries": int((positives > 0).sum()), "without_positive": int((positives == 0).sum())}
    counts["unreadable"] = tested.unreadable
    return [{**score(sets, tested.labels, ks, metrics, nmi_average, seed, device), **counts} for sets in tested.sets]


def reranked(tested: Found) -> Found:
    """Smooth the features over their neighbours (utils/clustering/smooth.py), as the search in a folder does.

    Such scores use the other test images as well, and must not be compared with scores that do not. Queries that are not in
    the gallery are smoothed over the gallery, which is smoothed over itself.
    """
    return tested._replace(sets=[_smoothed(*features) for features in tested.sets])


def _smoothed(query: np.ndarray, gallery: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    rows = query if gallery is None else gallery
    table = neighbours_among(rows, rows, np.arange(len(rows)))
    gallery_rows = smoothed_twice(rows, table, rows, table)
    if gallery is None:
        return (gallery_rows,)
    return smoothed_twice(rows, table, query, neighbours_among(query, rows)), gallery_rows


def neighbours(tested: Found) -> dict[str, np.ndarray]:
    """Return the NEIGHBOURS nearest images of each query by the last readout. `query`, `indices`: positions in the lists."""
    query, *gallery = tested.sets[-1]
    indices, similarities = nearest(query, gallery[0] if gallery else None)
    return {"query": tested.places[0], "indices": tested.places[-1][indices], "similarities": similarities}


def nearest(query: np.ndarray, gallery: np.ndarray | None = None, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Return the k most similar gallery images of each query, the most similar first: int64 and float32 (Q, k).

    query, gallery: float32 (Q, d) and (G, d), L2-normalised; without a gallery each query searches all other queries. If
    there are fewer than k images to find, it returns them all.
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
    """Return the `metrics` of L2-normalised features: a dict of shares, in this order; `recall` is itself a dict {K: share}.

    sets: the features, float32 (N, d), of queries and gallery, or of one set, in which every image searches all others.
    labels: int64 (N,) of each set. Cluster metrics come from one k-means of the gallery, with as many clusters as labels.
    """
    measured: dict[str, Any] = {}
    pairs = [x for features, classes in zip(sets, labels) for x in (torch.from_numpy(features).to(device), classes)]
    if {"recall", "precision_at_1"} & set(metrics):
        at_k = recall_at_k(*pairs, ks=sorted({1, *ks})).at_k
        measured.update(recall={k: at_k[k] for k in ks}, precision_at_1=at_k[1])  # with one neighbour the two are equal
    if {"r_precision", "map_at_r"} & set(metrics):
        measured.update(precision_at_r(*pairs, seed=seed)._asdict())
    if {"nmi", "ami", "f1"} & set(metrics):
        truth = labels[-1]
        clusters = kmeans(sets[-1], len(np.unique(truth)), seed=seed).labels
        measured["nmi"] = cluster_metrics.nmi(truth, clusters, nmi_average)
        measured["f1"] = cluster_metrics.pairwise_f1(truth, clusters)
        if "ami" in metrics:  # it is slow
            measured["ami"] = cluster_metrics.ami(truth, clusters)
    return {name: measured[name] for name in metrics}


def columns(result: dict) -> dict[str, float]:
    """Map headings to the shares in a result of `score_lists`: a column for each K of Recall@K and each other metric."""
    flat: dict[str, float] = {}
    for name in result:
        if name == "recall":
            flat.update({f"{METRICS[name]}{k}": share for k, share in result[name].items()})
        elif name in METRICS:
            flat[METRICS[name]] = result[name]
    return flat


def result_line(epoch: int, result: dict, readout: str = "") -> str:
    """Return `Epoch-600 0.5441  0.6634  ...  <NMI>`, as the original prints it; metrics come in the order of `result`.

    readout: of the features; a line of the closed form starts with `Epoch-600-closed_form`.
    """
    name = f"{epoch}-{readout}" if readout == "closed_form" else epoch
    return f"Epoch-{name} " + "  ".join(f"{value:.4f}" for value in columns(result).values())


def summary(rows: Sequence[tuple[int | None, str]], results: Sequence[dict], nmi_average: str) -> str:
    """Format the counts, a line for each net and readout as the original prints it, and the table.

    rows: as in `table`. A result may hold the scores after reranking, under "reranked"; they have rows of their own.
    """
    first = results[0]
    counts = f"{first['queries']} queries; left out: {first['without_positive']} without a positive, "
    counts += f"{first['unreadable']} unreadable images" + (f"; NMI: {nmi_average} mean" if "nmi" in first else "")
    lines = [result_line(epoch or 0, result, readout) for (epoch, readout), result in zip(rows, results)]
    return "\n".join([counts, *lines, table(rows, results)])


def table(rows: Sequence[tuple[int | None, str]], results: Sequence[dict]) -> str:
    """Format the results for people: a row for each net and readout, in per cent. rows: (epoch, readout), see `net_name`."""
    lines = [f"{'':<28}" + "".join(f"{heading:>8}" for heading in columns(results[0]))]
    for (epoch, readout), result in zip(rows, results):
        name = net_name(epoch) + (", closed form" if readout == "closed_form" else "")
        for label, scores in ((name, result), (f"{name}, reranked", result.get("reranked"))):
            if scores:
                lines.append(f"{label:<28}" + "".join(f"{100 * share:8.2f}" for share in columns(scores).values()))
    return "\n".join(lines)


def net_name(epoch: int | None) -> str:
    """Name a net for tables; the frozen backbone has no epoch."""
    return "frozen backbone" if epoch is None else f"epoch {epoch}"
