"""Makes a map of embeddings in two dimensions, on which look-alikes lie close together."""

import numpy as np

from utils.arrays import nearest_rows, row_blocks, sample_rows

# scikit-learn is imported where it is used: its import takes seconds, and `--help` should not.

MAPPED = 4000  # images that t-SNE places, in about 10 s of one core
FEW = 10  # with fewer images t-SNE has too few neighbours
PERPLEXITY = 30  # about the number of neighbours that count
STEPS = 500  # as good as 1,000 when measured on 2,500 images
NEIGHBOURS = 5  # placed images that decide the place of another image


def layout(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """Map float32 or float16 (N, d) embeddings to places, float32 (N, 2) in [0, 1]. Look-alikes lie close together.

    t-SNE (van der Maaten and Hinton 2008, JMLR 9) starts from the first two principal components. It keeps 69 % (groceries)
    and 63 % (birds) of an image's 10 nearest neighbours among the 30 nearest on the map; the components alone keep 10 % and
    7 %. With more than MAPPED images t-SNE places a random sample. Each other image lies beside its nearest placed image,
    moved a little towards the mean of the next ones. It is not placed at the mean of all its
    neighbours, which could lie between clusters.
    The same embeddings and seed give the same map on a machine.
    Raises InputError when an embedding of the sample is not finite.
    """
    from scipy.spatial import cKDTree

    if not len(embeddings):
        return np.empty((0, 2), np.float32)
    placed, rows = sample_rows(embeddings, MAPPED, seed)
    places = _neighbour_map(rows, seed)
    if len(placed) < len(embeddings):
        # Distance to the third neighbour; the first may be a copy of the image, at distance 0.
        gaps = cKDTree(places).query(places, 4)[0][:, 3]
        others = np.concatenate([_beside(part, rows, places, gaps) for part in row_blocks(embeddings)])
        others[placed] = places
        places = others
    low, high = places.min(0), places.max(0)
    return (0.5 + (places - (low + high) / 2) / (max(high - low) or 1)).clip(0, 1).astype(np.float32)


def _neighbour_map(rows: np.ndarray, seed: int) -> np.ndarray:
    """Place float32 (n, d) rows by t-SNE, fewer than FEW rows by their principal components: (n, 2)."""
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
    with threadpool_limits(1, "openmp"):  # several threads add forces in any order: the map would vary
        start = axes / axes[:, 0].std() * 1e-4
        return TSNE(2, init=start, perplexity=perplexity, max_iter=STEPS, random_state=seed).fit_transform(rows)


def _beside(rows: np.ndarray, placed: np.ndarray, places: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Place rows (n, d), each at most half a gap from its nearest placed row: float32 (n, 2).

    placed, places: (m, d) and (m, 2), the placed rows and their places. gaps: (m,), on the map, the
    distance of each place to its third nearest.
    """
    neighbours, _ = nearest_rows(rows, placed, NEIGHBOURS)
    nearest = neighbours[:, 0]
    towards = places[neighbours[:, 1:]].mean(1) - places[nearest]
    length = np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
    return places[nearest] + towards * np.minimum(gaps[nearest] / 2 / length, 1)[:, None]
