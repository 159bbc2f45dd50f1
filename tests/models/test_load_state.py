"""Loading a checkpoint into an Embedder: completely or not at all, and every complaint is one line."""

import pytest
import torch

import models
from utils.errors import InputError


def net(**arguments):
    return models.create("ResNet18", **{"dim": 8, "pretrained": False, **arguments})


def same(a, b):
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["ResNet18", "BN-Inception", "Inception", "timm/resnet18"])
def test_our_own_checkpoint_comes_back_whole(name, prefix):
    old, new = (models.create(name, dim=8, pretrained=False) for _ in range(2))
    assert models.load_state(new, {prefix + key: value for key, value in old.state_dict().items()}) == []
    assert same(old.state_dict(), new.state_dict())


def test_rotation_head_without_a_place_is_reported():
    parts = {f"classifier_rot.{layer}.{part}": torch.ones(1) for layer in (0, 2) for part in ("weight", "bias")}
    assert models.load_state(net(), net().state_dict() | parts) == list(parts)


def test_checkpoints_of_old_torch_without_batch_counts_load():
    old = {k: v for k, v in net().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert models.load_state(net(), old) == []


def complaint(model, state):
    """Return the error line, and check that a refused checkpoint has changed nothing."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        models.load_state(model, state, source="ckp_ep600.pth.tar")
    assert same(before, model.state_dict())
    message = str(caught.value)
    assert message.startswith("ckp_ep600.pth.tar: ") and "\n" not in message
    return message


def test_missing_key_is_named():
    state = net().state_dict()
    del state["features.4.0.conv1.weight"], state["classifier.linear.bias"]
    assert "missing: features.4.0.conv1.weight, classifier.linear.bias" in complaint(net(), state)


def test_many_missing_keys_are_counted():
    state = {key: value for key, value in net().state_dict().items() if not key.startswith("features.")}
    wanted = [key for key in net().state_dict() if key.startswith("features.") and "num_batches" not in key]
    assert f"missing: {', '.join(wanted[:3])} and {len(wanted) - 3} more" in complaint(net(), state)


def test_unknown_key_is_named():
    assert "unknown: features.9.weight" in complaint(net(), net().state_dict() | {"features.9.weight": torch.ones(1)})


def test_other_width_is_explained():
    message = complaint(net(dim=8), net(dim=4).state_dict())
    assert "classifier.linear.weight is (4, 512), not (8, 512)" in message and "has 4 numbers, not 8" in message


def test_equal_count_in_another_shape_is_refused():
    """A transposed matrix has the same number of entries, but must be refused."""
    state = net().state_dict()
    state["features.7.0.downsample.0.weight"] = torch.zeros(256, 512, 1, 1)
    assert "downsample.0.weight is (256, 512, 1, 1), not (512, 256, 1, 1)" in complaint(net(), state)


@pytest.mark.filterwarnings("ignore")  # torch warns when these tensors are made
@pytest.mark.parametrize(
    "odd",
    [
        lambda x: x.to_sparse(),
        lambda x: x.to("meta"),
        lambda x: x.to(torch.complex64),
        lambda x: torch.zeros(3, 3).to_sparse_csr(),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "csr", "quantized"],
)
def test_tensors_without_plain_numbers_are_named(odd):
    state = net().state_dict()
    state["features.0.weight"] = odd(state["features.0.weight"])
    assert "'features.0.weight' is no plain tensor" in complaint(net(), state)


@pytest.mark.parametrize("state", [None, {}, [1, 2], {"features.0.weight": "text"}, {3: torch.ones(1)}])
def test_not_a_state_dict(state):
    complaint(net(), state)


def test_another_nets_checkpoint():
    other = models.create("Inception", dim=8, pretrained=False).state_dict()
    assert "is it from another net?" in complaint(net(), other)
