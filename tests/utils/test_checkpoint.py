"""Checkpoints: whole or not at all, and nothing in them runs."""

import os
import pickle

import pytest
import torch

from utils import checkpoint
from utils.errors import InputError


def test_round_trip_and_order(tmp_path):
    for epoch in (100, 5, 50):
        checkpoint.save(checkpoint.path_of(str(tmp_path), epoch), {"state_dict": {"w": torch.ones(2)}, "epoch": epoch})
    (tmp_path / "ckp_epX.pth.tar").touch()
    assert [checkpoint.load(path)["epoch"] for path in checkpoint.all_in(str(tmp_path))] == [5, 50, 100]


def test_an_interrupted_write_leaves_the_old_one(tmp_path, monkeypatch):
    path = checkpoint.path_of(str(tmp_path), 1)
    checkpoint.save(path, {"state_dict": {}, "epoch": 1})

    def full_disk(state, file):
        file.write(b"half a check")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError):
        checkpoint.save(path, {"state_dict": {}, "epoch": 2})
    assert checkpoint.load(path)["epoch"] == 1 and os.listdir(tmp_path) == ["ckp_ep1.pth.tar"]


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("save", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_code_in_a_checkpoint_does_not_run(tmp_path, save):
    save({"state_dict": Payload(str(tmp_path / "ran")), "epoch": 1}, tmp_path / "ckp_ep1.pth.tar")
    with pytest.raises(InputError, match="ckp_ep1.pth.tar: not a readable checkpoint"):
        checkpoint.load(str(tmp_path / "ckp_ep1.pth.tar"))
    assert not (tmp_path / "ran").exists()


def test_other_files_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("list.pth", "missing.pth"):
        with pytest.raises(InputError, match=name):
            checkpoint.load(str(tmp_path / name))
