"""Properties of a run of every method. A run that is stopped and resumed is the same run, also with an unreadable image."""

from typing import NamedTuple

import pytest
import torch

from models import methods
from models.methods import shared_neighbours
from thumbnails import TINY, measured
from utils import checkpoint

CLUSTERS = "--num_instances 2 --num_clusters 4 --rot_batch 3"
NEIGHBOURS = "--num_instances 2 --k1 6 --near 0.9 --views 2 --readout closed_form"


class Case(NamedTuple):
    """A tiny run of a method."""

    flags: str
    said: str  # its log line about the 23 readable images
    looks: int  # how often this line occurs in four epochs
    logged: set[str]  # the measurements in the log of each step


RUNS = {  # a method, and a suffix that tells several runs of it apart
    "udml_ss": Case(f"{CLUSTERS} --up_step 3", "clustered 23 images into 4: ", 2, {"loss", "rotation_loss", "positive"}),
    "supervised": Case("--num_instances 2 --rot_batch 3", "", 0, {"loss", "rotation_loss", "positive"}),
    "rotation": Case("--num_instances 2 --rot_batch 3", "", 0, {"rotation_loss"}),
    "stml": Case(
        "--num_neighbours 2 --up_step 2 --g_dim 20",
        "found the 1 nearest neighbours of 23 images",
        2,
        {"loss", "contrastive", "distillation", "positive", "negative"},
    ),
    "cluster_contrast, dbscan": Case(
        "--num_instances 2 --up_step 3 --k1 6 --k2 2 --min_samples 2 --eps 0.5",
        "clusters of",
        2,
        {"loss", "positive", "negative"},
    ),
    "cluster_contrast, kmeans": Case(
        "--num_instances 2 --up_step 3 --grouping kmeans --num_clusters 4",
        "clustered 23 images into 4: ",
        2,
        {"loss", "positive", "negative"},
    ),
    "shared_neighbours": Case(NEIGHBOURS, "of 23 have at least one", 1, {"loss", "positive"}),
    "shared_neighbours, all of the net": Case(
        f"{NEIGHBOURS} --train_from all", "of 23 have at least one", 1, {"loss", "positive"}
    ),
}


def test_every_method_that_trains_is_here():
    assert {name.split(",")[0] for name in RUNS} == {*methods.names()} - {"frozen", "closed_form"}


def same(one, other):
    """Return True if two states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def unreadable_are_left_out(state):
    """Check that the ninth image, which is unreadable, is in no cluster and is no neighbour, and that a memory has one
    row a cluster."""
    neighbours = state.get("neighbours")
    alone = neighbours is None or (neighbours[8] < 0).all() and not (neighbours == 8).any()
    labels = state.get("labels")
    memory = state.get("_extra_state", {}).get("memory")
    return alone and (memory is None or labels[8] == -1 and len(memory) == labels.max() + 1 > 1)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_stops_goes_on_exactly_without_what_cannot_be_read(
    run, image_folder, tmp_path, capsys, monkeypatch, name
):
    """Four epochs in one run equal one epoch and three more: weights, the method's state, optimiser and log."""
    case, method = RUNS[name], name.split(",")[0]
    monkeypatch.setattr(shared_neighbours, "STEPS", 2)
    (image_folder / "train/class 1/2.jpg").write_bytes(b"no image")
    flags = (*TINY, "--method", method, *"--pretrained False --batch_size 8 --print_freq 1".split(), *case.flags.split())
    flags = ("train", *flags, "--on_bad_image", "skip", "--data", image_folder)
    run(*flags, "--save_dir", tmp_path / "whole", "--epochs", 4, "--eval_step", 4)
    out = capsys.readouterr().out
    assert not case.said or out.count(case.said) == case.looks
    for epochs in (1, 4):
        run(*flags, "--save_dir", tmp_path / "parts", "--epochs", epochs, "--eval_step", 4)

    whole, parts = (checkpoint.load_to_resume(checkpoint.path_of(str(tmp_path / name), 4)) for name in ("whole", "parts"))
    for part in ("state_dict", "method", "optimiser"):
        assert same(whole[part], parts[part]), part
    assert len(whole["optimiser"]["state"]) > 0
    assert unreadable_are_left_out(whole["method"])
    assert not any("closed_form" in key for key in whole["method"])
    assert any(key.startswith("closed_form.") for key in whole["state_dict"]) == ("closed_form" in case.flags)
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")
    *steps, tested = measured(tmp_path / "whole")
    assert {line["epoch"] for line in steps} == {1, 2, 3, 4} and "test" in tested
    assert all(case.logged <= line.keys() for line in steps)


def test_states_that_differ_are_seen():
    state = {"a": [torch.ones(2), {"b": 1}]}
    assert same(state, {"a": [torch.ones(2), {"b": 1}]})
    assert not same(state, {"a": [torch.tensor([1, 1 + 1e-7]), {"b": 1}]}) and not same(state, {"a": [torch.ones(2)]})
