"""Choose how far crops are enlarged when the frozen net embeds all images, so that it sees more in them."""

import torch

from models.embedder import Embedder
from models.taps import evaluating

ENLARGED = 1.5  # largest factor for the width; on held-out classes 1.75 was hardly better and cost more
LEARNED = 224  # side, in pixels, of the images that most nets learned from


def best_width(embedder: Embedder) -> int:
    """Return the best width for enlarged crops: the largest that the net takes, up to ENLARGED times theirs and LEARNED.

    Crops of LEARNED pixels or more are not enlarged. Objects look smaller in central crops than in the random crops that
    nets learn from (Touvron et al. 2019, arXiv 1906.06423), and smaller still in crops of few pixels. ENLARGED limits the
    width, because the cost grows by its square.
    """
    return largest_width(embedder, min(round(ENLARGED * embedder.transforms.width), LEARNED))


def judging_width(embedder: Embedder) -> int:
    """Return the width at which the net before training judges others: the largest that it takes, up to ENLARGED times its
    own, or to LEARNED if that is more."""
    return largest_width(embedder, max(round(ENLARGED * embedder.transforms.width), LEARNED))


def largest_width(embedder: Embedder, most: int) -> int:
    """Return the largest width of images that the net takes, up to `most`; its own if it takes none above."""
    width, blank = embedder.transforms.width, embedder.classifier.linear.weight.new_zeros(1, 3, 1, 1)
    with evaluating(embedder), torch.no_grad():
        for wider in range(most, width, -1):
            try:
                embedder.features(blank.expand(1, 3, wider, wider).clone())
                return wider
            except (AssertionError, RuntimeError, ValueError):  # for example, a transformer's patches do not fit
                continue
    return width
