"""Images -> features, for clustering and for evaluation."""

import numpy as np
import torch
from tqdm import tqdm

from utils.errors import InputError


def encoder(model, normalise, compute, pooled=False):
    """A function from a uint8 image batch (n, 3, H, W) to the model's embeddings, or to its pooled features."""
    def encode(images):
        with compute.autocast():
            features = model.pool(normalise(images))
        return features if pooled else model.embed(features)
    return encode


@torch.inference_mode()
def extract(encoders, loader, total, say=None):
    """Run every encoder over every batch of a loader; each image is decoded once, however many encoders there are.

    encoders: functions of a uint8 image batch (n, 3, H, W) that return float features (n, d).
    loader: yields (indices (n,), images, list of bad images) as data.views.collate_crops does.
    total: number of images N. say: what the progress bar is called.
    Returns (a C-contiguous float32 array (N, d) for each encoder, list of bad images); the rows of bad images are 0.
    """
    arrays, bad = [None] * len(encoders), []
    with tqdm(total=total, desc=say, unit="img", disable=None, leave=False) as bar:
        for indices, images, unreadable in loader:
            bad += unreadable
            bar.update(len(indices) + len(unreadable))
            if images is None:
                continue
            for e, encode in enumerate(encoders):
                features = encode(images).float().cpu().numpy()
                if arrays[e] is None:
                    arrays[e] = np.zeros((total, features.shape[1]), dtype=np.float32)
                arrays[e][indices.numpy()] = features
    if arrays[0] is None:
        raise InputError(f"none of the {total} images can be read, the first: {bad[0].message}")
    return arrays, bad


def l2_normalise(features):
    """float32 (N, d) -> the same with rows of length 1 (a zero row stays zero)."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
