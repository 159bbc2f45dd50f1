"""Losses by name: the known names, the refused names, and the settings that each loss gets."""

import math

import pytest
import torch
from slow_losses import weight
from torch.nn.functional import normalize

import losses
from utils.errors import InputError


def test_names():
    assert losses.names() == [
        "Weight",
        "Binomial",
        "Contrastive",
        "HardMining",
        "LiftedStructure",
        "Margin",
        "NCA",
        "ProxyAnchor",
        "SemiHard",
        "Triplet",
    ]


def test_losses_of_classes_are_those_with_parameters():
    learned = [name for name in losses.names() if any(True for _ in losses.create(name, num_classes=3).parameters())]
    assert tuple(learned) == losses.OF_CLASSES


@pytest.mark.parametrize("name", ["", "weight", "Softmax"])
def test_unknown_loss_names_the_known(name):
    with pytest.raises(InputError, match=f"^{name}: unknown; known losses: Weight, .*Triplet") as caught:
        losses.create(name)
    assert caught.value.setting == "loss"


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("setting", ["alpha", "beta", "base", "margin"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_settings_that_are_no_numbers(name, setting, value):
    with pytest.raises(InputError, match=f"^{name}: its {setting} is {value}") as caught:
        losses.create(name, **{setting: value})
    assert caught.value.setting == "loss"


def test_settings_are_keywords():
    with pytest.raises(TypeError):
        losses.create("Weight", 512)


def batch():
    generator = torch.Generator().manual_seed(0)
    return normalize(torch.randn(8, 4, generator=generator)), [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("setting, value", [("alpha", 10.0), ("beta", 5.0), ("base", 0.2), ("margin", -0.3)])
def test_settings_reach_weight_and_no_other(setting, value):
    x, labels = batch()
    for name in losses.names():
        found = []
        for settings in ({}, {setting: value}):
            torch.manual_seed(0)
            found.append(losses.create(name, dim=4, num_classes=4, **settings)(x, torch.tensor(labels)).item())
        if name == "Weight":
            assert found == pytest.approx([weight(x, labels).item(), weight(x, labels, **{setting: value}).item()], abs=1e-6)
            assert abs(found[0] - found[1]) > 1e-4
        else:
            assert found[0] == found[1]
