"""Held-out images -> Recall@K, NMI and further metrics, for one or several encoders at once."""

import numpy as np
import torch

from evaluations import cluster_metrics
from evaluations.features import extract
from evaluations.ranking import count_positives, precision_at_r
from evaluations.recall import recall_at_k
from utils.clustering import kmeans
from utils.distributed import Group

# name -> heading of its column; Recall@K has a column for each K
METRICS = {"recall": "R@", "precision_at_1": "P@1", "r_precision": "RP", "map_at_r": "MAP@R", "nmi": "NMI", "ami": "AMI",
           "f1": "F1"}


def evaluate(encoders, query, gallery, loader, on_bad, ks, metrics=("recall", "nmi"), nmi_average="arithmetic", seed=0,
             features_dir=None, device="cpu", group=Group()):
    """Score every encoder on the same images, each decoded once.

    encoders: functions of a uint8 batch (n, 3, H, W) that give features (n, d).
    features_dir, group: see extract; of several processes only the first scores, the others return None for each encoder.
    device: where retrieval metrics are computed.
    query, gallery: image lists with `labels`; the same object when one set serves as both.
    loader: function of an image list that returns its loader of crops; on_bad: called with the unreadable images.
    metrics: names of METRICS, `score` has their values; nmi_average: see cluster_metrics.nmi.
    Returns a dict for each encoder: its metrics as named, in that order, then `queries`, `without_positive`, `unreadable`.
    """
    features, labels, unreadable = [], [], 0
    for images in (query,) if gallery is query else (query, gallery):
        arrays, good, bad = extract(encoders, loader(images), len(images), "test images", features_dir, group)
        on_bad(bad)
        unreadable += len(bad)
        features.append(arrays)
        labels.append(images.labels[good])
    if group.rank:
        return [None] * len(encoders)
    positives = count_positives(*labels)
    results = []
    for sets in zip(*features):
        measured = score(sets, labels, ks, metrics, nmi_average, seed, device)
        results.append({**measured, "queries": int((positives > 0).sum()), "without_positive": int((positives == 0).sum()),
                        "unreadable": unreadable})
    return results


def score(sets, labels, ks, metrics, nmi_average="arithmetic", seed=0, device="cpu"):
    """The `metrics` of L2-normalised features: a dict of shares, in their order; `recall` is a dict {K: share} itself.

    sets: (features float32 (N, d),) of images that are each other's gallery, or (those of the queries, of the gallery);
    labels: the same of int64 (N,). Cluster metrics are of one k-means of the gallery with as many clusters as it has labels.
    """
    measured = {}
    pairs = [x for features, classes in zip(sets, labels) for x in (torch.from_numpy(features).to(device), classes)]
    if {"recall", "precision_at_1"} & set(metrics):
        at = recall_at_k(*pairs, ks=sorted({1, *ks})).at
        measured.update(recall={k: at[k] for k in ks}, precision_at_1=at[1])  # one neighbour: its recall is its precision
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


def columns(result):
    """A result of `evaluate` as a dict of heading -> share, a column for each K of Recall@K and for each other metric."""
    flat = {}
    for name in result:
        if name == "recall":
            flat.update({f"{METRICS[name]}{k}": share for k, share in result[name].items()})
        elif name in METRICS:
            flat[METRICS[name]] = result[name]
    return flat


def result_line(epoch, result):
    """`Epoch-600 0.5441  0.6634  ...  <NMI>`, as the original prints it; other metrics in the order they were asked for."""
    return f"Epoch-{epoch} " + "  ".join(f"{value:.4f}" for value in columns(result).values())
