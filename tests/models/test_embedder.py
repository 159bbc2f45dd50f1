"""The Embedder: shapes, precision, its head, frozen BatchNorm, and the names of nets."""

import pytest
import torch

import models
from data.pixels import PIXELS
from models import backbones, embedder
from models.closed_form import ClosedForm
from utils.errors import InputError

FAST = ["BN-Inception", "Inception", "ResNet18", "EfficientNet-Lite0", "EfficientNet-Lite1", "MobileNetV2", "timm/resnet18"]


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("size", [96, 128])
def test_contract_of_every_family(name, size):
    model = models.create(name, dim=48, pretrained=False)
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1  # use these images' statistics: with a new net's, MobileNetV2's features vanish
        model(images)
        model.eval()
        features = model.pool(images)
        embeddings = model.project(features)
        last = model(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model.pool(images)
            assert mixed.dtype == model.project(mixed).dtype == torch.float32
    assert features.shape == (3, model.feature_dim) and features.dtype == torch.float32
    assert embeddings.shape == (3, 48) and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(last, embeddings, rtol=1e-3, atol=1e-4)


def test_the_head_is_what_the_paper_says():
    model = models.create("ResNet18", dim=16, pretrained=False)
    features = torch.randn(5, 512)
    linear = model.classifier.linear
    assert not linear.bias.any()
    by_hand = features @ linear.weight.T
    torch.testing.assert_close(model.project(features), by_hand / by_hand.norm(dim=1, keepdim=True))


def test_zero_features_give_finite_values_and_gradients():
    model = models.create("ResNet18", dim=16, pretrained=False)
    features = torch.zeros(2, 512, requires_grad=True)
    model.project(features).sum().backward()
    assert model.project(features).isfinite().all() and features.grad.isfinite().all()


def statistics(model):
    return {k: v.clone() for k, v in model.state_dict().items() if "running_" in k or "num_batches" in k}


@pytest.mark.parametrize("name", ["BN-Inception", "ResNet18", "EfficientNet-Lite0", "timm/resnet18"])
def test_frozen_batch_norm_keeps_its_statistics_and_still_learns_its_scale(name):
    model = models.create(name, dim=8, pretrained=False, freeze_bn=True)
    model.eval().train()
    assert model.training and model.classifier.training
    before = statistics(model)
    model(torch.randn(2, 3, 64, 64))[:, 0].sum().backward()
    assert before and all(torch.equal(before[k], v) for k, v in statistics(model).items())
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(m.weight.requires_grad and m.weight.grad is not None for m in norms)


def test_batch_norm_moves_when_not_frozen():
    model = models.create("ResNet18", dim=8, pretrained=False)
    before = statistics(model)
    model(torch.randn(2, 3, 64, 64))
    assert not torch.equal(before["features.1.running_mean"], statistics(model)["features.1.running_mean"])


@pytest.mark.parametrize("name", FAST)
def test_slices_on_the_cpu_are_the_whole_batch(name, monkeypatch):
    """Compare features and gradients with one call of the backbone, for 7 images in slices of 3.

    All is in float64. Other rounding could choose another pixel as the largest of a pool, which then gets the gradient.
    """
    model = models.create(name, dim=8, pretrained=False, freeze_bn=True).eval().double()
    images = torch.randn(7, 3, 96, 96, dtype=torch.float64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(embedder, "SLICE", 3 * 96 * 96)
    sizes = []
    model.features.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = []
    for pool in (model.pool, lambda images: model.features(images).flatten(1).float()):
        model.zero_grad()
        features = pool(images)
        features.square().mean().backward()
        found.append((features, *[p.grad for p in model.features.parameters()]))
    assert sizes == [3, 3, 1, 7]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_same_seed_same_net():
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(models.create("Inception", dim=8, pretrained=False).state_dict())
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0])


def test_preprocessing_of_each_family():
    got = {name: backbones.build(name, pretrained=False).preprocessing for name in FAST}
    assert got["BN-Inception"] == got["Inception"] == ((104.0, 117.0, 128.0), (1.0, 1.0, 1.0), True)
    assert got["ResNet18"].mean == pytest.approx((123.675, 116.28, 103.53)) and not got["ResNet18"].bgr
    assert got["ResNet18"].std == pytest.approx((58.395, 57.12, 57.375))
    assert got["MobileNetV2"] == got["ResNet18"]
    assert got["EfficientNet-Lite0"] == got["EfficientNet-Lite1"] == ((127.0,) * 3, (128.0,) * 3, False)


@pytest.mark.parametrize("name", ["ResNet19", "inception", "timm/<any timm model>"])
def test_unknown_net_lists_what_there_is(name):
    with pytest.raises(InputError, match=name) as caught:
        models.create(name)
    assert "\n" not in str(caught.value) and caught.value.shown.startswith(f"--net {name}: ")
    if not name.startswith("timm"):
        assert all(known in str(caught.value) for known in models.names())


def test_names_can_all_be_created():
    assert models.names()[-1].startswith("timm/")
    for name in models.names()[:-1]:
        with torch.device("meta"):  # only shapes are needed, and ResNet152 is large
            assert models.create(name, dim=8, pretrained=False).feature_dim in (512, 1024, 1280, 2048)


@pytest.mark.parametrize("arguments", [{"dim": 0}, {"dim": 2**31 - 100}, {"pretrained": False, "weights": "some.pth"}])
def test_arguments_that_make_no_sense(arguments):
    with pytest.raises(InputError):
        models.create("ResNet18", **arguments)


@pytest.mark.parametrize("version", [None, PIXELS, 0])
def test_a_closed_form_of_older_pixels_is_read_and_that_is_said(tmp_path, said, version):
    """None: the form was saved before versions had numbers, and counts as version 1."""
    model = models.create("timm/test_resnet", 8, False, width=32, origin_width=36)
    model.closed_form = ClosedForm(model.feature_dim, {}, 8)
    state = dict(model.state_dict())
    assert int(state.pop("closed_form.pixels")) == PIXELS
    if version is not None:
        state["closed_form.pixels"] = torch.tensor(version)
    path = tmp_path / "ckp_ep1.pth.tar"
    torch.save({"state_dict": state, "epoch": 1, "settings": model.settings}, path)
    loaded = models.load(path)
    assert int(loaded.closed_form.pixels) == (1 if version is None else version)
    older = 1 if version is None else version
    expected = f"its closed form was fitted to pixels of version {older}, this program reads version {PIXELS}"
    assert [expected in line for line in said()] == [True] * (older < PIXELS)
