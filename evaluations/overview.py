"""An overview of a gallery of embeddings: clusters of look-alikes, and a map of two dimensions."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from utils.choose_k import centres_of, choose_k, nearest_centre
from utils.errors import InputError

# scikit-learn and faiss are imported where they are used: they take seconds, and `--help` should not.

SAMPLE = 50_000  # images that the centres come from, and at least PER_CLUSTER for each; the others only join one
PER_CLUSTER = 64

MAPPED = 4000  # images that t-SNE places, in about 10 s of one core
FEW = 10  # fewer images have too few neighbours for t-SNE
PERPLEXITY = 30  # about so many neighbours count
STEPS = 500  # as good as 1,000 where it was measured, on 2,500 images
NEIGHBOURS = 5  # placed images that say where another one goes
BLOCK = 8192  # rows at once


class Grouping(NamedTuple):
    """Clusters of N images, the largest first; of equally large ones that with the first row."""

    labels: np.ndarray  # int64 (N,), values in 0..len(order)-1; each occurs
    order: list[np.ndarray]  # the rows of each cluster, int64, the most central first; of equally central ones the first row


# ---- clusters --------------------------------------------------------------------------------------------------------


def group(embeddings: np.ndarray, k: int | None = None, seed: int = 0) -> Grouping:
    """Cluster float32 or float16 (N, d) embeddings of length 1, which may be memory-mapped, by spherical k-means.

    k: the number of clusters; None: `choose_k` finds it. There are fewer where there are fewer different images.
    The most central image of a cluster is the one with the largest inner product with the mean of all its images.
    Centres come from a random sample of at least SAMPLE images, and every image joins the most similar one. Beside the
    sample, memory is blocks of rows. The same embeddings and seed give the same clusters on a machine.
    Raises InputError for a k below 1, and when an embedding of the sample is not finite.
    """
    if k is not None and k < 1:
        raise InputError(f"{k} clusters: give 1 or more")
    if not len(embeddings):
        return Grouping(np.empty(0, np.int64), [])
    if k is None:
        k = choose_k(embeddings, seed)
    k = min(k, len(embeddings))
    centres = centres_of(_sample(embeddings, max(SAMPLE, PER_CLUSTER * k), seed)[1], k, seed)
    labels = np.concatenate([nearest_centre(rows, centres) for rows in _blocks(embeddings)])
    return _ordered(labels, _centrality(embeddings, labels, k))


def _centrality(embeddings: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """float32 (N,): the inner product of each row with the sum of its cluster. It orders them as that with the mean."""
    from scipy.sparse import csr_matrix

    sums, start = np.zeros((k, embeddings.shape[1])), 0
    for rows in _blocks(embeddings):
        member = labels[start : start + len(rows)]
        sums += csr_matrix((np.ones(len(rows)), member, np.arange(len(rows) + 1)), (len(rows), k)).T @ rows
        start += len(rows)
    totals = sums.astype(np.float32)
    products, start = [], 0
    for rows in _blocks(embeddings):
        products.append(np.einsum("nd,nd->n", rows, totals[labels[start : start + len(rows)]]))
        start += len(rows)
    return np.concatenate(products)


def _ordered(labels: np.ndarray, centrality: np.ndarray) -> Grouping:
    """The Grouping of any labels, int64 (N,), and of how central each row is, float32 (N,)."""
    _, first, labels, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    by_size = np.lexsort((first, -sizes))
    labels = by_size.argsort()[labels]
    rows = np.lexsort((-centrality, labels))  # stable: of equally central rows the first comes first
    return Grouping(labels, np.split(rows, np.cumsum(sizes[by_size])[:-1]))


# ---- map -------------------------------------------------------------------------------------------------------------


def layout(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """A map on which look-alikes lie close together: float32 (N, 2), in [0, 1], of float32 or float16 (N, d) embeddings.

    t-SNE (van der Maaten and Hinton 2008, JMLR 9) from the first two principal components: of an image's 10 nearest
    neighbours it keeps 69 % (groceries) and 63 % (birds) among the 30 nearest on the map, the components alone 10 % and 7 %.
    Of more than MAPPED images it places a random sample. The others lie beside their nearest placed image, on the side of
    the next ones; the mean of several would lie between clusters.
    The same embeddings and seed give the same map on a machine.
    Raises InputError when an embedding of the sample is not finite.
    """
    from scipy.spatial import cKDTree

    if not len(embeddings):
        return np.empty((0, 2), np.float32)
    placed, rows = _sample(embeddings, MAPPED, seed)
    places = _neighbour_map(rows, seed)
    if len(placed) < len(embeddings):
        gaps = cKDTree(places).query(places, 4)[0][:, 3]  # to the third neighbour: copies of an image leave no gap
        others = np.concatenate([_beside(part, rows, places, gaps) for part in _blocks(embeddings)])
        others[placed] = places
        places = others
    low, high = places.min(0), places.max(0)
    return (0.5 + (places - (low + high) / 2) / (max(high - low) or 1)).clip(0, 1).astype(np.float32)


def _neighbour_map(rows: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2): places of the float32 (n, d) rows by t-SNE, of FEW by their principal components."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    axes = np.zeros((len(rows), 2), np.float32)
    if np.ptp(rows, axis=0).max() < 1e-6:  # copies of one image
        return axes
    dims = min(2, *rows.shape)
    axes[:, :dims] = PCA(dims, random_state=seed).fit_transform(rows)
    if len(rows) < FEW:
        return axes
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    with threadpool_limits(1, "openmp"):  # several threads add up forces in any order, and the map would differ each time
        start = axes / axes[:, 0].std() * 1e-4
        return TSNE(2, init=start, perplexity=perplexity, max_iter=STEPS, random_state=seed).fit_transform(rows)


def _beside(rows: np.ndarray, placed: np.ndarray, places: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """float32 (n, 2): places of rows (n, d), half a gap at most from those of the nearest of the placed rows (m, d).

    places: (m, 2), of the placed rows. gaps: (m,), how far neighbours on the map lie from each.
    """
    import faiss

    _, near = faiss.knn(rows, placed, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT)
    nearest = near[:, 0]
    towards = places[near[:, 1:]].mean(1) - places[nearest]
    length = np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
    return places[nearest] + towards * np.minimum(gaps[nearest] / 2 / length, 1)[:, None]


# ---- rows ------------------------------------------------------------------------------------------------------------


def _sample(embeddings: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows, int64 (n,) ascending, and the rows, float32 (n, d): at most so many, random ones, in order.

    Rows that are all taken, and float32 already, are not copied. Raises InputError when one is not finite.
    """
    chosen, rows = np.arange(len(embeddings)), embeddings
    if len(embeddings) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(embeddings), most, replace=False))
        rows = embeddings[chosen]
    rows = rows.astype(np.float32, copy=False)
    if not all(np.isfinite(part).all() for part in _blocks(rows)):
        raise InputError("embeddings are not finite: the model has diverged; embed the images with another one")
    return chosen, rows


def _blocks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, float32 (n, d), block by block."""
    for start in range(0, len(embeddings), BLOCK):
        yield embeddings[start : start + BLOCK].astype(np.float32, copy=False)
