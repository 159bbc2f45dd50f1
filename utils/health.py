"""Signs that training goes wrong: said early, and before anything is written over."""

import math

import numpy as np

from utils import log
from utils.errors import RunError

COLLAPSED, STEPS = 0.999, 50  # all similarities of a batch above it, so many steps on end
GIANT = 0.5  # share of the images in one cluster


def diverged(what: str) -> str:
    """The line about a run whose numbers went out of bounds."""
    return (f"{what}: training has diverged; nothing was written over the last checkpoint. Lower --lr and --rot_lr, or "
            "--alpha, or try --amp off, and go on from that checkpoint with --override, or start anew")


class Watch:
    """Looks at every step's loss and similarities."""

    def __init__(self) -> None:
        self._collapsed = 0

    def step(self, where: str, loss: float, lowest: float) -> None:
        """where: of the step, for the message. loss, and lowest, the least similarity of a batch: RunError unless both are
        finite. A loss that keeps only hard pairs may be finite where embeddings are not."""
        if not math.isfinite(loss):
            raise RunError(diverged(f"{where}: the loss is {loss}"))
        if not math.isfinite(lowest):
            raise RunError(diverged(f"{where}: the least similarity is {lowest}"))
        self._collapsed = self._collapsed + 1 if lowest > COLLAPSED else 0
        if self._collapsed == STEPS:
            log.warn(f"warning: {where}: all similarities have been above {COLLAPSED} for {STEPS} steps: the embedding has "
                     "collapsed and tells nothing apart; lower --lr, start from pretrained weights, or use more clusters")


def watch_clusters(labels: np.ndarray, k: int) -> None:
    """Warn when most images are in one of k clusters. labels: int64 (n,)."""
    share = np.bincount(labels, minlength=k).max() / len(labels)
    if k > 2 and share > GIANT:
        log.warn(f"warning: one cluster holds {share:.0%} of the images: the features hardly differ; lower --lr, start from "
                 "pretrained weights, or try --spherical True")
