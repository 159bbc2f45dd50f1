"""The dry run: its estimates, the files that it leaves, and the settings that it refuses."""

import argparse
import math
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

from thumbnails import TINY, TINY_TRAIN
from utils import rehearsal
from utils.errors import RunError
from utils.rehearsal import check_disk, share_of_new
from utils.timing import duration


def parts_of(said):
    """Return {name: (times, seconds each)} of the lines of a dry run."""
    lines = re.findall(r"^  (\S.*?) +(\d+) x +([\d.]+) s$", said, re.MULTILINE)
    return {name: (int(times), float(seconds)) for name, times, seconds in lines}


@pytest.mark.parametrize("seed", range(3))
def test_the_share_of_new_views_is_that_of_draws(seed):
    rng = np.random.default_rng(seed)
    drawn, views = int(rng.integers(100, 5000)), int(rng.integers(50, 5000))
    seen = [len(np.unique(rng.integers(views, size=drawn))) / drawn for _ in range(50)]
    assert share_of_new(drawn, views) == pytest.approx(np.mean(seen), abs=0.01)
    assert share_of_new(drawn, math.inf) == 1


def test_a_disk_without_room_is_told_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal.shutil, "disk_usage", lambda path: SimpleNamespace(free=5.5e9))
    args = argparse.Namespace(save_dir=str(tmp_path), keep_last=0)
    assert check_disk(args, 10**9, 3) == "  disk: 5 checkpoints of 1000 MB take 5 GB; 5.5 GB are free"
    with pytest.raises(RunError, match="6 checkpoints of 1000 MB take 6 GB, but only 5.5 GB are free; make room"):
        check_disk(args, 10**9, 4)
    args.keep_last = 1
    assert "3 checkpoints" in check_disk(args, 10**9, 4)


def test_a_dry_run_counts_what_the_run_does_and_leaves_nothing(run, image_folder, tmp_path, capsys):
    flags = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 6, "--save_step", 4)
    run(*flags, "--eval_step", 2, "--dry_run")
    said = capsys.readouterr().out
    found = parts_of(said)
    counts = {name: times for name, (times, _) in found.items()}
    assert counts == {"start-up": 1, "a look": 3, "a step": 6, "a test": 3, "a checkpoint": 2}
    total = sum(times * seconds for times, seconds in found.values())
    (whole,) = re.findall(r"the whole run will take about (.+)", said)
    assert whole in [duration(total + rounding) for rounding in (-1, 0, 1)]
    assert not os.path.exists(tmp_path / "run") and not [name for name in os.listdir(tmp_path) if "dry_run" in name]

    run(*flags)
    said = capsys.readouterr().out
    assert said.count("clustered 24 images") == counts["a look"]
    assert len(re.findall(r"^epoch \d+/6 loss", said, re.MULTILINE)) == counts["a step"]
    assert sorted(name for name in os.listdir(tmp_path / "run") if "ep" in name) == ["ckp_ep4.pth.tar", "ckp_ep6.pth.tar"]


@pytest.mark.parametrize(
    "method, expected",
    [
        ("closed_form --readout closed_form", {"start-up", "a look", "the closed form", "a checkpoint"}),
        ("frozen", {"start-up", "a look", "a checkpoint"}),
        (
            "shared_neighbours --readout embedding --train_from layer3 --views 2 --k1 6 --near 0.9"
            " --batch_size 8 --num_instances 2",
            {"start-up", "a look", "a step", "a checkpoint"},
        ),
    ],
)
def test_other_methods(run, image_folder, tmp_path, capsys, method, expected):
    run("train", *TINY, "--pretrained", "False", "--method", *method.split(), "--epochs", 3, "--data", image_folder,
        "--save_dir", tmp_path / "run", "--dry_run")  # fmt: skip
    found = parts_of(capsys.readouterr().out)
    assert found.keys() == expected
    if "shared" in method:
        assert (found["a look"][0], found["a step"][0]) == (1, 30)
    assert not os.path.exists(tmp_path / "run")
