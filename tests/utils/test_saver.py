"""The Saver: what a run writes, when it writes, and when it must not."""

import os
from types import SimpleNamespace

import pytest
import torch

from utils import checkpoint
from utils.checkpoint import Saver, find, load, save
from utils.errors import InputError, Interrupted, RunError


def state(epoch, step=0):
    return {"state_dict": {"w": torch.full((2,), float(epoch))}, "epoch": epoch, "step": step}


def epochs_in(folder):
    return [load(path)["epoch"] for path in checkpoint.all_in(str(folder))]


def test_keep_last(tmp_path):
    saver = Saver(str(tmp_path), lambda: state(epoch), keep_last=2)
    save(str(tmp_path / "latest.pth.tar"), state(7))
    kept = []
    for epoch in (9, 10, 11, 12):
        saver.epoch(epoch)
        kept.append(epochs_in(tmp_path))
    assert kept == [[9], [9, 10], [10, 11], [11, 12]] and (tmp_path / "latest.pth.tar").exists()
    epoch = 5  # the run went back, by --resume ckp_ep4.pth.tar
    saver.epoch(5)
    assert epochs_in(tmp_path) == [5, 11, 12]
    saver = Saver(str(tmp_path), lambda: state(13))
    saver.epoch(13)
    assert epochs_in(tmp_path) == [5, 11, 12, 13]


def test_the_rolling_checkpoint_is_written_when_due(tmp_path, monkeypatch):
    now, step = [1000.0], [0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    saver, never = (
        Saver(str(tmp_path / name), lambda: state(0, step[0]), minutes) for name, minutes in (("a", 2), ("b", 0))
    )
    (tmp_path / "a").mkdir()
    written = []
    for step[0], now[0] in enumerate([1000, 1119, 1120, 1130, 1239, 1240, 1241, 5000, 5119, 5120], 1):
        before = written[-1:]
        saver.after_step()
        never.after_step()
        if (tmp_path / "a" / "latest.pth.tar").exists():
            last = load(str(tmp_path / "a" / "latest.pth.tar"))["step"]
            written += [last] * ([last] != before)
    assert written == [3, 6, 8, 10] and not (tmp_path / "b").exists()


def test_a_checkpoint_of_an_epoch_puts_the_rolling_one_off(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    saver = Saver(str(tmp_path), lambda: state(1), 1)
    now[0] = 59
    saver.epoch(1)
    now[0] = 118
    saver.after_step()
    assert os.listdir(tmp_path) == ["ckp_ep1.pth.tar"]


def test_what_a_killed_write_left_goes(tmp_path):
    tmp_path = tmp_path / "a[b]*"  # this name could be taken for a pattern
    tmp_path.mkdir()
    for name in ("ckp_ep1.pth.tar.tmp123", "latest.pth.tar.tmp4", "ckp_ep1.pth.tar", "notes.tmp"):
        (tmp_path / name).touch()
    Saver(str(tmp_path), None, writes=False)
    assert len(os.listdir(tmp_path)) == 4
    Saver(str(tmp_path), None)
    assert sorted(os.listdir(tmp_path)) == ["ckp_ep1.pth.tar", "notes.tmp"]


@pytest.mark.parametrize(
    "error, rescued",
    [
        (Interrupted("by SIGTERM", 143), True),
        (InputError("a bad image"), True),
        (RunError("a full disk", rescue=True), True),
        (RunError("diverged"), False),
        (KeyError("a fault of ours"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_rescue(tmp_path, lines, error, rescued):
    saver = Saver(str(tmp_path), lambda: state(2, 5))
    with pytest.raises(type(error)) as caught, saver.rescue():
        raise error
    assert caught.value is error and os.listdir(tmp_path) == ["latest.pth.tar"] * rescued
    if rescued:
        assert find("yes", str(tmp_path))[1]["step"] == 5
        assert lines == [f"saved in {tmp_path}/latest.pth.tar; the same command goes on from there"]


def test_a_block_that_ends_well_is_not_rescued(tmp_path):
    with Saver(str(tmp_path), lambda: state(1)).rescue():
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("settings", [{"writes": False}, {"capture": lambda: None}])
def test_nothing_to_write(tmp_path, lines, settings):
    """Nothing is written by the other processes of a run, nor before the first step."""
    saver = Saver(str(tmp_path), **{"capture": lambda: state(1), "minutes": 1e-9, "keep_last": 1, **settings})
    saver.after_step()
    saver.epoch(1)
    with pytest.raises(InputError), saver.rescue():
        raise InputError("a bad image")
    assert not os.listdir(tmp_path) and not lines


def test_only_the_first_process_removes(tmp_path):
    for epoch in (1, 2):
        Saver(str(tmp_path), lambda: state(epoch)).epoch(epoch)
    Saver(str(tmp_path), None, keep_last=1, writes=False).epoch(3)
    assert epochs_in(tmp_path) == [1, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written_over_good_ones(tmp_path, bad):
    content = state(1)
    saver = Saver(str(tmp_path), lambda: content, minutes=1e-9)
    saver.after_step()
    content = {**state(2, 4), "state_dict": {"count": torch.tensor(3), "w": torch.tensor([1.0, bad])}}
    for write in (saver.after_step, lambda: saver.epoch(2)):
        with pytest.raises(RunError, match="epoch 3 step 4: weights are not finite: training has diverged") as caught:
            write()
        assert not caught.value.rescue
    with pytest.raises(RunError, match="diverged"), saver.rescue():
        raise InputError("a bad image")
    assert os.listdir(tmp_path) == ["latest.pth.tar"] and find("yes", str(tmp_path))[1]["epoch"] == 1


def test_a_removed_folder_is_made_again(tmp_path, lines):
    folder = tmp_path / "a" / "run"
    Saver(str(folder), lambda: state(1)).epoch(1)
    assert epochs_in(folder) == [1] and lines == [f"{folder}: was removed during the run; made again, for the checkpoint"]
