"""BN-Inception, against the pretrainedmodels package: with the same weights, both have the same output."""

import importlib.util
from pathlib import Path

import pytest
import torch

import models
from utils.errors import InputError


@pytest.fixture(scope="module")
def peer():
    """pretrainedmodels' net with random weights and random running statistics, in evaluation mode.

    Its file is loaded alone. Importing the whole package would need other packages, which this net does not use.
    """
    package = Path(importlib.util.find_spec("pretrainedmodels").origin).parent
    spec = importlib.util.spec_from_file_location("peer_bninception", package / "models" / "bninception.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    net = module.bninception(pretrained=None).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.3, 1.0)
            torch.nn.init.uniform_(layer.weight, 0.8, 1.2)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    return net


@pytest.mark.parametrize("size", [227, 128])
@torch.no_grad()
def test_same_output_as_pretrainedmodels(peer, tmp_path, size):
    torch.save(peer.state_dict(), tmp_path / "bn.pth")
    ours = models.create("BN-Inception", weights=tmp_path / "bn.pth").eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = peer.features(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(ours.features.maps(images), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.pool(images), expected.amax((2, 3)), rtol=1e-5, atol=1e-5)


def test_batch_norm_vectors_of_caffe_shape_are_accepted(peer, tmp_path):
    old = {k: v[None] if "_bn." in k and v.ndim else v for k, v in peer.state_dict().items()}
    assert old["conv1_7x7_s2_bn.weight"].shape == (1, 64)
    torch.save(old, tmp_path / "bn.pth")
    ours = models.create("BN-Inception", weights=tmp_path / "bn.pth")
    assert torch.equal(ours.features.conv1_7x7_s2.bn.running_mean, peer.conv1_7x7_s2_bn.running_mean)


@torch.no_grad()
def test_original_checkpoint_loads_from_top_level_keys(peer, tmp_path):
    """The original keeps the backbone at top level, has an unused BatchNorm, and adds DataParallel's prefix."""
    old = {f"module.{k}": v for k, v in peer.state_dict().items() if "last_linear" not in k}
    old |= {f"module.classifier.bn.{k}": torch.zeros(1024) for k in ("weight", "bias", "running_mean", "running_var")}
    old["module.classifier.linear.weight"], old["module.classifier.linear.bias"] = torch.randn(64, 1024), torch.ones(64)
    ours = models.create("BN-Inception", dim=64, pretrained=False).eval()
    unused = models.load_state(ours, old)
    assert unused == [f"classifier.bn.{k}" for k in ("weight", "bias", "running_mean", "running_var")]
    images = torch.randn(1, 3, 96, 96)
    pooled = peer.features(images).amax((2, 3))
    expected = pooled @ old["module.classifier.linear.weight"].T + 1
    torch.testing.assert_close(ours(images), expected / expected.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.save({"state_dict": old, "epoch": 600}, tmp_path / "ckp_ep600.pth.tar")
    start = models.create("BN-Inception", dim=64, weights=tmp_path / "ckp_ep600.pth.tar").eval()
    assert torch.equal(start(images), ours(images))


def test_missing_key_is_named_as_we_know_it(peer, tmp_path):
    partly = {k: v for k, v in peer.state_dict().items() if k != "inception_4c_double_3x3_1_bn.bias"}
    torch.save(partly, tmp_path / "bn.pth")
    with pytest.raises(InputError, match=r"bn\.pth: .*missing: inception_4c\.double_3x3_1\.bn\.bias"):
        models.create("BN-Inception", weights=tmp_path / "bn.pth")
