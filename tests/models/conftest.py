"""Keeps the tests here from the network and from the user's own cache."""

import logging
import urllib.error

import huggingface_hub
import pytest
import torch

from models.backbones import timm_models


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Give an empty cache of weights, and no network. Returns the folder where torch keeps weights."""

    def no_network(url, *args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(timm_models, "_answers", lambda url: False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def said(caplog):
    """said() returns the lines of the log since its last call."""
    caplog.set_level(logging.INFO, "udml")
    logger = logging.getLogger("udml")
    logger.addHandler(caplog.handler)

    def lines():
        messages = caplog.messages.copy()
        caplog.clear()
        return messages

    yield lines
    logger.removeHandler(caplog.handler)
