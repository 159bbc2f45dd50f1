"""Learnability: how well a linear model predicts the clusters of an embedding from an earlier description of the images.

The images are clustered by the embedding. A linear classifier learns those clusters from another, fixed description of half
of the images, and predicts them for the other half. The clusters of an embedding that says little depend on chance. An
embedding that has memorised its training images has clusters that no other description shows. Both are hard to predict; true
classes are not. TURTLE rests on the same principle: a linear model can learn true classes from each of several spaces
(Gadetsky, Jiang and Brbic 2024, arXiv 2406.07236).
"""

import numpy as np

from utils.clustering.kmeans import kmeans

DIM = 256  # of the fixed space, in which nets of all widths compare
CLUSTERINGS = 5  # clusterings that the score averages
RIDGE = 1.0
FOLDS = 2


def fixed_space(features: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Map pooled features, float32 (n, d) rows of length 1, to (n, at most DIM), and the features of other crops alike.

    Scores by ranks and by clusters change with the readout alone, so all nets are compared by one readout: square roots,
    centred, the PCA with eigenvalues to the power 1/4, length one.
    """
    roots = [_unit(np.sign(part) * np.sqrt(np.abs(part))).astype(np.float64) for part in (features, *others)]
    mean = roots[0].mean(0)
    values, vectors = np.linalg.eigh((roots[0] - mean).T @ (roots[0] - mean) / len(features))
    values, vectors = values[::-1][:DIM].clip(min=0), vectors[:, ::-1][:, :DIM]
    projection = vectors * (values + values.mean() + 1e-12) ** -0.25
    return [np.ascontiguousarray(_unit((part - mean) @ projection), dtype=np.float32) for part in roots]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def learnability(rows: np.ndarray, reference: np.ndarray, seed: int = 0) -> float:
    """Return the share of unseen images whose cluster a ridge classifier predicts from `reference`.

    rows: float32 (n, d) of length 1, to be judged by sqrt(n) clusters. reference: float32 (n, e) of length 1, a fixed
    description of them, such as the closed form of the net before training. Mean over CLUSTERINGS, from `seed` on.
    """
    from sklearn.linear_model import RidgeClassifier  # here: with it `train.py --help` would take seconds

    fold = np.arange(len(rows)) % FOLDS  # each fold gets images of each class, also from a list sorted by class
    k = max(1, round(len(rows) ** 0.5))
    right = []
    for start in range(seed, seed + CLUSTERINGS):
        clusters = kmeans(rows, k, seed=start).labels
        for part in range(FOLDS):
            seen, unseen = fold != part, fold == part
            if len(np.unique(clusters[seen])) < 2:  # nothing to tell apart
                return 0.0
            predicted = RidgeClassifier(alpha=RIDGE).fit(reference[seen], clusters[seen]).predict(reference[unseen])
            right.append(np.mean(predicted == clusters[unseen]))
    return float(np.mean(right))
