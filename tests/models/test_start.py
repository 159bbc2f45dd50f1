"""Training from a checkpoint, `models.create(..., weights=checkpoint)`: which parts are loaded, and the log about it."""

import pytest
import torch

import models
from models.methods.udml_ss import RotationHead
from thumbnails import TINY_TRAIN
from utils.errors import InputError

CREATE = {"dim": 8, "width": 64, "origin_width": 72}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ckp_ep7.pth.tar"


def ours(**changes):
    """Return (an Embedder, the checkpoint that a run of UDML-SS would save)."""
    embedder = models.create("ResNet18", pretrained=False, **CREATE)
    method = torch.nn.Module()
    method.embedder, method.rotation_head = embedder, RotationHead(512)
    method.register_buffer("labels", torch.arange(20))
    settings = {**embedder.settings, "method": "udml_ss"}
    return embedder, {
        "state_dict": embedder.state_dict(),
        "epoch": 7,
        "settings": settings,
        "method": method.state_dict(),
        "optimiser": {},
        **changes,
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def test_all_of_our_net_is_taken_and_the_rest_named(path, said):
    embedder, checkpoint = ours()
    torch.save(checkpoint, path)
    start = models.create("ResNet18", weights=path, **CREATE)
    assert same(start.state_dict(), embedder.state_dict()) and start.training
    assert said() == [f"{path}: the net starts from this checkpoint of epoch 7, without its labels, rotation head"]


def test_a_method_without_anything_else(path, said):
    embedder, checkpoint = ours()
    checkpoint["method"] = {f"embedder.{key}": value for key, value in embedder.state_dict().items()}
    torch.save(checkpoint, path)
    assert same(models.create("ResNet18", weights=path, **CREATE).state_dict(), embedder.state_dict())
    assert said() == [f"{path}: the net starts from this checkpoint of epoch 7"]


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("net", ["ResNet18", "Inception"])
def test_the_originals_checkpoints_too(path, said, net, wrapped, prefix):
    """BN-Inception's checkpoints have its layers at top level: tests/models/backbones/test_bn_inception.py tests them."""
    embedder = models.create(net, pretrained=False, **CREATE)
    old = {key: value for key, value in embedder.state_dict().items() if not key.endswith("crossmap")}
    unused = {"classifier.bn.weight": torch.ones(512), "classifier_rot.0.weight": torch.randn(512, 512)}
    held = {prefix + key: value for key, value in {**old, **unused}.items()}
    torch.save({"state_dict": held, "epoch": 600} if wrapped else held, path)
    start = models.create(net, weights=path, **CREATE).state_dict()
    assert same({key: value for key, value in start.items() if not key.endswith("crossmap")}, old)
    lines = said()
    epoch = " of epoch 600" if wrapped else ""
    assert lines.pop() == f"{path}: the net starts from this checkpoint{epoch}, without its rotation head"
    assert [line for line in lines if "CrossMapLRN2d" in line] == lines and len(lines) == (net == "Inception")


def test_an_embedding_of_another_dim_starts_at_random_and_that_is_said(path, said):
    embedder, checkpoint = ours()
    torch.save(checkpoint, path)
    torch.manual_seed(0)
    start = models.create("ResNet18", weights=path, **{**CREATE, "dim": 16})
    assert same(start.features.state_dict(), embedder.features.state_dict())
    head = start.classifier.linear
    assert head.weight.shape == (16, 512) and not head.bias.any()
    torch.testing.assert_close(head.weight.std().item(), (1 / 512 / 3) ** 0.5, rtol=0.05, atol=0)  # torch's own start
    (line,) = said()
    assert line.endswith("; the embedding starts at random, because the checkpoint's has 8 numbers, not 16")


def test_a_checkpoint_of_another_net_is_refused(path):
    embedder, checkpoint = ours()
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="ckp_ep7.pth.tar: a checkpoint of the net ResNet18, not ResNet34; give that net"):
        models.create("ResNet34", weights=path, **CREATE)
    torch.save(embedder.state_dict(), path)  # a checkpoint that does not name its net
    with pytest.raises(InputError, match="does not fit this net .missing: .*; is it from another net"):
        models.create("ResNet34", weights=path, **CREATE)


@pytest.mark.parametrize(
    "odd",
    [
        {"state_dict": {"classifier.linear.weight": "text"}},
        {"state_dict": {"classifier.linear.weight": torch.ones(3)}},
        {"state_dict": {"classifier.linear.weight": torch.ones(8, 7), "classifier.linear.bias": torch.ones(8)}},
        {"settings": 5, "method": [1], "epoch": "x"},
        {"settings": {"net": ["ResNet18"]}},
    ],
)
def test_odd_checkpoints_end_in_one_line_or_start(path, odd):
    torch.save(ours(**odd)[1], path)
    try:
        models.create("ResNet18", weights=path, **CREATE)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert odd["settings"] == 5


def test_weights_of_a_backbone_start_no_head(path, said):
    """A file without `classifier.linear` counts as weights of a backbone."""
    embedder, _ = ours()
    torch.save({f"module.{key}": value for key, value in embedder.features.state_dict().items()}, path)
    with pytest.raises(InputError, match="does not fit this net"):  # its keys are not torchvision's
        models.create("ResNet18", weights=path, **CREATE)
    assert not said()


def test_a_run_that_starts_from_an_originals_checkpoint_keeps_its_lrn(run, image_folder, path, tmp_path, capsys):
    """It keeps the LRN through training, through resuming without the original's file, and through testing."""
    old = models.create("Inception", 16, pretrained=False).state_dict()
    old = {key: value for key, value in old.items() if not key.endswith("crossmap")}
    torch.save({"state_dict": old | {"classifier.bn.weight": torch.ones(1024)}, "epoch": 600}, path)
    flags = (
        *TINY_TRAIN,
        "--net",
        "Inception",
        "--num_clusters",
        4,
        "--data",
        image_folder,
        "--save_dir",
        tmp_path / "run",
        "--lr",
        1e-12,
    )
    run("train", *flags, "--pretrained", "True", "--weights", path, "--epochs", 1)
    said = capsys.readouterr().out
    assert "LRN layers are torch's" in said and f"{path}: the net starts from this checkpoint of epoch 600" in said
    path.unlink()
    run("train", *flags, "--pretrained", "True", "--weights", path, "--epochs", 2, "--resume", "yes")
    run("test", "--data", image_folder, "--resume", tmp_path / "run" / "ckp_ep2.pth.tar", "--nThreads", 0)
    trained = models.load(tmp_path / "run" / "ckp_ep2.pth.tar").state_dict()
    assert trained["features.conv1.lrn.crossmap"] and trained["features.conv2.lrn.crossmap"]
    torch.testing.assert_close({key: trained[key] for key in old}, dict(old), rtol=0, atol=1e-9)
