"""Normalised mutual information between a k-means clustering and the labels."""

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from utils.clustering import kmeans


def nmi(features, labels, seed=0):
    """NMI (arithmetic mean of the entropies) of k-means with as many clusters as there are labels.

    features: float32 (N, d); labels: int64 (N,). Clustering is on the features as they are.
    """
    clusters = kmeans(features, len(np.unique(labels)), seed=seed).labels
    return float(normalized_mutual_info_score(labels, clusters))
