"""Fits and scores closed forms and AE-SVC on a data set: the rows of scripts/closed_form_table.py."""

import json
import sys
import time
from functools import cache, partial

import ae_svc
import numpy as np
import torch
from closed_form_features import DIMS

from evaluations.retrieval import columns, score
from models.choice import LAST_WEIGHT, RULE, WEIGHTS, best, leading
from models.closed_form import Moments, projection
from utils.arrays import evenly
from utils.clustering.agreement import neighbour_agreement, soft_agreement
from utils.files import write_json

SCORES = ("soft agreement", "first neighbours")  # the first chooses the closed form's weight; the second did before
SHARES = (0.3, 0.1, 0.03)  # shares of the training images


class Sight:
    """The input of a closed form's fit: descriptions of centre crops, (n, P), and of each pass over a sample's crops."""

    def __init__(self, features, share=1.0):
        """share: of the images. A share below 1 is evenly spaced, and comes from the sample."""
        began = time.process_time()
        centre, sample = torch.from_numpy(features.array("description")), features.meta["sample"]
        crops = torch.from_numpy(features.array("crops")).unflatten(0, (-1, sample))
        sampled = torch.from_numpy(evenly(len(centre), sample))  # as the Fitter does
        if share < 1:
            count = min(sample, round(share * len(centre)))
            chosen = torch.from_numpy(evenly(sample, count))
            centre, crops, sampled = centre[sampled[chosen]], crops[:, chosen], torch.arange(count)
        self.features, self.images, self.views = features, len(centre), [centre[sampled], *crops]
        moments = Moments(centre.shape[1])
        for rows in (centre, *crops):
            moments.add(rows)
        self.covariance = moments.total()
        self.seconds = time.process_time() - began

    def forms(self, weights, dtype):
        """Return {dim: closed form} with these weights of the parts."""
        blank = self.features.form(1)
        whole = projection(self.covariance, blank.scales(torch.tensor(weights, dtype=dtype)), max(DIMS))
        forms = {dim: self.features.form(dim) for dim in DIMS}
        for dim, form in forms.items():
            form.mean.copy_(self.covariance.mean)
            form.projection.copy_(whole[:, :dim])  # the leading directions are the same for every dim
        return forms

    def agreement(self, form):
        """Return the SCORES of the sample's images; the first is measured as the Fitter does."""
        centre, *crops = (form.project(rows) for rows in self.views)
        in_front, *in_front_crops = leading(form, self.views)
        soft = soft_agreement(in_front, in_front_crops, RULE.temperature)
        return dict(zip(SCORES, (soft, neighbour_agreement(centre, crops))))

    def choose(self, dim):
        """Return the weights that the Fitter takes, and their agreement."""
        agreements = {}
        for middle in WEIGHTS:
            weights = (1.0, middle, LAST_WEIGHT)
            agreements[weights] = self.agreement(self.forms(weights, torch.float32)[dim])["soft agreement"]
        chosen = list(agreements)[best(list(agreements.values()))]
        return chosen, agreements[chosen]


class Results:
    """Rows of the table by section and name, kept in a JSON file."""

    def __init__(self, path, **about):
        self.path, self.found = path, json.loads(path.read_text()) if path.exists() else about

    def row(self, section, name, compute):
        """Return the row of that name. A missing row is computed, and written at once."""
        rows = self.found.setdefault(section, {})
        if name not in rows:
            began = time.time()
            rows[name] = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.found)
            print(f"{self.path.stem}: {section}, {name}: {time.time() - began:.0f} s", file=sys.stderr, flush=True)
        return rows[name]


def scored(features, labels, metrics=("recall", "map_at_r", "nmi")):
    """Return {heading: share}."""
    return columns(score([np.ascontiguousarray(features)], [labels], (1, 8), metrics))


class Study:
    """Makes the rows of one set, net and width, except for AE-SVC and for other sets."""

    def __init__(self, features, results):
        self.features, self.results, self.sight = features, results, cache(partial(Sight, features))

    def run(self):
        self.row("frozen, pooled", "all", self.baseline)
        for middle in WEIGHTS:
            self.results.row("weights", f"{middle:g}", lambda: self.grid((1, middle, LAST_WEIGHT)))
        grid = list(self.results.found["weights"].values())
        for dim in DIMS:
            chosen = grid[best([entry[str(dim)]["soft agreement"] for entry in grid])]
            tried = [entry["seconds"] for entry in grid]
            self.row("first order only", dim, lambda: self.closed((1, 0, 0), dim))
            self.row("closed form, weights 1, 1, 0.5", dim, lambda: self.closed((1, 1, 0.5), dim))
            self.row("closed form, weight by agreement", dim, lambda: self.closed(tuple(chosen["weights"]), dim, tried))
        for share in SHARES:
            self.results.row("shares", f"{share:g}", lambda: self.shared(share))

    def row(self, method, dim, compute):
        return self.results.row("methods", f"{method}, {dim}", lambda: {"method": method, **compute()})

    def test(self, form):
        return form.project(torch.from_numpy(self.features.array("test_description"))).numpy()

    def baseline(self):
        pooled = self.features.array("test_pooled")
        return {"dim": pooled.shape[1], **scored(pooled, self.features.test_labels), "seconds": 0}

    def grid(self, weights):
        """Return the SCORES and R@1 of the closed forms with these weights, by dim."""
        began = time.process_time()
        forms = self.sight().forms(weights, torch.float32)
        agreement = {dim: self.sight().agreement(form) for dim, form in forms.items()}
        seconds = time.process_time() - began
        labels = self.features.test_labels
        recall = {dim: scored(self.test(form), labels, ("recall",))["R@1"] for dim, form in forms.items()}
        return {"weights": weights, "seconds": seconds} | {str(dim): {**agreement[dim], "R@1": recall[dim]} for dim in DIMS}

    def closed(self, weights, dim, tried=(), sight=None):
        """Return the row of a closed form with these weights. tried: seconds that choosing them took."""
        sight = sight or self.sight()
        began = time.process_time()
        form = sight.forms(weights, torch.float64)[dim]
        seconds = time.process_time() - began + sight.seconds + sum(tried) + self.features.meta["seconds"]["all"]
        return {"dim": dim, **scored(self.test(form), self.features.test_labels), "seconds": seconds, "weights": weights}

    def shared(self, share):
        """Return the row of a closed form whose fit and weights come from a share of the training images."""
        sight = self.sight(share)
        weights, agreement = sight.choose(DIMS[0])
        row = self.closed(weights, DIMS[0], sight=sight)
        del row["seconds"]  # they include passes over all images
        return {"images": sight.images, "agreement": agreement, **row}


def study_ae_svc(features, results):
    """Make the rows of AE-SVC. A set without labels has none, because the search needs labels."""
    if features.train_labels is None:
        return

    def learned(settings, dim):
        began = time.process_time()
        encoder = ae_svc.train(features.array("pooled"), dim, settings)
        seconds = time.process_time() - began + features.meta["seconds"]["centre"]
        scores = scored(ae_svc.encode(encoder, features.array("test_pooled")), features.test_labels)
        return {"dim": dim, **scores, "seconds": seconds, "settings": str(settings)}

    def searched():
        began = time.process_time()
        best, tried = ae_svc.search(features.array("pooled"), features.train_labels, DIMS[0])
        return {"best": best._asdict(), "R@1 on held-out training classes": tried, "seconds": time.process_time() - began}

    best = results.row("search", str(DIMS[0]), searched)["best"]
    for dim in DIMS:
        for name, settings in (("not searched", ae_svc.Settings()), ("searched", ae_svc.Settings(**best))):
            method = f"AE-SVC, {name}"
            results.row("methods", f"{method}, {dim}", lambda: {"method": method, **learned(settings, dim)})


def across(features, other, results):
    """Test the closed form of one set on another set."""
    for dim in DIMS:
        weights = results.found["methods"][f"closed form, weight by agreement, {dim}"]["weights"]

        def compute():
            form = Sight(features).forms(weights, torch.float64)[dim]
            embedded = form.project(torch.from_numpy(features.describe_test(other))).numpy()
            return {"dim": dim, "weights": weights, **scored(embedded, other.test_labels)}

        results.row("cross", f"{other.set}, {dim}", compute)
