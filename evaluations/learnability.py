"""Learnability: how much of what an embedding says a plain model finds again in what was known before, without labels.

The images are clustered by the embedding, and a linear classifier learns those clusters from another, fixed description of
half of the images, and names them for the other half. An embedding that says little has clusters that depend on chance; one
that has learned its training images by heart has clusters that nothing else knows of. Both are hard to name; kinds are not.
(That true classes are what a linear model of each of several spaces can learn is the principle of TURTLE: Gadetsky,
Jiang and Brbic 2024, arXiv 2406.07236.)
"""

import numpy as np

from utils.clustering.kmeans import kmeans

DIM = 256  # of the fixed space: its numbers mean as much for a net of another width
CLUSTERINGS = 5  # whose mean it is
RIDGE = 1.0
FOLDS = 2


def fixed_space(features: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Pooled features, float32 (n, d) rows of length 1 -> (n, at most DIM), in the same way for each net; with them those of
    other crops.

    Scores by ranks and by clusters change with the readout alone; so all nets are compared by the same one: square roots,
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


def learnability(rows: np.ndarray, known: np.ndarray, seed: int = 0) -> float:
    """The share of images whose cluster of `rows` a ridge classifier of `known` names that has not seen them.

    rows: float32 (n, d) of length 1, to be judged; known: float32 (n, e) of length 1, the same images described by what does
    not change, as the closed form of the net before training. sqrt(n) clusters. Mean over CLUSTERINGS, from `seed` on.
    """
    from sklearn.linear_model import RidgeClassifier  # here: with it `train.py --help` would take seconds

    fold = np.arange(len(rows)) % FOLDS  # lists are often in order of kinds: each fold then has some of each
    k = max(1, round(len(rows) ** 0.5))
    right = []
    for start in range(seed, seed + CLUSTERINGS):
        clusters = kmeans(rows, k, seed=start).labels
        for part in range(FOLDS):
            seen, unseen = fold != part, fold == part
            if len(np.unique(clusters[seen])) < 2:  # nothing to tell apart
                return 0.0
            found = RidgeClassifier(alpha=RIDGE).fit(known[seen], clusters[seen]).predict(known[unseen])
            right.append(np.mean(found == clusters[unseen]))
    return float(np.mean(right))
