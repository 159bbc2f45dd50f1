"""Detects signs that training goes wrong. They are reported early, before a good checkpoint is overwritten."""

import math

import numpy as np

from utils import log
from utils.errors import RunError

COLLAPSED, STEPS = 0.999, 50  # all similarities of a batch above COLLAPSED in STEPS steps in a row: the embedding collapsed
GIANT = 0.5  # share of the images in one cluster


def diverged(what: str) -> str:
    """Return the message for a run whose numbers are no longer finite. what: the place and the number."""
    remedy = "Lower --lr and --rot_lr, or --alpha, or try --amp off, and go on from that checkpoint with --override"
    return f"{what}: training has diverged; nothing was written over the last checkpoint. {remedy}, or start anew"


class Watch:
    """Checks the loss and the similarities of every step."""

    def __init__(self) -> None:
        self._collapsed = 0

    def step(self, where: str, loss: float, lowest: float) -> None:
        """Raise RunError unless `loss` and `lowest`, the least similarity of the batch, are finite.

        where: epoch and step, for the message. A loss of hard pairs alone may be finite when embeddings are not.
        """
        if not math.isfinite(loss):
            raise RunError(diverged(f"{where}: the loss is {loss}"))
        if not math.isfinite(lowest):
            raise RunError(diverged(f"{where}: the least similarity is {lowest}"))
        self._collapsed = self._collapsed + 1 if lowest > COLLAPSED else 0
        if self._collapsed == STEPS:
            reason = f"all similarities have been above {COLLAPSED} for {STEPS} steps"
            remedy = "lower --lr, start from pretrained weights, or use more clusters"
            log.warn(f"warning: {where}: {reason}: the embedding has collapsed and tells nothing apart; {remedy}")


def watch_clusters(labels: np.ndarray, k: int) -> None:
    """Warn when most images are in one of k clusters. labels: int64 (n,)."""
    share = np.bincount(labels, minlength=k).max() / len(labels)
    if k > 2 and share > GIANT:
        remedy = "lower the learning rate, start from pretrained weights, or try spherical k-means"
        log.warn(f"warning: one cluster holds {share:.0%} of the images: the features hardly differ; {remedy}")
