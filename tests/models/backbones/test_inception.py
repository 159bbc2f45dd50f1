"""GoogLeNet against a slow, flat computation that reads the Caffe-converted keys directly."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import models
from models.backbones.inception import BLOCKS, LRN
from utils.errors import InputError


@pytest.fixture(scope="module")
def caffe():
    """What inception.pth holds: 114 float32 arrays under Caffe's names."""
    rng = np.random.default_rng(0)
    arrays = {}

    def conv(name, channels, out, kernel):
        scale = (2 / (channels * kernel**2)) ** 0.5
        arrays[f"{name}.weight"] = rng.normal(0, scale, (out, channels, kernel, kernel)).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.1, out).astype(np.float32)

    conv("conv1.7x7_s2", 3, 64, 7)
    conv("conv2.3x3_reduce", 64, 64, 1)
    conv("conv2.3x3", 64, 192, 3)
    for block, (channels, one, reduce3, three, reduce5, five, projection) in BLOCKS.items():
        conv(f"inception_{block}.1x1", channels, one, 1)
        conv(f"inception_{block}.3x3_reduce", channels, reduce3, 1)
        conv(f"inception_{block}.3x3", reduce3, three, 3)
        conv(f"inception_{block}.5x5_reduce", channels, reduce5, 1)
        conv(f"inception_{block}.5x5", reduce5, five, 5)
        conv(f"inception_{block}.pool_proj", channels, projection, 1)
    return arrays


def slow_googlenet(arrays, x):
    """Pooled features as figure 3 of the paper has them, with torch's own LRN and the original's 7x7 average."""
    lrn = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)

    def conv(name, x, stride=1):
        weight, bias = (torch.from_numpy(arrays[f"{name}.{part}"]) for part in ("weight", "bias"))
        return F.relu(F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2))

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    x = lrn(pool(conv("conv1.7x7_s2", x, 2)))
    x = pool(lrn(conv("conv2.3x3", conv("conv2.3x3_reduce", x))))
    for block in ("3a", "3b", "pool", "4a", "4b", "4c", "4d", "4e", "pool", "5a", "5b"):
        if block == "pool":
            x = pool(x)
            continue
        b = f"inception_{block}"
        one = conv(f"{b}.1x1", x)
        three = conv(f"{b}.3x3", conv(f"{b}.3x3_reduce", x))
        five = conv(f"{b}.5x5", conv(f"{b}.5x5_reduce", x))
        x = torch.cat([one, three, five, conv(f"{b}.pool_proj", F.max_pool2d(x, 3, 1, 1))], 1)
    return F.avg_pool2d(x, 7, 1, ceil_mode=True).flatten(1)


@pytest.mark.parametrize("size", [224, 227])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_same_features_as_the_slow_computation(caffe, tmp_path, size, layout):
    torch.save(caffe, tmp_path / "inception.pth")
    ours = models.create("Inception", weights=tmp_path / "inception.pth").eval()
    images = 50 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = slow_googlenet(caffe, images)
    assert expected.std() > 1e-2
    pooled = ours.pool(images.contiguous(memory_format=layout))
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_widths_are_those_of_torchvisions_googlenet():
    """torchvision's has BatchNorm in place of biases, and 3x3 where the paper has 5x5; its widths are the paper's."""
    peer = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    features = models.create("Inception", pretrained=False).features
    ours, theirs = ([m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (features, peer))
    assert [conv.weight.shape[:2] for conv in ours] == [conv.weight.shape[:2] for conv in theirs]
    assert len(features.state_dict()) == 114
    assert all(conv.bias is not None for conv in ours)
    for name, conv in features.named_modules():
        if isinstance(conv, nn.Conv2d):
            kernel = 1 if "reduce" in name or "proj" in name else int(name.rsplit(".", 1)[-1][0])
            assert conv.kernel_size == (kernel, kernel)


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_file_of_arrays_or_tensors_in_either_format(caffe, tmp_path, tensors, zipped):
    held = {k: torch.from_numpy(v) if tensors else v for k, v in caffe.items()}
    torch.save(held, tmp_path / "inception.pth", _use_new_zipfile_serialization=zipped)
    ours = models.create("Inception", weights=tmp_path / "inception.pth").features
    np.testing.assert_array_equal(ours.inception_3a.b[0].weight.detach(), caffe["inception_3a.3x3_reduce.weight"])
    np.testing.assert_array_equal(ours.inception_5b.d[1].bias.detach(), caffe["inception_5b.pool_proj.bias"])


def test_missing_layer_is_named(caffe, tmp_path):
    torch.save({k: v for k, v in caffe.items() if k != "inception_4d.5x5.bias"}, tmp_path / "inception.pth")
    with pytest.raises(InputError, match=r"missing: inception_4d\.c\.5x5\.bias"):
        models.create("Inception", weights=tmp_path / "inception.pth")


@torch.no_grad()
def test_original_checkpoint_loads(caffe):
    """Keys as the original's train.py writes them, rotation head and unused BatchNorm included."""
    branch = {"1": "a", "3": "b", "5": "c", "p": "d"}
    old = {}
    for key, value in caffe.items():
        block, layer = key.split(".", 1)
        block = f"{block}.{branch[layer[0]]}" if block.startswith("inception") else block
        old[f"features.{block}.{layer}"] = torch.from_numpy(value)
    assert "features.conv1.7x7_s2.weight" in old and "features.inception_3a.b.3x3_reduce.weight" in old
    old |= {"classifier.linear.weight": torch.randn(512, 1024), "classifier.linear.bias": torch.zeros(512)}
    old |= {"classifier.bn.weight": torch.ones(1024), "classifier.bn.num_batches_tracked": torch.tensor(0)}
    old |= {"classifier_rot.0.weight": torch.randn(512, 1024), "classifier_rot.0.bias": torch.zeros(512)}
    old |= {"classifier_rot.2.weight": torch.randn(4, 512), "classifier_rot.2.bias": torch.zeros(4)}
    model = models.create("Inception", pretrained=False)
    assert models.load_state(model, old) == ["classifier.bn.weight", "classifier.bn.num_batches_tracked"]
    assert torch.equal(model.classifier_rot[2].weight, old["classifier_rot.2.weight"])
    images = torch.randn(1, 3, 224, 224)
    expected = slow_googlenet(caffe, images)
    torch.testing.assert_close(model.eval().pool(images), expected, rtol=1e-4, atol=1e-4)


def slow_lrn(x):
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        total = (x[:, max(0, c - 2) : c + 3] ** 2).sum(1)
        out[:, c] = x[:, c] / (1 + 1e-4 / 5 * total) ** 0.75
    return out


def test_lrn_equals_the_loop_and_torch_in_value_and_gradient():
    x = (100 * torch.randn(2, 16, 5, 6, dtype=torch.float32)).requires_grad_()
    upstream = torch.randn(2, 16, 5, 6)
    results = []
    for lrn in (LRN(), slow_lrn, nn.LocalResponseNorm(5, 1e-4, 0.75, 1)):
        out = lrn(x)
        (grad,) = torch.autograd.grad(out, x, upstream)
        results.append((out, grad))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-4, atol=1e-4)


def test_lrn_equals_crossmap_lrn_where_that_one_is_right():
    """nn.CrossMapLRN2d (torch 2) never takes channel 0 out of its running sum, so it differs from channel 3 on."""
    x = 100 * torch.randn(2, 16, 5, 5)
    crossmap = nn.CrossMapLRN2d(5, 1e-4, 0.75, 1)
    torch.testing.assert_close(LRN()(x)[:, :3], crossmap(x)[:, :3], rtol=1e-4, atol=1e-4)
    x[:, 0] = 0
    torch.testing.assert_close(LRN()(x), crossmap(x), rtol=1e-4, atol=1e-4)


def test_lrn_survives_half_precision():
    x = torch.full((1, 8, 2, 2), 3000.0)
    torch.testing.assert_close(LRN()(x.half()).float(), slow_lrn(x), rtol=1e-3, atol=1e-3)
