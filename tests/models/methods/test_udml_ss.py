"""UDML-SS: its rotation head, and its forward pass with metric views and rotated views."""

import argparse

import numpy as np
import pytest
import torch

import models
from data.views import Batch
from models.methods import udml_ss
from models.methods.udml_ss import UDMLSS, RotationHead
from utils.errors import InputError


class Twenty:
    """Stands in for a list of 20 images without labels."""

    labels = None
    source = "train.txt"

    def __len__(self):
        return 20


def method_of(embedder, *flags):
    parser = argparse.ArgumentParser()
    UDMLSS.flags(parser)
    settings = parser.parse_args(["--num_clusters", "4", "--num_instances", "2", "--rot_batch", "2", *flags])
    settings.seed, settings.batch_size = 0, 4
    return UDMLSS(embedder, Twenty(), settings)


def batch_of(metric):
    """Return a Batch without pixels. metric: for each view, whether it counts for the metric loss."""
    metric = torch.tensor(metric)
    rows = torch.arange(len(metric))
    return Batch(torch.empty(0), rows, rows // 2, torch.where(metric, -1, 1), metric)


def test_rotation_head_is_what_the_paper_says():
    head, features = RotationHead(512), torch.randn(5, 512)
    first, second = head[0], head[2]
    assert not first.bias.any() and not second.bias.any()
    logits = (features @ first.weight.T).clamp(min=0) @ second.weight.T
    torch.testing.assert_close(head(features), logits)
    assert logits.shape == (5, 4) and (logits < 0).any()  # they are plain logits, not the outputs of a ReLU


def test_outputs_of_both_heads_are_float32_in_mixed_precision_too():
    method = method_of(models.create("ResNet18", dim=8, pretrained=False, freeze_bn=True))
    with torch.autocast("cpu", torch.bfloat16):
        out = method(torch.randn(3, 3, 64, 64), batch_of([True, True, False]))
    assert {name: (rows.shape, rows.dtype) for name, rows in out.items()} == {
        "embedding": ((3, 8), torch.float32),
        "rotation": ((3, 4), torch.float32),
    }


@pytest.mark.parametrize("without", [("--rot_batch", "0"), ("--self_supervision_rot", "0")])
def test_rotation_head_can_be_left_out(without):
    method = method_of(models.create("ResNet18", dim=8, pretrained=False, freeze_bn=True), *without)
    assert not any(key.startswith("rotation_head") for key in method.state_dict())
    assert set(method(torch.randn(2, 3, 64, 64), batch_of([True, True]))) == {"embedding"}


def statistics(module):
    return {key: value.clone() for key, value in module.state_dict().items() if "running_" in key or "num_batches" in key}


@pytest.mark.parametrize("metric", [[True] * 3 + [False] * 2, [False, True, True, False, True]])
@pytest.mark.parametrize("freeze_bn", [True, False])
def test_pooling_metric_views_and_rotated_copies_together_is_pooling_them_apart(freeze_bn, metric):
    """With frozen BatchNorm there is one pass, otherwise there are two. In both cases, the two sorts of views do not mix."""
    images, metric = torch.randn(5, 3, 64, 64), torch.tensor(metric)

    def outputs_gradient_statistics(forward):
        torch.manual_seed(0)
        method = method_of(models.create("ResNet18", dim=8, pretrained=False, freeze_bn=freeze_bn))
        method.train()
        with torch.no_grad():
            method.embedder.classifier.linear.weight.normal_()
        out = forward(method)
        (out["embedding"][:, 0].sum() + out["rotation"].square().sum()).backward()
        return out, method.embedder.features[0].weight.grad, statistics(method)

    def apart(method):
        features = torch.empty(5, 512)
        for rows in (metric, ~metric):
            features[rows] = method.embedder.pool(images[rows])
        return {"embedding": method.embedder.project(features), "rotation": method.rotation_head(features)}

    torch.testing.assert_close(
        outputs_gradient_statistics(lambda method: method(images, batch_of(metric.tolist()))),
        outputs_gradient_statistics(apart),
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_number_of_clusters_can_be_found(monkeypatch):
    """The features lie around three directions. Later clusterings keep the number."""
    rng = np.random.default_rng(0)
    features = np.eye(8, dtype=np.float32)[np.arange(20) % 3] + 0.05 * rng.normal(size=(20, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    embedder = models.create("ResNet18", dim=8, pretrained=False)
    method = method_of(embedder, "--num_clusters", "auto")
    assert "clustered 20 images into 3: " in method.prepare(features, np.arange(20))
    assert len(set(zip(method.labels.tolist(), [i % 3 for i in range(20)]))) == 3
    monkeypatch.setattr(udml_ss, "choose_k", lambda *_: pytest.fail("chosen anew"))
    assert "clustered 20 images into 3: " in method.prepare(features, np.arange(20))
    with pytest.raises(InputError, match="--loss ProxyAnchor learns parameters for each cluster"):
        method_of(embedder, "--num_clusters", "auto", "--loss", "ProxyAnchor")


def test_one_cluster_would_leave_nothing_to_learn():
    method = method_of(models.create("ResNet18", dim=8, pretrained=False), "--num_clusters", "auto")
    with pytest.raises(InputError, match="auto: no number of clusters beats one cluster of all 7 images; give a number"):
        method.prepare(np.eye(8, dtype=np.float32)[:7], np.arange(7))
