"""scripts/closed_form_rule.py: its scores against loops, its choice of a rule, and its tables, on invented numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import closed_form_rule
from closed_form_features import DIMS, Features
from closed_form_rule import Case, chosen_rule, print_tables
from closed_form_weights import FEWEST, NEIGHBOURS, TEMPERATURES, Net

from models.choice import LAST_WEIGHT, RULE, WEIGHTS, Rule, leading
from models.closed_form import ClosedForm
from utils.clustering.agreement import soft_agreement

IMAGES, FEATURES, LAYERS = 30, 6, {"middle": (4, 3), "last": (4, 2)}
NUMBERS = FEATURES + 6 + 3  # of a description


class Invented(Features):
    """Descriptions that are drawn instead of read."""

    meta = {"sample": IMAGES}
    test_labels = np.repeat(np.arange(10), 3)

    def __init__(self):
        rng = np.random.default_rng(0)
        centre, test = rng.normal(size=(2, IMAGES, NUMBERS))
        crops = centre + 0.5 * rng.normal(size=(3, IMAGES, NUMBERS))
        arrays = {"description": centre, "crops": crops.reshape(-1, NUMBERS), "test_description": test}
        self.arrays = {name: rows.astype(np.float32) for name, rows in arrays.items()}

    def array(self, name):
        return self.arrays[name]

    def form(self, dim):
        return ClosedForm(FEATURES, LAYERS, dim)


def nearest(rows, candidates):
    """Return for each row the other candidates, nearest first, by a loop."""
    orders = (np.argsort(-(candidates @ row), kind="stable").tolist() for row in rows)
    return [[j for j in order if j != i] for i, order in enumerate(orders)]


def test_the_scores_of_a_weight_are_those_of_loops():
    net = Net(Invented())
    row = net.row(1.5)[str(DIMS[0])]
    form = net.sight.forms((1.0, 1.5, LAST_WEIGHT), torch.float32)[DIMS[0]]
    centre, one, other, _ = (form.project(rows).numpy() for rows in net.sight.views)
    in_front, *crops_in_front = leading(form, net.sight.views, 4)
    assert row["1/4"] == pytest.approx(soft_agreement(in_front, crops_in_front))
    assert len({row[f"{temperature:g}/{fewest}"] for temperature in TEMPERATURES for fewest in FEWEST}) == 15

    test = net.embedded(form)
    right = [
        net.features.test_labels[order[0]] == label for order, label in zip(nearest(test, test), net.features.test_labels)
    ]
    assert row["R@1"] == pytest.approx(np.mean(right)) and 0 < row["R@1"] < 1

    near = [[set(order[:NEIGHBOURS]) for order in nearest(rows, centre)] for rows in (one, other)]
    assert row["overlap of the 10 nearest of two crops"] == pytest.approx(
        np.mean([len(a & b) / NEIGHBOURS for a, b in zip(*near)])
    )
    off = [(i, j) for i in range(IMAGES) for j in range(IMAGES) if i != j]
    values = [[rows[i] @ centre[j] for i, j in off] for rows in (one, other)]
    assert row["correlation of the similarities of two crops"] == pytest.approx(np.corrcoef(*values)[0, 1], abs=1e-5)

    named = [order[0] for order in nearest(centre, centre)]
    shares = []
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
        alone = net.sight.forms(weights, torch.float32)[DIMS[0]].project(net.sight.views[0]).numpy()
        shares.append(np.mean([order[0] == name for order, name in zip(nearest(alone, alone), named)]))
    assert row["consensus of first and second order"] == pytest.approx(np.sqrt(np.prod(shares)), abs=1e-6)


def test_all_weights_together_sum_their_similarities():
    net = Net(Invented())
    test = [net.embedded(net.forms(weight)[DIMS[0]]) for weight in WEIGHTS]
    similar = sum(rows @ rows.T for rows in test)
    np.fill_diagonal(similar, -np.inf)
    right = net.features.test_labels[similar.argmax(1)] == net.features.test_labels
    assert net.together()[str(DIMS[0])] == pytest.approx(right.mean())


def invented_case(name, study, peaks, trained=False):
    """Return a case whose Recall@1 is best at weight 2, and whose agreement peaks at the place peaks(temperature)."""
    recall = [1 - 0.01 * abs(place - WEIGHTS.index(2)) for place in range(len(WEIGHTS))]
    agreement = {
        (temperature, fewest): [1 - 0.1 * abs(place - peaks(temperature)) for place in range(len(WEIGHTS))]
        for temperature in TEMPERATURES
        for fewest in FEWEST
    }
    if trained:
        other = {closed_form_rule.OWN: agreement[0.6, 4], closed_form_rule.BEFORE: agreement[1.6, 4]}
        return Case(name, study, "Lite0, ours", 512, recall, agreement, other, None)
    return Case(name, study, "Lite0", 512, recall, agreement, dict.fromkeys(closed_form_rule.OTHER, recall), 0.97)


def test_the_rule_that_loses_least_is_chosen():
    right_at = lambda best: lambda temperature: WEIGHTS.index(2) - (0 if temperature == best else 2)
    case = invented_case("a", "study_held_out", right_at(1.25))
    assert case.lost(RULE) == pytest.approx(2) and case.lost(Rule(temperature=1.25)) == 0
    assert chosen_rule([case]) == Rule(1.25, 0.01, 4)  # of equal rules the middle of the grid
    assert chosen_rule([case, invented_case("b", "study_held_out", right_at(0.6))]).temperature in (0.6, 1.25)


def test_the_tables_hold_out_each_set(capsys):
    best, two_below = (lambda temperature, below=below: WEIGHTS.index(2) - below for below in (0, 2))
    only_hot = lambda temperature: WEIGHTS.index(2) - (0 if temperature == 1.6 else 1)
    cases = [invented_case(name, "study_held_out", best) for name in ("a", "b")]
    cases += [invented_case("c", "study_held_out", only_hot), *(invented_case(name, "study", two_below) for name in "abc")]
    print_tables(cases)
    lines = capsys.readouterr().out.splitlines()
    assert "| a | 1.6 | 1 % | 4 | 2.00 / 2.00 | 2.00 / 2.00 |" in lines  # c's held-out classes decide
    assert "| c | 1 | 1 % | 4 | 2.00 / 2.00 | 2.00 / 2.00 |" in lines  # c decides nothing about itself
    assert "| temperature | 1 | in use | 0.33 / 1.00 | 2.00 / 2.00 |" in lines
    assert "| no choice: similarities summed over all weights | 3.00 / 3.00 | 3.00 / 3.00 |" in lines
    assert "| first neighbours of two crops | 0.00 / 0.00 | 0.00 / 0.00 |" in lines
    assert "| both, the rule in use |  |  |" in lines  # no net was trained
    row = next(line for line in lines if line.startswith("| b | Lite0 | 512 |"))
    assert row.endswith("| 1 | 2.00 |") and "| 100.00 |" in row


def test_what_each_agreement_alone_loses_for_a_trained_net(capsys):
    places = {0.6: 2, 1.6: 1}  # places below the best weight
    peaks = lambda temperature: WEIGHTS.index(2) - places.get(temperature, 0)
    cases = [invented_case(name, study, peaks, trained=True) for name in "abc" for study in ("study_held_out", "study")]
    print_tables([*cases, invented_case("a", "study_held_out", peaks), invented_case("a", "study", peaks)])
    lines = capsys.readouterr().out.splitlines()
    assert f"| {closed_form_rule.OWN} | 2.00 / 2.00 | 2.00 / 2.00 |" in lines
    assert f"| {closed_form_rule.BEFORE} | 1.00 / 1.00 | 1.00 / 1.00 |" in lines
    assert "| both, the rule in use | 0.00 / 0.00 | 0.00 / 0.00 |" in lines


def test_a_trained_net_is_judged_with_the_net_before_training():
    def found(own):
        keys = {f"{temperature:g}/{fewest}": own for temperature in TEMPERATURES for fewest in FEWEST}
        row = {str(dim): {"R@1": 0.5, **keys, **dict.fromkeys(closed_form_rule.OTHER, own)} for dim in DIMS}
        return {"weights": {"0": row, "1": row}, "together": {"all weights": {str(dim): 0.6 for dim in DIMS}}}

    frozen, _ = closed_form_rule.cases_of("a", "study", "Lite0", found(0.4))
    trained, _ = closed_form_rule.cases_of("a", "study", "Lite0, ours", found(0.9), found(0.4))
    assert all(values == pytest.approx([0.4, 0.4]) for values in frozen.agreement.values()) and frozen.together == 0.6
    assert all(values == pytest.approx([0.6, 0.6]) for values in trained.agreement.values()) and trained.together is None
    assert trained.other == {closed_form_rule.OWN: [0.9, 0.9], closed_form_rule.BEFORE: [0.4, 0.4]}


def test_fewer_than_three_sets_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["closed_form_rule.py", "demo", f"a={tmp_path}", "--root", str(tmp_path)])
    with pytest.raises(closed_form_rule.InputError, match="at least three sets"):
        closed_form_rule.main()
