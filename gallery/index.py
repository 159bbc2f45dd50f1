"""Finds nearest neighbours among embeddings: up to EXACT exactly, among more by an inverted file with measured recall.

faiss does the work (Johnson, Douze, Jegou 2017, arXiv 1702.08734). An inverted file puts each embedding into the list of its
nearest centroid, and a query searches its `probes` nearest lists.
"""

import time
from typing import Any

import numpy as np

from gallery.folder import GalleryFolder, read_json
from gallery.scale import UNKNOWN, Scale
from utils.arrays import nearest_rows
from utils.clustering.smooth import Neighbours
from utils.errors import InputError
from utils.files import write_json, written_whole

EXACT = 200_000  # embeddings: up to this many, every query is compared with all
ROWS_AT_ONCE = 2**16  # embeddings that are read at once
SAMPLE = 256  # embeddings that recall is measured on
RECALL = 0.95  # recall@10 that the number of probes must reach
TRAINING_POINTS = 64  # for each centroid


class Index:
    """Embeddings that can be searched; `about` describes the index and its recall."""

    def __init__(self, searcher: Any, about: dict[str, Any]) -> None:
        """searcher: a faiss index of inner products. about: as `build` gives it."""
        self.searcher, self.about = searcher, about
        self.neighbours: Neighbours | None = None  # of each embedding; None: results stay in the order of the search
        self.scale: Scale = UNKNOWN  # how high a similarity is among these embeddings

    def __len__(self) -> int:
        return self.searcher.ntotal

    @property
    def description(self) -> str:
        """The type of the index and its recall, on one line."""
        about = self.about
        line = f"{about['images']:,} images, {about['kind']}"
        if about["kind"] != "exact":
            line += f": {about['probes']} of {about['lists']} lists a query, recall@10 {about['recall']:.3f}"
        return f"{line}; {about['seconds']:.1f} s"

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k most similar embeddings, best first: rows int64, similarities float32, (q, k).

        queries: float32 (q, d), rows of length 1. k: at most the number of embeddings. An inverted file that finds fewer
        than k fills up with row -1.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        similarities, rows = self.searcher.search(queries, min(k, len(self)))
        return rows, similarities


class Outdated(InputError):
    """The index is missing or older than the embeddings; a new one can be built."""


def build(embeddings: np.ndarray, exact_up_to: int = EXACT, seed: int = 0) -> Index:
    """Index embeddings, float32 or float16 (N, d) with rows of length 1; they may be memory-mapped.

    The index of up to `exact_up_to` embeddings is exact. Memory: 4 d N bytes.
    """
    import faiss

    began = time.perf_counter()
    count, dim = embeddings.shape
    if count <= exact_up_to:
        exact = faiss.IndexFlatIP(dim)
        _add(exact, embeddings)
        return Index(exact, {"kind": "exact", "images": count, "seconds": time.perf_counter() - began})
    lists = min(count, max(1, int(2 * count**0.5)))
    searcher = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    searcher.cp.seed = seed
    rng = np.random.default_rng(seed)
    searcher.train(_rows(embeddings, rng.choice(count, min(count, TRAINING_POINTS * lists), replace=False)))
    _add(searcher, embeddings)
    recall = _choose_probes(searcher, embeddings, rng)
    about = {"kind": "inverted file", "images": count, "lists": lists, "probes": searcher.nprobe, "recall": recall}
    return Index(searcher, {**about, "seconds": time.perf_counter() - began})


def _add(searcher: Any, embeddings: np.ndarray) -> None:
    for begin in range(0, len(embeddings), ROWS_AT_ONCE):
        searcher.add(np.ascontiguousarray(embeddings[begin : begin + ROWS_AT_ONCE], np.float32))


def _rows(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Read these rows as float32, in the order in which they lie."""
    return np.ascontiguousarray(embeddings[np.sort(rows)], np.float32)


def _choose_probes(searcher: Any, embeddings: np.ndarray, rng: np.random.Generator) -> float:
    """Double the probes from 1 until recall@10 reaches RECALL on a sample of the embeddings, or all lists are probed.

    Returns that recall.
    """
    sample = _rows(embeddings, rng.choice(len(embeddings), min(SAMPLE, len(embeddings)), replace=False))
    exact = exact_neighbours(sample, embeddings, 10)
    searcher.nprobe = 1
    while (recall := recall_at_10(searcher.search(sample, 10)[1], exact)) < RECALL and searcher.nprobe < searcher.nlist:
        searcher.nprobe = min(2 * searcher.nprobe, searcher.nlist)
    return recall


def exact_neighbours(queries: np.ndarray, embeddings: np.ndarray, k: int) -> np.ndarray:
    """Return the rows most similar to each query, int64 (q, k), by comparing it with all, block by block."""
    best, best_rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for begin in range(0, len(embeddings), ROWS_AT_ONCE):
        block = np.ascontiguousarray(embeddings[begin : begin + ROWS_AT_ONCE], np.float32)
        rows, values = nearest_rows(queries, block, min(k, len(block)))
        best, best_rows = np.hstack([best, values]), np.hstack([best_rows, rows + begin])
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, best_rows = np.take_along_axis(best, order, 1), np.take_along_axis(best_rows, order, 1)
    return best_rows


def recall_at_10(rows: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the exact neighbours, int64 (q, 10), that are among `rows`, int64 (q, 10)."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(rows.tolist(), exact.tolist())]))


# ---- on the disk -----------------------------------------------------------------------------------------------------


def save(index: Index, folder: str, model: str, stamp: str) -> None:
    """Write index.json, and for an inverted file index.faiss. model, stamp: of the gallery."""
    import faiss

    place = GalleryFolder(folder)
    if index.about["kind"] != "exact":
        with written_whole(place.inverted_file, alone=True) as file:
            faiss.write_index(index.searcher, file.name)
    write_json(place.index, {**index.about, "model": model, "stamp": stamp})


def load(folder: str, embeddings: np.ndarray, model: str, stamp: str) -> Index:
    """Load the index in `folder`, which must be of this model and stamp. An exact index is built from the embeddings.

    Raises Outdated if it is missing or older than the embeddings, InputError if it is damaged or of another model.
    """
    place = GalleryFolder(folder)
    path = place.index
    again = f"run search.py index {folder}"
    try:
        about = read_json(path)
        if not {"kind", "images", "model", "stamp", "seconds"} <= set(about):
            raise ValueError("of another version of this program")
    except FileNotFoundError:
        raise Outdated(f"{folder}: no index yet; {again}") from None
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path}: damaged ({error}); {again}") from None
    if about["model"] != model:
        raise InputError(f"{path}: made of another model's embeddings, which cannot be compared with these; {again}")
    if about["stamp"] != stamp:
        raise Outdated(f"{path}: older than the embeddings; {again}")
    if about["kind"] == "exact":
        return Index(build(embeddings, exact_up_to=len(embeddings)).searcher, about)
    import faiss

    try:
        searcher = faiss.read_index(place.inverted_file)
        if (searcher.ntotal, searcher.d) != embeddings.shape:
            raise RuntimeError
    except Exception:  # a damaged file can fail in any way
        raise Outdated(f"{folder}: index.faiss is missing or damaged; {again}") from None
    return Index(searcher, about)
