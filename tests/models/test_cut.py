"""Backbones in two halves, below a stage and from it on; and large maps that are computed again."""

import copy

import pytest
import torch
from torch import nn

import models
from models.cut import below, train_from
from models.halves import around_middle, at_large_maps, halves
from utils.errors import InputError

# net, width -> a stage, the stage of `top`, and the first stage above the large maps
CUTS = {
    ("EfficientNet-Lite0", 128): ("blocks.4", "blocks.5", "blocks.2"),
    ("ResNet18", 128): ("6", "7.0", "5.0"),
    ("Inception", 128): ("inception_4b", "pool4", "conv2"),
    ("BN-Inception", 128): ("inception_4b", "inception_4e", "inception_3a"),
    ("MobileNetV2", 128): ("14", "14", "4"),
    ("timm/convnext_atto", 64): ("stages.2", "stages.3", "stages.1"),
    ("timm/swin_tiny_patch4_window7_224", 224): ("layers.2", "layers.3", "layers.1"),
    ("timm/vit_tiny_patch16_224", 224): ("blocks.8", "blocks.8", None),
}


def images_for(width, count=2):
    return torch.randn(count, 3, width, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name, width", CUTS)
def test_the_halves_are_the_net(name, width):
    net = models.create(name, 8, False, width=width, origin_width=width).features.eval()
    stage, top, above_large = CUTS[name, width]
    image = torch.zeros(1, 3, width, width)
    assert around_middle(net, image, above=True) == top
    assert (at_large_maps(net, image) is None) == (above_large is None)
    images = images_for(width)
    with torch.no_grad():
        expected = net(images)
        for name_of_stage in {stage, top, above_large} - {None}:
            lower, upper = halves(net, name_of_stage, image)
            assert torch.equal(upper(lower(images)), expected)
    if above_large:
        lower = {id(parameter) for parameter in halves(net, above_large, image).below.parameters()}
        assert lower == {id(parameter) for parameter in at_large_maps(net, image).below.parameters()}


def test_the_halves_share_the_nets_weights_and_no_weight_is_in_both():
    net = models.create("EfficientNet-Lite0", 8, False).features
    net, both = copy.deepcopy((net, halves(net, "blocks.4", images_for(64, 1))))  # as a method copies its teacher
    lower, upper = ({id(parameter) for parameter in half.parameters()} for half in both)
    assert lower | upper == {id(parameter) for parameter in net.parameters()} and not lower & upper


def test_a_stage_that_is_not_there_is_named_with_those_that_are():
    net = models.create("ResNet18", 8, False).features
    for stage in ("layer4", "0", ""):  # `0` is the first stage; nothing lies below it
        with pytest.raises(InputError, match=r"no stage above the first; this net has 1, 2, 3, 4\.0, .*7\.1"):
            halves(net, stage, images_for(64, 1))


class Skip(nn.Module):
    """A net whose second stage's input also goes to the third stage."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(3))

    def forward(self, images):
        x = self.a(images)
        return self.c(self.b(x) + x).mean((2, 3)) + images.mean((2, 3))


def test_a_net_with_a_tensor_that_bypasses_the_stage_is_refused():
    with pytest.raises(InputError, match="a tensor bypasses this stage"):
        halves(Skip(), "b", images_for(8, 1))


class Scaled(nn.Module):
    """A net whose stages all multiply by one row (W,), made from the width, from the image or from a weight."""

    def __init__(self, row):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) if name == "a" else self.Stage() for name in "abcd")
        self.row, self.weight = row, nn.Parameter(torch.tensor(0.7))

    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x, row):
            return self.conv(x * row)

    def forward(self, images):
        x = self.a(images)
        count, channels, height, width = x.shape
        row = torch.linspace(1, 2, width) if width > 4 else None  # tracing must know this condition
        if self.row == "image":
            row = row * images.mean((0, 1, 2))
        x = self.b(x, row=row)
        if self.row == "weight":
            row = row * self.weight
        x = self.d(self.c(x, row), row)
        return x.reshape(x.size(0), channels, height * x.size(dim=3)).mean(2)


def test_a_tensor_that_depends_on_sizes_alone_may_bypass_a_stage():
    net = Scaled("size").train()
    lower, upper = halves(net, "c", images_for(8, 1))
    for count in (1, 3):
        assert torch.equal(upper(lower(images_for(8, count))), net(images_for(8, count)))
    assert net.training and all(module.training for module in net.modules())
    for half in (lower, upper):
        (constant,) = set(dict(half.named_buffers()))
        assert torch.equal(half.get_buffer(constant), torch.linspace(1, 2, 8)) and constant not in half.state_dict()
        assert copy.deepcopy(half).to("meta").get_buffer(constant).is_meta


def test_a_tensor_that_depends_on_images_or_shared_weights_may_not():
    for stage in "bcd":
        with pytest.raises(InputError, match="a tensor bypasses this stage"):
            halves(Scaled("image"), stage, images_for(8, 1))
    net, images = Scaled("weight"), images_for(8)
    with pytest.raises(InputError, match="a tensor bypasses this stage"):
        halves(net, "d", images_for(8, 1))
    lower, upper = halves(net, "c", images_for(8, 1))  # the weight is only used above the cut
    assert torch.equal(upper(lower(images)), net(images))
    assert {id(net.weight)} < {id(parameter) for parameter in upper.parameters()}


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.b(self.a(images)) if images.mean() > 0 else self.a(images)


def test_a_net_whose_path_depends_on_the_image_is_refused():
    with pytest.raises(InputError, match="its forward cannot be traced"):
        halves(Branching(), "b", images_for(8, 1))
    assert at_large_maps(Branching(), torch.zeros(1, 3, 8, 8)) is None


def gradients(model, images):
    model.zero_grad()
    model.pool(images).square().mean().backward()
    return [parameter.grad for parameter in model.features.parameters()]


@pytest.mark.parametrize("name", ["EfficientNet-Lite0", "ResNet18", "Inception"])
def test_maps_that_are_made_twice_give_the_same_gradients_in_less_memory(name):
    model = models.create(name, 8, False, freeze_bn=True, width=128)
    images, weights = images_for(128, 3), {parameter.data_ptr() for parameter in model.parameters()}

    def kept():
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.pool(images)
        return sum(size for place, size in sizes.items() if place not in weights)

    before, expected = kept(), gradients(model, images)
    train_from(model, "all")
    assert kept() < (0.85 if name == "Inception" else 0.55) * before
    assert all(torch.equal(a, b) for a, b in zip(expected, gradients(model, images)))


def test_statistics_of_batches_are_not_taken_twice():
    model = models.create("ResNet18", 8, False, width=64)
    train_from(model, "all")
    assert model.cut is None


def test_what_lies_below_is_frozen_and_the_rest_learns():
    model = models.create("ResNet18", 8, False, width=64)
    train_from(model, "6")
    assert not any(module.training for module in model.features[1].modules())  # this is its BatchNorm
    assert all(module.training for module in model.features[6].modules())
    images = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        activations = below(model.eval(), images).half()
    model.train().pool(activations).sum().backward()
    learns = {name.split(".")[0] for name, parameter in model.features.named_parameters() if parameter.grad is not None}
    frozen = {name.split(".")[0] for name, parameter in model.features.named_parameters() if not parameter.requires_grad}
    assert learns == {"6", "7"} and frozen == {"0", "1", "4", "5"}
    with torch.no_grad():
        torch.testing.assert_close(model.eval().pool(activations), model.pool(images), rtol=2e-3, atol=2e-3)
