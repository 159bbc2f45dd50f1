"""Models of timm by name."""

import re

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

import models
from models import backbones
from utils.errors import InputError


@torch.no_grad()
def test_random_net_has_timms_features_and_preprocessing():
    model = models.create("timm/resnet18", dim=32, pretrained=False).eval()
    peer = timm.create_model("resnet18", num_classes=0).eval()
    peer.load_state_dict(model.features.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.pool(images), peer(images))
    assert model(images).shape == (2, 32)
    preprocessing = backbones.build("timm/resnet18", pretrained=False).preprocessing
    assert preprocessing.mean == pytest.approx((123.675, 116.28, 103.53)) and not preprocessing.bgr


@torch.no_grad()
def test_width_is_what_comes_out_of_a_net_with_a_wide_head():
    model = models.create("timm/mobilenetv3_small_050", pretrained=False).eval()
    assert model.pool(torch.randn(1, 3, 64, 64)).shape == (1, model.feature_dim)


def test_closest_names_are_listed():
    with pytest.raises(InputError) as caught:
        models.create("timm/resnet-18")
    assert re.match(r"--net timm/resnet-18: .*timm/resnet18", caught.value.shown)


def test_offline_does_not_let_the_client_retry_and_names_the_remedies(monkeypatch):
    """The client would retry for a minute."""
    create, offline = timm.create_model, []

    def recorded(*args, **more):
        offline.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        return create(*args, **more)

    monkeypatch.setattr(timm, "create_model", recorded)
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    with pytest.raises(InputError, match=r"no weights for timm/resnet18 .*weights file.*Lite0") as caught:
        models.create("timm/resnet18")
    assert set(offline) == {True} and huggingface_hub.constants.HF_HUB_OFFLINE == before
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_file_with_classifier(tmp_path, kind):
    peer = timm.create_model("resnet18", pretrained=False)
    path = tmp_path / f"model.{kind}"
    if kind == "pth":
        torch.save({"state_dict": peer.state_dict()}, path)
    else:
        safetensors.torch.save_file(peer.state_dict(), path)
    model = models.create("timm/resnet18", weights=path)
    assert torch.equal(model.features.layer4[1].conv2.weight, peer.layer4[1].conv2.weight)


def test_weights_file_of_another_net(tmp_path):
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: does not fit timm/resnet18"):
        models.create("timm/resnet18", weights=tmp_path / "other.pth")
