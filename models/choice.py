"""Chooses the weights of a closed form without labels.

The weight of the second order is chosen by soft agreement: how alike the neighbours of two random crops of an image are
(`utils/clustering/agreement.py`). Training makes the crops of an image alike, and so favours weights that training cannot
judge. For a trained net, the agreement of the net before training therefore counts as much as its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.closed_form import ClosedForm, Covariance, projection
from utils.clustering.agreement import soft_agreement

WEIGHTS = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)  # weights to try for the middle stage's second order; the first order has 1
LAST_WEIGHT = 0.5  # weight of the last stage's second order


class Rule(NamedTuple):
    """The constants of the choice. `scripts/closed_form_rule.py` shows what other values would choose."""

    temperature: float = 1.0  # of soft neighbours, in standard deviations of the similarities
    tie: float = 0.01  # agreements within this share of the best are alike: the largest of their weights is taken
    fewest: int = 4  # sampled images for each direction in which agreement is measured; with fewer, noise decides


RULE = Rule()


class Choice(NamedTuple):
    """Weights of the parts, and the soft agreement of the embeddings under them.

    agreement: of a trained net, the geometric mean of two soft agreements: its own, and the one before training.
    """

    weights: tuple[float, ...]
    agreement: float

    @property
    def weight(self) -> float:  # of the middle stage's second order
        return self.weights[1] if len(self.weights) > 1 else 0.0


def choose(
    form: ClosedForm,
    covariance: Covariance,
    views: Sequence[Tensor],
    weights: Sequence[float] = WEIGHTS,
    before: Mapping[float, float] | None = None,
) -> list[Choice]:
    """Set the form to the best weights. Returns all choices tried.

    covariance: of the descriptions. views: descriptions of the sample (n, P): first of the central crops, then of each set
    of random crops. weights: candidates for the weight of the middle stage's second order. before: the agreement for each
    weight of the net before training; None or empty if it is not known.
    """
    choices: list[Choice] = []
    for tried, (centre, *crops) in candidates(form, covariance, views, weights):
        choice = Choice(tried, soft_agreement(centre, crops, RULE.temperature))
        if before and before.keys() >= set(weights):
            choice = choice._replace(agreement=(choice.agreement * before[choice.weight]) ** 0.5)
        choices.append(choice)
    _solve(form, covariance, choices[best([choice.agreement for choice in choices])].weights, torch.float64)
    return choices


def candidates(
    form: ClosedForm, covariance: Covariance, views: Sequence[Tensor], weights: Sequence[float] = WEIGHTS
) -> Iterator[tuple[tuple[float, ...], list[Tensor]]]:
    """Set the form to each candidate in turn. Yield the weights of its parts, and the views as `leading` returns them.

    covariance, views, weights: as in `choose`.
    """
    form.mean.copy_(covariance.mean)
    parts = len(form.sizes)
    for weight in weights if parts > 1 else (0.0,):
        tried = (1.0, weight, LAST_WEIGHT)[:parts]
        _solve(form, covariance, tried, torch.float32)
        yield tried, leading(form, views)


def _solve(form: ClosedForm, covariance: Covariance, weights: Sequence[float], dtype: torch.dtype) -> None:
    form.weights.copy_(torch.tensor(weights))
    scales = form.scales(torch.tensor(weights, dtype=dtype))
    form.projection.copy_(projection(covariance, scales, form.dim))


def leading(form: ClosedForm, views: Sequence[Tensor], fewest: int = RULE.fewest) -> list[Tensor]:
    """Return the views (n, P) in a closed form's leading directions, one for every `fewest` images, of length one."""
    most = max(1, min(form.dim, len(views[0]) // fewest))
    return [F.normalize(form.project(rows.to(form.mean.device))[:, :most], dim=1) for rows in views]


def best(agreements: Sequence[float], tie: float = RULE.tie) -> int:
    """Return the index of the largest weight whose agreement is within `tie` of the best. agreements: by rising weight."""
    return max(place for place, agreement in enumerate(agreements) if agreement >= (1 - tie) * max(agreements))
