"""UDML-SS with the labels of the training list instead of clusters."""

import numpy as np
import torch
from torch import Tensor

from data.lists import ImageList
from models.methods.udml_ss import UDMLSS
from utils.errors import InputError
from utils.features import Look


class Supervised(UDMLSS):
    """Trains on the labels of the list, renumbered 0, 1, ...; it looks at the images only for `--init pca`."""

    def check(self, images: ImageList) -> None:
        if images.labels is None:
            raise InputError(f"{images.source}: the method `supervised` (--labels True) needs a label on every line")

    def num_classes(self, images: ImageList) -> int:
        return int(self.first_labels(images).max()) + 1

    def first_labels(self, images: ImageList) -> Tensor:
        return torch.unique(torch.as_tensor(images.labels), return_inverse=True)[1]

    def looks(self, epoch: int) -> Look | None:
        return Look("pooled") if epoch == 1 and self.settings.init == "pca" else None

    def prepare(self, features: np.ndarray, rows: np.ndarray) -> str:
        self.embedder.start_embedding_at(features)
        return "the embedding starts at the PCA of the pooled features"
