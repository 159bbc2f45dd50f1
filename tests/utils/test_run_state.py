"""A run's position and optimiser, saved to a checkpoint file and read again."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from utils import checkpoint, run_state
from utils.errors import InputError
from utils.run_state import Position, capture, restore

DIGEST = "0f"  # stands for the digest of the images
AT = Position(7, 3, 6)
UNREPORTED = [{"loss": 0.5, "positive": float("nan"), "images": 8}]


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """The lines of the log, of run_state and of checkpoint."""
    lines = []
    monkeypatch.setattr(checkpoint.log, "say", lines.append)
    return lines


def settings(**changed):
    return Namespace(
        **{"lr": 0.1, "rot_lr": 0.2, "weight_decay": 0.01, "net": "ResNet18", "epochs": 9, "override": False, **changed}
    )


class Net(torch.nn.Sequential):
    """Stands in for a method: parameters, a buffer, and a state that is no tensor."""

    def __init__(self, hidden=4):
        super().__init__(torch.nn.Linear(3, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2))
        self.register_buffer("labels", torch.tensor([-1, -1, -1]))
        self.seen = 0

    def get_extra_state(self):
        return {"seen": self.seen}

    def set_extra_state(self, state):
        self.seen = state["seen"]


def parts(args, seed=0, hidden=4):
    """Return a net and its Adam, in two groups as in train.py."""
    torch.manual_seed(seed)
    net = Net(hidden)
    optimiser = torch.optim.Adam(
        [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": args.rot_lr}],
        lr=args.lr,
        weight_decay=args.weight_decay,
    )
    return net, optimiser, torch.amp.GradScaler("cpu", enabled=False)


def train(net, optimiser, seeds):
    for seed in seeds:
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()


def written(tmp_path, args, change=lambda state: None):
    """Return a run's state after ten steps, read from a file; and the net and optimiser."""
    net, optimiser, scaler = parts(args)
    train(net, optimiser, range(10))
    net.labels.copy_(torch.tensor([0, 1, -1]))
    net.seen = 5
    state = capture(AT, net, net[0], optimiser, scaler, UNREPORTED, DIGEST, args)
    change(state)
    checkpoint.save(str(tmp_path / "ckp"), state)
    return checkpoint.load(str(tmp_path / "ckp")), net, optimiser


def test_round_trip(tmp_path, said):
    """The next steps equal those of a run that was not stopped. Without Adam's state, they would not."""
    state, net, optimiser = written(tmp_path, settings())
    assert torch.equal(state["state_dict"]["weight"], state["method"]["0.weight"])
    train(net, optimiser, range(10, 20))
    other, fresh, scaler = parts(settings(), seed=1)
    at, unreported = restore(state, "ckp", other, fresh, scaler, DIGEST, settings())
    train(other, fresh, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert at == AT and other.labels.tolist() == [0, 1, -1] and other.seen == 5
    assert str(unreported) == str(UNREPORTED) and not said

    other, fresh, _ = parts(settings(), seed=1)
    other.load_state_dict(state["method"])
    train(other, fresh, range(10, 20))
    assert not torch.equal(net[0].weight, other[0].weight)


def test_what_is_in_a_checkpoint_twice_is_written_once(tmp_path):
    net = torch.nn.Linear(500, 500)
    state = capture(AT, net, net, None, torch.amp.GradScaler("cpu", enabled=False), [], DIGEST, settings())
    checkpoint.save(str(tmp_path / "ckp"), state)
    assert (tmp_path / "ckp").stat().st_size < 1.1 * 4 * 500 * 501


def test_override_brings_the_new_rates(tmp_path, said):
    state, *_ = written(tmp_path, settings())
    changed = settings(lr=1e-3, rot_lr=2e-3, weight_decay=0.5)
    with pytest.raises(InputError, match="--lr was 0.1, is 0.001"):
        restore(state, "ckp", *parts(changed), DIGEST, changed)
    changed.override = True
    net, optimiser, scaler = parts(changed)
    restore(state, "ckp", net, optimiser, scaler, DIGEST, changed)
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(1e-3, 0.5), (2e-3, 0.5)]
    assert all(values["step"] == 10 for values in optimiser.state.values()) and len(optimiser.state) == 4
    assert len(said) == 1 and "--rot_lr was 0.2, is 0.002" in said[0]


def test_override_does_not_fit_another_net(tmp_path):
    state, *_ = written(tmp_path, settings())
    args = settings(net="ResNet34", override=True)
    with pytest.raises(InputError, match="^ckp: of a net or a method with other parameters; give the --net"):
        restore(state, "ckp", *parts(args, hidden=5), DIGEST, args)


def test_a_method_without_an_optimiser(tmp_path):
    net = Net()
    state = capture(AT, net, net, None, torch.amp.GradScaler("cpu", enabled=False), [], DIGEST, settings())
    assert restore(state, "ckp", Net(), None, None, DIGEST, settings()) == (AT, [])


def test_other_images_are_refused(tmp_path):
    state, *_ = written(tmp_path, settings())
    for override in (False, True):
        args = settings(override=override)
        with pytest.raises(InputError, match="^ckp: not a checkpoint of a run on these images"):
            restore(state, "ckp", *parts(args), "1e", args)
    del state["images"]
    with pytest.raises(InputError, match="not a checkpoint of a run"):
        restore(state, "ckp", *parts(settings()), DIGEST, settings())


def test_a_checkpoint_of_before_there_were_methods_or_of_the_original(tmp_path):
    state, *_ = written(tmp_path, settings(), lambda state: state.pop("method"))
    with pytest.raises(InputError, match="^ckp: made by an earlier version or by the original project; it can be tested"):
        restore(state, "ckp", *parts(settings()), DIGEST, settings())


def test_other_versions_are_said(tmp_path, monkeypatch, said):
    assert run_state.versions()["torch"] == torch.__version__.split("+")[0]
    assert run_state.versions()["numpy"] == np.__version__
    state, *_ = written(tmp_path, settings())
    monkeypatch.setattr(run_state, "version", lambda package: "9.9")
    restore(state, "ckp", *parts(settings()), DIGEST, settings())
    (line,) = said
    assert line.startswith("ckp: made with ") and torch.__version__.split("+")[0] in line and "9.9" in line


def test_the_scaler_of_half_precision(tmp_path):
    """Its scale is restored. Without a scaler in the run or in the checkpoint, nothing happens."""
    net, optimiser, none = parts(settings())
    scaler, fresh = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (8.0, 1024.0))
    state = capture(AT, net, net, optimiser, scaler, UNREPORTED, DIGEST, settings())
    restore(state, "ckp", net, optimiser, none, DIGEST, settings())
    without = capture(AT, net, net, optimiser, none, UNREPORTED, DIGEST, settings())
    restore(without, "ckp", net, optimiser, fresh, DIGEST, settings())
    assert fresh.get_scale() == 1024
    restore(state, "ckp", net, optimiser, fresh, DIGEST, settings())
    assert fresh.get_scale() == 8
