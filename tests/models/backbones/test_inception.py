"""GoogLeNet, against a slow, flat computation that reads the keys of the converted Caffe model directly."""

import copy

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
    """Arrays like those in inception.pth: 114 arrays of float32, with Caffe's names."""
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


def slow_googlenet(arrays, x, lrn=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)):
    """Compute pooled features as in figure 3 of the paper, with torch's own LRN and the original's 7x7 average."""

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
    """torchvision's net has BatchNorm instead of biases, and 3x3 instead of 5x5, but its widths are the paper's."""
    peer = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    features = models.create("Inception", pretrained=False).features
    ours, theirs = ([m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (features, peer))
    assert [conv.weight.shape[:2] for conv in ours] == [conv.weight.shape[:2] for conv in theirs]
    assert len(list(features.parameters())) == 114
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


def original_checkpoint(caffe):
    """Return a state_dict as the original's train.py writes it, with rotation head and unused BatchNorm."""
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
    return old | {"classifier_rot.2.weight": torch.randn(4, 512), "classifier_rot.2.bias": torch.zeros(4)}


def images_of(size=224):
    return 50 * torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def check_pools_as(embedder, caffe, lrn, size=224):
    """Check the features to 1e-5 of the largest. With the other LRN, they differ a hundred times more."""
    expected, got = slow_googlenet(caffe, images_of(size), lrn), embedder.eval().pool(images_of(size))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    other = CAFFES_LRN if lrn is ORIGINALS_LRN else ORIGINALS_LRN
    assert (got - slow_googlenet(caffe, images_of(size), other)).abs().max() > 1e-3 * expected.abs().max()


ORIGINALS_LRN = nn.CrossMapLRN2d(5, 0.0001, 0.75, 1)  # as in the original's models/Inception.py
CAFFES_LRN = nn.LocalResponseNorm(5, 0.0001, 0.75, 1)


@torch.no_grad()
@pytest.mark.parametrize("size", [224, 227])
def test_original_checkpoint_loads_with_its_own_lrn(caffe, said, size):
    """The checkpoint is recognised, and the log says so. The net's features equal those with nn.CrossMapLRN2d, to 1e-5."""
    old, model = original_checkpoint(caffe), models.create("Inception", pretrained=False)
    unused = [key for key in old if key.startswith(("classifier.bn.", "classifier_rot."))]
    assert models.load_state(model, {f"module.{key}": value for key, value in old.items()}, "ckp_ep600.pth.tar") == unused
    assert said() == [
        "ckp_ep600.pth.tar: its LRN layers are torch's CrossMapLRN2d, as in the original project; this is not Caffe's LRN"
    ]
    check_pools_as(model, caffe, ORIGINALS_LRN, size)


@torch.no_grad()
def test_load_recognises_an_originals_file_by_its_lack_of_settings(caffe, said, tmp_path):
    path = tmp_path / "ckp_ep600.pth.tar"
    old = {key: value for key, value in original_checkpoint(caffe).items() if "classifier.bn." not in key}
    torch.save({"state_dict": old, "epoch": 600}, path)
    check_pools_as(models.load(path), caffe, ORIGINALS_LRN)
    assert "CrossMapLRN2d" in said()[0]
    torch.save({"state_dict": old, "epoch": 600, "settings": {"net": "Inception"}}, path)
    check_pools_as(models.load(path), caffe, CAFFES_LRN)  # a checkpoint of ours that is older than the LRN's key
    assert not said()


@torch.no_grad()
def test_the_lrn_survives_training_on_from_an_originals_checkpoint(caffe, said, tmp_path):
    """Start from the original's checkpoint, save it as ours, and load that; also load it strictly into a new net, as
    resuming does."""
    torch.save({"state_dict": original_checkpoint(caffe), "epoch": 600}, tmp_path / "original.pth.tar")
    started = models.create("Inception", weights=tmp_path / "original.pth.tar")
    assert len(said()) == 2
    ours = {"state_dict": started.state_dict(), "epoch": 1, "settings": started.settings}
    torch.save(ours, tmp_path / "ours.pth.tar")
    resumed = models.create("Inception", pretrained=False)
    resumed.load_state_dict(ours["state_dict"])
    for embedder in (started, models.load(tmp_path / "ours.pth.tar"), resumed, copy.deepcopy(resumed)):
        check_pools_as(embedder, caffe, ORIGINALS_LRN)
    assert not said()


@torch.no_grad()
def test_checkpoints_that_do_not_name_an_lrn_are_caffes(caffe, tmp_path):
    """This is so even if the net had the original's LRN before."""
    torch.save(caffe, tmp_path / "inception.pth")
    model = models.create("Inception", weights=tmp_path / "inception.pth")
    early = {key: value for key, value in model.state_dict().items() if not key.endswith("crossmap")}
    assert models.load_state(model, original_checkpoint(caffe)) and model.features.conv2.lrn.crossmap
    assert models.load_state(model, early) == [] and not model.features.conv2.lrn.crossmap
    check_pools_as(model, caffe, CAFFES_LRN)
    model.load_state_dict(early)


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


def crossmap_lrn():
    lrn = LRN()
    lrn.load_state_dict({"crossmap": torch.tensor(True)})
    return lrn


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 192])
def test_crossmap_lrn_equals_torchs(channels):
    x = 300 * torch.randn(2, channels, 5, 6)
    torch.testing.assert_close(crossmap_lrn()(x), ORIGINALS_LRN(x), rtol=1e-5, atol=1e-5)


def test_gradient_of_crossmap_lrn_is_that_of_its_output():
    """The reference are finite differences. torch's own gradient is another one."""
    x = (100 * torch.randn(1, 8, 3, 3, dtype=torch.float64)).requires_grad_()
    upstream, step = torch.randn_like(x), 1e-4
    with torch.no_grad():
        shifts = step * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])  # a row for each number in x
        changes = ORIGINALS_LRN(x + shifts) - ORIGINALS_LRN(x - shifts)
    by_differences = ((changes * upstream).sum((1, 2, 3)) / (2 * step)).view_as(x)
    (gradient,) = torch.autograd.grad((crossmap_lrn()(x) * upstream).sum(), x)
    torch.testing.assert_close(gradient, by_differences, rtol=1e-3, atol=1e-4)
    (torchs,) = torch.autograd.grad((ORIGINALS_LRN(x) * upstream).sum(), x)
    assert (torchs - by_differences).abs().max() > 0.1 * by_differences.abs().max()


def test_lrn_survives_half_precision():
    x = torch.full((1, 8, 2, 2), 3000.0)
    torch.testing.assert_close(LRN()(x.half()).float(), slow_lrn(x), rtol=1e-3, atol=1e-3)
