"""The rotation loss alone, to measure self-supervision by itself."""

import numpy as np
import torch
from torch import Tensor

from data.lists import ImageList
from models.methods.supervised import Supervised
from utils.errors import InputError


class RotationAlone(Supervised):
    """Trains without metric views and pseudo-labels; random labels only set how many images an epoch visits."""

    metric = False

    def check(self, images: ImageList) -> None:
        if self.settings.num_clusters == "auto":
            raise InputError("auto: the rotation loss alone clusters nothing; give a number", setting="num_clusters")
        if not self.rotated:
            raise InputError("--rot_only needs --self_supervision_rot and --rot_batch above 0: nothing is left to train on")

    def num_classes(self, images: ImageList) -> int:
        return self.settings.num_clusters

    def first_labels(self, images: ImageList) -> Tensor:
        rng = np.random.default_rng(self.settings.seed)
        return torch.from_numpy(rng.permutation(len(images)) % self.settings.num_clusters)
