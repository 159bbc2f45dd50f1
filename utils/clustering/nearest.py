"""Finds the nearest rows of each row: among fewer than INDEXED exactly, among more by an inverted file of measured recall.

The inverted file puts each row into the cell of its nearest centroid, and compares a query with the rows of the `probes`
cells nearest to it (Jegou, Douze, Schmid 2011, section IV). All queries of a block that probe a cell share a matrix product.
"""

import numpy as np
import torch
from torch import Tensor

from utils import log
from utils.errors import InputError

INDEXED = 100_000  # rows; exactly, 100,000 take minutes, and a million would take hours
RECALL = 0.95  # share of the nearest rows that has to be found in a sample of SAMPLE rows
SAMPLE = 1000
TRAINING_POINTS, ITERATIONS = 40, 10  # of k-means: rows for each centroid
BLOCK = 2**12  # queries that search together
NUMBERS_AT_ONCE = 2**22  # numbers in the largest array of a step: 16 MB of float32


def nearest(features: np.ndarray, k: int, device: torch.device | str = "cpu") -> np.ndarray:
    """Return the k nearest rows of each float32 (N, d) row of length 1, the nearest first: int32 (N, min(k, N)).

    An image is its own nearest. Equally near images come in the order of the list. So many copies of one picture have the
    same neighbours, and stay together.
    Raises InputError where a feature is not finite.
    """
    rows, k = torch.from_numpy(features).to(device), min(k, len(features))
    if len(rows) < INDEXED:
        return nearest_of_all(rows, torch.arange(len(rows), device=rows.device), k)
    return InvertedFile(rows).nearest(k)


def nearest_of_all(rows: Tensor, queries: Tensor, k: int) -> np.ndarray:
    """Return the k rows that are nearest to each of the queries, int64 (q,), as `nearest` does: int32 (q, k)."""
    neighbours, everything = np.empty((len(queries), k), np.int32), torch.arange(len(rows), device=rows.device)
    step = max(1, NUMBERS_AT_ONCE // len(rows))
    for start in range(0, len(queries), step):
        similar = rows[queries[start : start + step]] @ rows.T
        if not similar.isfinite().all():
            _not_finite()
        similar[torch.arange(len(similar), device=rows.device), queries[start : start + step]] = torch.inf
        neighbours[start : start + step] = first(similar, everything.expand(similar.shape), k).cpu().numpy()
    return neighbours


def first(similar: Tensor, numbers: Tensor, k: int) -> Tensor:
    """Return the numbers of the k largest of each row of `similar` (n, m), in falling order; equal ones by number: (n, k).

    numbers: int64 (n, m), different in each row.
    """
    values, numbers = largest(similar, numbers, k)
    numbers, order = numbers.sort()
    return numbers.gather(1, values.gather(1, order).sort(descending=True, stable=True).indices)


def largest(similar: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their numbers, (n, k) each, in any order. Of equal ones, those of low numbers."""
    values, columns = similar.topk(k, sorted=False)
    tied = (similar >= values.amin(1, keepdim=True)).sum(1) > k  # topk would take arbitrary ones
    if tied.any():
        in_order = numbers[tied].argsort(1)
        best = similar[tied].gather(1, in_order).sort(descending=True, stable=True).indices[:, :k]
        columns[tied] = in_order.gather(1, best)
        values = similar.gather(1, columns)
    return values, numbers.gather(1, columns)


class InvertedFile:
    """Rows in cells, each around its centroid. A query is compared with the rows of the cells nearest to it."""

    def __init__(self, rows: Tensor, seed: int = 0) -> None:
        """rows: float32 (N, d) of length 1. Raises InputError where one is not finite."""
        import faiss

        count, dim = rows.shape
        if not all(bool(block.isfinite().all()) for block in rows.split(2**16)):
            _not_finite()
        self.rows, self.count = rows, int(2 * count**0.5)
        solver = faiss.Kmeans(dim, self.count, niter=ITERATIONS, spherical=True, seed=seed, min_points_per_centroid=1)
        sample = np.random.default_rng(seed).choice(count, min(count, TRAINING_POINTS * self.count), replace=False)
        solver.train(rows[torch.from_numpy(np.sort(sample)).to(rows.device)].cpu().numpy())
        self.centroids = torch.from_numpy(solver.centroids).to(rows.device)
        step = max(1, NUMBERS_AT_ONCE // self.count)
        self.cell = torch.cat([(block @ self.centroids.T).argmax(1) for block in rows.split(step)])
        self.order = self.cell.argsort(stable=True)  # all rows, cell by cell
        self.members = self.order.split(
            torch.bincount(self.cell, minlength=self.count).tolist()
        )  # of a cell, in rising order

    def nearest(self, k: int) -> np.ndarray:
        """Return the k nearest rows of each row, as the function above, by as few probes as give RECALL. Logs the recall.

        If that takes more than half of the cells, all rows are compared.
        """
        sample = np.sort(np.random.default_rng(1).choice(len(self.rows), min(SAMPLE, len(self.rows)), replace=False))
        queries, probes = torch.from_numpy(sample).to(self.rows.device), 1
        exact = nearest_of_all(self.rows, queries, k)
        while (recall := shared(self.search(queries, k, probes), exact)) < RECALL and probes < self.count:
            probes = min(2 * probes, self.count)
        what = f"{k} neighbours of {len(self.rows):,} images"
        if 2 * probes > self.count:  # a product with all rows is as fast
            log.say(f"{what}, exactly: an inverted file would probe {probes} of {self.count} cells each")
            return nearest_of_all(self.rows, torch.arange(len(self.rows), device=self.rows.device), k)
        what += f" by an inverted file, {probes} of {self.count} cells each"
        log.say(f"{what}; recall {recall:.3f} in a sample of {len(sample)}")
        neighbours = np.empty((len(self.rows), k), np.int32)
        for block in self.order.split(BLOCK):  # queries of the same cells together
            neighbours[block.cpu().numpy()] = self.search(block, k, probes)
        return neighbours

    def search(self, queries: Tensor, k: int, probes: int) -> np.ndarray:
        """Return the k rows nearest to each of the queries, int64 (q,), in its `probes` nearest cells: int32 (q, k)."""
        count, at = len(queries), queries.device
        cells, own = (self.rows[queries] @ self.centroids.T).topk(probes).indices, self.cell[queries]  # (q, probes), (q,)
        cells[:, -1] = torch.where((cells == own[:, None]).any(1), cells[:, -1], own)  # rounding may decide otherwise
        values = torch.full((count, probes, k), -torch.inf, device=at)
        numbers = (
            torch.arange(probes * k, device=at).sub(probes * k).reshape(probes, k).repeat(count, 1, 1)
        )  # none found yet
        places = cells.flatten().argsort(stable=True)  # probes, cell by cell
        sizes = torch.bincount(cells.flatten(), minlength=self.count).tolist()
        for members, part in zip(self.members, places.split(sizes)):
            if not len(part) or not len(members):
                continue
            query, probe = part // probes, part % probes
            similar = self.rows[queries[query]] @ self.rows[members].T
            similar[queries[query][:, None] == members] = torch.inf
            m = min(k, len(members))
            values[query, probe, :m], numbers[query, probe, :m] = largest(similar, members.expand(similar.shape), m)
        found = first(values.flatten(1), numbers.flatten(1), k)
        short = (found < 0).any(1)  # these cells hold fewer than k rows
        neighbours = found.cpu().numpy().astype(np.int32)
        if short.any():
            neighbours[short.cpu().numpy()] = nearest_of_all(self.rows, queries[short], k)
        return neighbours


def shared(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the exact neighbours, int (q, k), that are among those found, int (q, k)."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist())]))


def _not_finite() -> None:
    remedy = "lower the learning rate, or start from pretrained weights"
    raise InputError(f"features are not finite: training has diverged; {remedy}")
