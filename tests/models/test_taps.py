"""Which stages of a net are tapped, and their outputs."""

import pytest
import torch
from torch import nn

import models
from models.taps import middle_and_last, positions, prefix_tokens, stages, tapped

# net, width -> the stages that are tapped, with their positions and channels
TAPPED = {
    ("EfficientNet-Lite0", 128): {"blocks.4": (64, 112), "bn2": (16, 1280)},
    ("ResNet18", 64): {"6": (16, 256), "7": (4, 512)},  # these are layer3 and layer4
    ("ResNet18", 32): {"5": (16, 128), "6": (4, 256)},  # layer4 would have a single position
    ("BN-Inception", 128): {"inception_4d": (64, 608), "inception_5b": (16, 1024)},
    ("Inception", 128): {"inception_4e": (64, 832), "inception_5b": (16, 1024)},
    ("MobileNetV2", 128): {"13": (64, 96), "18": (16, 1280)},
    ("timm/convnext_atto", 64): {"stages.2": (16, 160), "stages": (4, 320)},
    ("timm/vit_tiny_patch16_224", 224): {"blocks.7": (196, 192), "blocks": (196, 192)},
    ("timm/swin_tiny_patch4_window7_224", 224): {"layers.2": (196, 384), "layers": (49, 768)},  # channels last
    ("timm/test_mambaout", 64): {"stages.2": (16, 48), "stages": (4, 64)},  # channels last
}


@pytest.mark.parametrize("name, width", TAPPED)
def test_the_stages_of_every_family(name, width):
    features = models.create(name, 16, False, width=width).features.eval()
    sizes = stages(features, torch.zeros(1, 3, width, width))
    tapped_here = middle_and_last(sizes)
    assert {stage: sizes[stage] for stage in tapped_here} == TAPPED[name, width]
    assert tapped_here == list(TAPPED[name, width])  # the order must be the same
    with torch.no_grad(), tapped(features, tapped_here) as maps:
        features(torch.randn(2, 3, width, width))
    for stage in tapped_here:
        assert positions(maps[stage], prefix_tokens(features)).shape == (2, *sizes[stage])


POOLED = {"EfficientNet-Lite0": torch.mean, "ResNet18": torch.mean, "Inception": torch.mean, "BN-Inception": torch.amax}


@pytest.mark.parametrize("name", POOLED)
def test_the_last_stage_is_what_is_pooled(name):
    """No later layer may have changed the stage's output in place."""
    features = models.create(name, 16, False, width=96).features.eval()
    last = middle_and_last(stages(features, torch.zeros(1, 3, 96, 96)))[-1]
    with torch.no_grad(), tapped(features, [last]) as maps:
        pooled = features(torch.randn(2, 3, 96, 96)).flatten(1)
    assert pooled.abs().max() > 1e-3
    torch.testing.assert_close(POOLED[name](positions(maps[last]), 1), pooled, rtol=1e-4, atol=1e-5)


def test_a_vits_class_token_is_no_position():
    features = models.create("timm/test_vit", 16, False, width=64).features.eval()
    assert prefix_tokens(features) == 1
    with torch.no_grad(), tapped(features, ["blocks"]) as maps:
        features(torch.randn(2, 3, 64, 64))
    assert maps["blocks"].shape == (2, 17, 64)
    assert torch.equal(positions(maps["blocks"], 1), maps["blocks"][:, 1:])


@pytest.mark.parametrize("channels, side", [(5, 3), (3, 5), (2, 1), (3, 3)])
def test_positions_of_maps(channels, side):
    x = torch.randn(2, channels, side, side)
    expected = torch.stack([x[:, :, y, z] for y in range(side) for z in range(side)], 1)
    assert torch.equal(positions(x), expected)
    assert torch.equal(positions(x.contiguous(memory_format=torch.channels_last)), expected)
    if channels != side:  # otherwise the axes cannot be told apart
        assert torch.equal(positions(x.permute(0, 2, 3, 1)), expected)


# The net in the recipe for a backbone in CONTRIBUTING.md.
TINY = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
)


def test_a_net_without_stages_has_none():
    assert stages(TINY, torch.zeros(1, 3, 32, 32)) == {} and middle_and_last({}) == []


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ({"a": (64, 8), "b": (16, 16), "c": (16, 16), "d": (4, 32), "e": (4, 32)}, ["c", "e"]),
        ({"a": (16, 8), "b": (1, 64)}, ["a"]),  # a single position has no useful second moment
        ({"a": (1, 8)}, []),
        ({"a": (16, 8)}, ["a"]),
        ({"a": (16, 8), "b": (16, 8)}, ["b"]),
        ({"patches": (15, 8), **{f"b{i}": (16, 8) for i in range(1, 13)}}, ["b8", "b12"]),  # like a ViT
        ({"a": (16, 8), "b": (16, 12)}, ["b"]),
        ({"a": (4, 8), "b": (16, 12)}, ["b"]),  # these maps grow
    ],
)
def test_the_middle_and_the_last(sizes, expected):
    assert middle_and_last(sizes) == expected


def test_nothing_stays_behind_in_the_net():
    features = models.create("ResNet18", 16, False).features.train()
    before = {key: value.clone() for key, value in features.state_dict().items()}
    stages(features, torch.zeros(1, 3, 32, 32))
    assert features.training
    assert all(torch.equal(before[key], value) for key, value in features.state_dict().items())  # BatchNorm's statistics too
    with pytest.raises(RuntimeError), tapped(features, ["6"]):
        features(torch.zeros(1, 4, 32, 32))
    assert not any(module._forward_hooks for module in features.modules())


def test_frozen_batch_norms_stay_frozen():
    model = models.create("ResNet18", 16, False, freeze_bn=True)
    stages(model.features, torch.zeros(1, 3, 32, 32))
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_a_stage_gives_a_row_for_each_image():
    class Patches(nn.Module):
        """Treats the four quarters of an image as images of their own, as TNT's inner blocks treat patches."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3)))

        def forward(self, images):
            quarters = images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            return self.inner(quarters).mean((2, 3)).unflatten(0, (-1, 4)).mean(1)

    assert stages(Patches(), torch.zeros(1, 3, 32, 32)) == {}
