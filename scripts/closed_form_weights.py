"""Recall@1 and scores without labels of a net for each weight of the second order, for scripts/closed_form_rule.py."""

from functools import cached_property

import numpy as np
import torch
from closed_form_features import DIMS, Features
from closed_form_fits import Sight, scored

from evaluations.label_free import overlap
from models.choice import LAST_WEIGHT, WEIGHTS, leading
from utils.clustering.agreement import nearest_other, nearest_others, neighbour_agreement, soft_agreement

TEMPERATURES, FEWEST = (0.6, 0.8, 1.0, 1.25, 1.6), (2, 4, 8)  # for soft agreement
NEIGHBOURS = 10  # nearest images whose lists are compared


class Net:
    """A net on a set: its features, and closed forms at each weight."""

    def __init__(self, features: Features) -> None:
        self.features = features

    @cached_property
    def sight(self) -> Sight:
        return Sight(self.features)

    @cached_property
    def orders(self) -> list[torch.Tensor]:
        """The nearest other image of each central crop, by the first order alone and by the middle's second order alone."""
        forms = [self.sight.forms(weights, torch.float32)[DIMS[0]] for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))]
        centres = [form.project(self.sight.views[0]) for form in forms]
        return [nearest_other(rows, rows) for rows in centres]

    def forms(self, weight: float) -> dict:
        return self.sight.forms((1.0, float(weight), LAST_WEIGHT), torch.float32)

    def embedded(self, form):
        return form.project(torch.from_numpy(self.features.array("test_description"))).numpy()

    def recall(self, rows) -> float:
        return scored(rows, self.features.test_labels, ("recall",))["R@1"]

    def row(self, weight: float) -> dict[str, dict[str, float]]:
        """Return {dim: {"R@1": share, "TEMPERATURE/FEWEST": soft agreement, OTHER: score}} at a weight."""
        row = {}
        for dim, form in self.forms(weight).items():
            row[str(dim)] = {"R@1": self.recall(self.embedded(form)), **agreements(form, self.sight.views)}
            centre, *crops = map(form.project, self.sight.views)
            row[str(dim)] |= {name: score(self, centre, crops) for name, score in OTHER.items()}
        return row

    def together(self) -> dict[str, float]:
        """Return {dim: Recall@1 of the sum of similarities over all weights}."""
        forms = [self.forms(weight) for weight in WEIGHTS]
        rows = {dim: np.concatenate([self.embedded(each[dim]) for each in forms], axis=1) for dim in DIMS}
        return {
            str(dim): self.recall(joined / np.linalg.norm(joined, axis=1, keepdims=True)) for dim, joined in rows.items()
        }


def agreements(form, views) -> dict[str, float]:
    """Return the soft agreement of a closed form for each temperature and each number of images a direction."""
    values = {}
    for fewest in FEWEST:
        centre, *crops = leading(form, views, fewest)
        for temperature in TEMPERATURES:
            values[f"{temperature:g}/{fewest}"] = soft_agreement(centre, crops, temperature)
    return values


# ---- other scores: functions of a Net, its embedded central crops, and its embedded random crops ------------------------


def first_neighbours(net, centre, crops):
    """Share of images whose nearest other image is the same for two crops: the choice until November 2026."""
    return neighbour_agreement(centre, crops)


def consensus(net, centre, crops):
    """Geometric mean of two shares of images: whose nearest neighbour the first order, or the second, also finds."""
    nearest = nearest_other(centre, centre)
    first, second = ((nearest == names).float().mean() for names in net.orders)
    return float((first * second).sqrt())


def neighbours_in_common(net, centre, crops):
    """Share of the NEIGHBOURS nearest that two crops have in common."""
    return overlap(*(nearest_others(rows, centre, NEIGHBOURS).numpy() for rows in crops[:2]))


def correlation(net, centre, crops):
    """Correlation of the similarities that two crops have to the other images."""
    others = ~torch.eye(len(centre), dtype=torch.bool)
    return float(torch.corrcoef(torch.stack([(rows @ centre.T)[others] for rows in crops[:2]]))[0, 1])


OTHER = {
    "first neighbours of two crops": first_neighbours,
    f"overlap of the {NEIGHBOURS} nearest of two crops": neighbours_in_common,
    "correlation of the similarities of two crops": correlation,
    "consensus of first and second order": consensus,
}
