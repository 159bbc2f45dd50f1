"""The dry run: its estimates, the files that it leaves, and the settings that it refuses."""

import argparse
import math
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

import train
from models.activations import below_cut
from thumbnails import TINY, TINY_TRAIN
from utils import rehearsal
from utils.errors import RunError
from utils.rehearsal import check_disk, new_views
from utils.timing import duration


def parts_of(said):
    """Return {name: (times, seconds each)} of the lines of a dry run."""
    lines = re.findall(r"^  (\S.*?) +(\d+) x +([\d.]+) s$", said, re.MULTILINE)
    return {name: (int(times), float(seconds)) for name, times, seconds in lines}


@pytest.mark.parametrize("seed", range(3))
def test_the_number_of_new_views_is_that_of_draws(seed):
    rng = np.random.default_rng(seed)
    drawn, views = int(rng.integers(100, 5000)), int(rng.integers(50, 5000))
    seen = [len(np.unique(rng.integers(views, size=drawn))) for _ in range(50)]
    assert new_views([drawn], views) == pytest.approx(np.mean(seen), abs=0.01 * drawn)
    assert new_views([drawn, drawn], views) == pytest.approx(2 * np.mean(seen), abs=0.02 * drawn)  # two rotations
    assert new_views([drawn], math.inf) == drawn and new_views([], views) == 0


def test_a_disk_without_room_is_told_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal.shutil, "disk_usage", lambda path: SimpleNamespace(free=5.5e9))
    args = argparse.Namespace(save_dir=str(tmp_path), keep_last=0)
    assert check_disk(args, 10**9, 3) == "  disk: 5 checkpoints of 1000 MB take 5 GB; 5.5 GB are free"
    with pytest.raises(RunError, match="6 checkpoints of 1000 MB take 6 GB, but only 5.5 GB are free; make room"):
        check_disk(args, 10**9, 4)
    args.keep_last = 1
    assert "3 checkpoints" in check_disk(args, 10**9, 4)
    line = check_disk(args, 10**9, 4, 960 * 10**6)
    assert line == "  disk: 3 checkpoints of 1000 MB and 960 MB beside them take 4 GB; 5.5 GB are free"


def test_kept_activations_are_in_the_forecast_and_count_where_they_share_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal.shutil, "disk_usage", lambda path: SimpleNamespace(free=5.5e9))
    args = argparse.Namespace(save_dir=str(tmp_path), keep_last=1, features_dir=None)
    line = "  disk: 3 checkpoints of 1000 MB take 3 GB, kept activations about 0.16 GB; 5.5 GB are free"
    assert check_disk(args, 10**9, 4, 0, 160 * 10**6) == line
    with pytest.raises(RunError, match="take 3 GB, kept activations about 3 GB, but only 5.5 GB are free"):
        check_disk(args, 10**9, 4, 0, 3 * 10**9)
    args.features_dir = "/proc"  # another disk
    assert "kept activations about 3 GB; 5.5 GB are free" in check_disk(args, 10**9, 4, 0, 3 * 10**9)


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


@pytest.mark.parametrize(
    "method",
    [
        "shared_neighbours --k1 6 --near 0.9 --batch_size 8 --num_instances 2",
        "udml_ss --num_clusters 4 --up_step 2 --batch_size 8 --num_instances 2 --rot_batch 3",
    ],
)
def test_the_forecast_of_kept_activations_is_what_the_run_keeps(run, image_folder, tmp_path, capsys, monkeypatch, method):
    """Some views are drawn again, and one method also keeps rotations and central crops."""
    inputs = []
    monkeypatch.setattr(train, "below_cut", lambda *args: inputs.append(below_cut(*args)) or inputs[-1])
    flags = ("train", *TINY, "--pretrained", "False", "--method", *method.split(), "--epochs", 4, "--data", image_folder)
    flags = (*flags, *"--readout embedding --train_from layer3 --views 3".split(), "--save_dir", tmp_path / "run")
    run(*flags, "--dry_run")
    (forecast,) = re.findall(r"kept activations about (\S+) GB", capsys.readouterr().out)
    run(*flags)
    kept = inputs[-1]._used * 2 * np.prod(inputs[-1]._kept.shape[1:])
    assert float(forecast) * 1e9 == pytest.approx(kept, rel=0.1)
