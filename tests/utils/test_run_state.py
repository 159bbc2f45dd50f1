"""A run's position and optimiser, through a checkpoint file and back."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils import checkpoint, run_state
from utils.errors import InputError
from utils.run_state import Position, capture, restore

IMAGES = type("Images", (list,), {"digest": "0f"})([None] * 5)
AT = Position(7, 3, np.array([0, 1, -1, 1, 0]), 6)
WINDOW = [{"loss": 0.5, "positive": float("nan"), "images": 8}]


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """What is said, by run_state and by checkpoint."""
    lines = []
    monkeypatch.setattr(checkpoint.log, "say", lines.append)
    return lines


def settings(**changed):
    return Namespace(**{"lr": 0.1, "rot_lr": 0.2, "weight_decay": 0.01, "net": "ResNet18", "epochs": 9, "override": False,
                        **changed})


def parts(args, seed=0, hidden=4):
    """A net and its Adam, in two groups as in train.py."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2))
    optimiser = torch.optim.Adam([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": args.rot_lr}],
                                 lr=args.lr, weight_decay=args.weight_decay)
    return net, optimiser, torch.amp.GradScaler("cpu", enabled=False)


def train(net, optimiser, seeds):
    for seed in seeds:
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()


def written(tmp_path, args, change=lambda state: None):
    """The state of a run after ten steps, as the file gives it back; and the parts that went on from there."""
    net, optimiser, scaler = parts(args)
    train(net, optimiser, range(10))
    state = capture(AT, net, optimiser, scaler, WINDOW, IMAGES, args)
    change(state)
    checkpoint.save(str(tmp_path / "ckp"), state)
    return checkpoint.load(str(tmp_path / "ckp")), net, optimiser


def test_round_trip(tmp_path, said):
    """The steps after it are those of the run that did not stop, which they are not without Adam's state."""
    state, net, optimiser = written(tmp_path, settings())
    train(net, optimiser, range(10, 20))
    other, fresh, scaler = parts(settings(), seed=1)
    at, window = restore(state, "ckp", fresh, scaler, IMAGES, settings())
    other.load_state_dict(state["state_dict"])
    train(other, fresh, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert (at.epoch, at.step, at.labelled) == (7, 3, 6) and np.array_equal(at.labels, AT.labels)
    assert at.labels.dtype == np.int64 and str(window) == str(WINDOW) and not said

    other, fresh, _ = parts(settings(), seed=1)
    other.load_state_dict(state["state_dict"])
    train(other, fresh, range(10, 20))
    assert not torch.equal(net[0].weight, other[0].weight)


def test_override_brings_the_new_rates(tmp_path, said):
    state, *_ = written(tmp_path, settings())
    changed = settings(lr=1e-3, rot_lr=2e-3, weight_decay=0.5)
    with pytest.raises(InputError, match="--lr was 0.1, is 0.001"):
        restore(state, "ckp", *parts(changed)[1:], IMAGES, changed)
    changed.override = True
    _, optimiser, scaler = parts(changed)
    restore(state, "ckp", optimiser, scaler, IMAGES, changed)
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(1e-3, 0.5), (2e-3, 0.5)]
    assert all(values["step"] == 10 for values in optimiser.state.values()) and len(optimiser.state) == 4
    assert len(said) == 1 and "--rot_lr was 0.2, is 0.002" in said[0]


def test_override_does_not_fit_another_net(tmp_path):
    state, *_ = written(tmp_path, settings())
    args = settings(net="ResNet34", override=True)
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    with pytest.raises(InputError, match="^ckp: .*--net"):
        restore(state, "ckp", optimiser, None, IMAGES, args)


def test_other_images_are_refused(tmp_path):
    state, *_ = written(tmp_path, settings())
    other = type("Images", (list,), {"digest": "1e"})([None] * 5)
    for images, override in ((other, False), (other, True)):
        args = settings(override=override)
        with pytest.raises(InputError, match="^ckp: not a checkpoint of a run on these 5 images"):
            restore(state, "ckp", *parts(args)[1:], images, args)
    del state["images"]
    with pytest.raises(InputError, match="not a checkpoint of a run"):
        restore(state, "ckp", *parts(settings())[1:], IMAGES, settings())


def test_a_checkpoint_of_before_there_were_steps(tmp_path, said):
    def older(state):
        for name in ("step", "labelled", "window", "versions"):
            del state[name]

    state, *_ = written(tmp_path, settings(), older)
    at, window = restore(state, "ckp", *parts(settings())[1:], IMAGES, settings())
    assert (at.epoch, at.step, at.labelled, list(window)) == (7, 0, 7, []) and not said


def test_other_versions_are_said(tmp_path, monkeypatch, said):
    assert run_state.versions()["torch"] == torch.__version__ and run_state.versions()["numpy"] == np.__version__
    state, *_ = written(tmp_path, settings())
    monkeypatch.setattr(run_state, "torch", SimpleNamespace(
        __name__="torch", __version__="9.9", get_num_threads=torch.get_num_threads))
    restore(state, "ckp", *parts(settings())[1:], IMAGES, settings())
    line, = said
    assert line.startswith("ckp: made with ") and torch.__version__ in line and "9.9" in line


def test_the_scaler_of_half_precision(tmp_path):
    """Its scale comes back; a run without one leaves it as it is, and does not mind that of another."""
    net, optimiser, none = parts(settings())
    scaler, fresh = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (8.0, 1024.0))
    state = capture(AT, net, optimiser, scaler, WINDOW, IMAGES, settings())
    restore(state, "ckp", optimiser, none, IMAGES, settings())
    without = capture(AT, net, optimiser, none, WINDOW, IMAGES, settings())
    restore(without, "ckp", optimiser, fresh, IMAGES, settings())
    assert fresh.get_scale() == 1024
    restore(state, "ckp", optimiser, fresh, IMAGES, settings())
    assert fresh.get_scale() == 8
