"""How far crops are enlarged when the frozen net embeds all images."""

import pytest
import torch
from torch import nn

import models
from models.enlarge import best_width, judging_width
from small_nets import FEATURES, WIDTH, embedder_of

SIZES = [(64, 96), (128, 192), (160, 224), (227, 227)]  # 1.5 times the width, but at most 224; a larger width stays as it is


@pytest.mark.parametrize("width, expected", SIZES)
def test_crops_are_enlarged_by_half_up_to_224(width, expected):
    net = models.create("EfficientNet-Lite0", 8, False, width=width, origin_width=256)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert best_width(net) == expected
    assert judging_width(net) == max(224, round(1.5 * width))
    assert net.training and all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_net_for_one_size_is_shown_no_other():
    net = embedder_of([nn.Flatten(), nn.Linear(3 * WIDTH**2, FEATURES), nn.Unflatten(1, (FEATURES, 1, 1))])
    assert best_width(net) == judging_width(net) == WIDTH and net.training


def test_a_net_with_patches_is_shown_what_they_fill():
    class Patches(nn.Conv2d):
        def forward(self, images):
            assert images.shape[2] % 5 == 0
            return super().forward(images)

    net = embedder_of([Patches(3, FEATURES, 5, 5)])
    assert best_width(net) == WIDTH * 3 // 2 // 5 * 5 == 20
