"""Seeds the random numbers of a step."""

import random

import numpy as np
import torch


def seed_step(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Seed Python's, NumPy's and torch's global generators for one step of one process.

    The draws of a net or a loss (dropout, say) then depend on (seed, epoch, step, rank) alone. The sampler and the crops
    have such seeds as well. So a run can go on from any position, without the state of any generator.
    """
    words = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
