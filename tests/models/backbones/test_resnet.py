"""ResNets, against torchvision."""

import pytest
import torch
import torchvision

import models
from models import weights
from utils.errors import InputError


@pytest.mark.parametrize("name", ["ResNet18", "ResNet50"])
@torch.no_grad()
def test_same_features_as_torchvision(tmp_path, name):
    peer = getattr(torchvision.models, name.lower())(weights=None)
    torch.save(peer.state_dict(), tmp_path / "resnet.pth")
    ours = models.create(name, weights=tmp_path / "resnet.pth").eval()
    peer.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(ours.pool(images), peer.eval()(images))


@pytest.mark.parametrize("depth, width", [(18, 512), (34, 512), (50, 2048), (101, 2048), (152, 2048)])
def test_every_depth_has_published_weights_with_a_hash(monkeypatch, depth, width):
    asked = []

    def none_here(name, published):
        asked.append(published)
        raise InputError("none here")

    monkeypatch.setattr(weights, "fetch", none_here)
    with pytest.raises(InputError):
        models.create(f"ResNet{depth}")
    assert asked[0].url.startswith(f"https://download.pytorch.org/models/resnet{depth}-")
    assert len(asked[0].digest) == 8 and int(asked[0].digest, 16)
    if depth < 101:
        assert models.create(f"ResNet{depth}", pretrained=False).feature_dim == width


@torch.no_grad()
def test_original_checkpoint_loads():
    """The original wraps torchvision's children, without fc, into a sequence."""
    children = torch.nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-1])
    old = {f"module.features.{k}": v for k, v in children.state_dict().items()}
    old |= {"module.classifier.linear.weight": torch.randn(64, 512), "module.classifier.linear.bias": torch.zeros(64)}
    old |= {"module.classifier.bn.running_mean": torch.zeros(512)}
    assert "module.features.4.0.conv1.weight" in old
    model = models.create("ResNet18", dim=64, pretrained=False)
    assert models.load_state(model, old) == ["classifier.bn.running_mean"]
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval().pool(images), children.eval()(images).flatten(1))


def test_weights_of_a_deeper_net_are_refused():
    """ResNet101 has all tensors of ResNet50, with the same names and shapes, and more blocks."""
    shallow, deep = (models.create(name, dim=8, pretrained=False) for name in ("ResNet50", "ResNet101"))
    with pytest.raises(InputError, match=r"unknown: features\.6\.6\.conv1\.weight.*another net"):
        models.load_state(shallow, deep.state_dict())
