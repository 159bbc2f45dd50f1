"""Metric losses by name. A new loss is one file here and one line in `LOSSES`.

A loss is a module called with embeddings float32 (N, dim), L2-normalised, and labels int64 (N,); it returns a
`weight.PairLoss`. Nothing here knows about data or files.
"""

import math

from losses.weight import WeightLoss
from utils.errors import InputError

LOSSES = {
    "Weight": WeightLoss,
}


def create(name, **settings):
    """The loss called `name`; `settings` are its keyword arguments (alpha, beta, base, margin)."""
    if name not in LOSSES:
        raise InputError(f"--loss {name}: unknown; known losses: {', '.join(LOSSES)}")
    for setting, value in settings.items():
        if not math.isfinite(value):
            raise InputError(f"--loss {name}: its {setting} is {value}; give a finite number")
    return LOSSES[name](**settings)
