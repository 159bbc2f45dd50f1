"""No training: the backbone as it is, and the PCA of its pooled features as the embedding. Training has to beat this."""

import argparse
from typing import Any

import numpy as np

from data.lists import ImageList
from models.embedder import Embedder
from models.methods.method import Method
from utils.features import Look


class Frozen(Method):
    """Looks at the images once; a single epoch is enough."""

    def __init__(self, embedder: Embedder, images: ImageList, settings: argparse.Namespace) -> None:
        super().__init__(embedder.requires_grad_(False), images, settings)

    @staticmethod
    def flags(parser: Any) -> None:
        parser.set_defaults(epochs=1)

    def param_groups(self) -> list[dict]:
        return []

    def looks(self, epoch: int) -> Look | None:
        return Look("pooled") if epoch == 1 else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        self.embedder.start_embedding_at(features)
        return f"set the embedding to the PCA of the pooled features of {len(rows)} images"
