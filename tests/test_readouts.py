"""The closed form in train.py and test.py: checkpoints, rows of the table, resumed runs."""

import json
import re

import numpy as np
import pytest
import torch

import models
import test as test_program
from data.dataset import read_train
from data.images import Images
from data.views import ImageBatches
from evaluations import label_free
from evaluations.report.folder import rows_of
from evaluations.retrieval import columns
from models import choice, readout
from models.readout import Fitter
from thumbnails import TINY, TINY_TRAIN
from utils import checkpoint, device
from utils.errors import InputError
from utils.run import Run

SMALL = (*TINY, "--net", "timm/test_resnet", "--pretrained", "False", "--width", "64", "--origin_width", "70")


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """Reduce to few channels: the last maps have 2 x 2 positions, and with more channels roots would amplify rounding
    errors."""
    monkeypatch.setattr(readout, "REDUCED", 2)


def products(rows):
    return rows @ rows.T


def test_a_checkpoint_brings_the_closed_form_back(run, image_folder, tmp_path, capsys):
    save_dir = tmp_path / "run"
    run("train", *SMALL, "--method", "closed_form", "--data", image_folder, "--save_dir", save_dir, "--batch_size", 7)
    embedder = models.load(checkpoint.path_of(str(save_dir), 1))
    assert (
        embedder.kind == "closed_form"
        and models.load(checkpoint.path_of(str(save_dir), 1), readout="embedding").kind == "embedding"
    )
    held_out = sorted(map(str, (image_folder / "test").rglob("*.jpg")))
    embedded = embedder.embed(held_out)

    listed = [str(image_folder / line.rsplit(" ", 1)[0]) for line in (image_folder / "train.txt").read_text().splitlines()]
    # If two weights agree equally well, rounding chooses. So the second fit only gets the weight that the first one chose.
    chosen = [float(embedder.closed_form.weights[1])]
    Fitter(ImageBatches(Images(listed, embedder.transforms), 7), device.choose("cpu"), weights=chosen)(embedder)
    np.testing.assert_allclose(products(embedder.embed(held_out)), products(embedded), atol=2e-4)

    capsys.readouterr()
    flags = ("--data", image_folder, "--resume", save_dir, "--save_json", tmp_path / "found.json")
    run("test", *flags, "--readout", "embedding", "closed_form")
    said = capsys.readouterr().out
    assert "\nepoch 1   " in said and "\nepoch 1, closed form   " in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["readout"] for row in found] == ["embedding", "closed_form"]
    similar = products(embedded) - 2 * np.eye(18)
    labels = np.repeat(range(3), 6)  # three classes with six images each
    assert found[1]["recall"]["1"] == pytest.approx(np.mean(labels[similar.argmax(1)] == labels))


def test_the_frozen_backbone_and_its_closed_form(run, image_folder, capsys):
    net = ("--net", "EfficientNet-Lite0", "--width", 32, "--origin_width", 36, "--dim", 16, "--device", "cpu")
    run("test", *net, "--data", image_folder, "--pretrained", "True", "--readout", "closed_form")
    said = capsys.readouterr().out
    assert "\nfrozen backbone   " in said and "\nfrozen backbone, closed form   " in said


def test_reranked_rows_stand_beside_plain_ones_and_change_none(run, image_folder, tmp_path, capsys):
    net = ("--net", "EfficientNet-Lite0", "--width", 32, "--origin_width", 36, "--dim", 16, "--device", "cpu")
    results = []
    for more in ((), ("--rerank",)):
        run("test", *net, "--data", image_folder, "--pretrained", "True", "--save_json", tmp_path / "found.json", *more)
        results.append(json.loads((tmp_path / "found.json").read_text()))
    assert "\nfrozen backbone, reranked   " in capsys.readouterr().out
    (plain,), (both,) = results
    after = both.pop("reranked")
    assert both == plain and after.keys() >= {"recall", "nmi"} and after["recall"] != plain["recall"]
    marked = [{**plain, "reranked": after}]
    assert rows_of(marked) == rows_of([plain]) != [] and columns(marked[0]) == columns(plain)


def test_select_says_which_net_to_take_also_without_a_test_list(run, image_folder, tmp_path, capsys):
    small = ("--width", 32, "--origin_width", 36, "--device", "cpu")
    flags = (*TINY_TRAIN, "--net", "EfficientNet-Lite0", *small, "--pretrained", "True", "--save_step", 1, "--epochs", 2)
    run("train", *flags, "--data", image_folder, "--save_dir", tmp_path / "run")
    test = ("test", "--data", image_folder, "--resume", tmp_path / "run", *small[4:], "--select")
    capsys.readouterr()
    run(*test, "--save_json", tmp_path / "with.json")
    said = capsys.readouterr().out
    assert "without labels, by 24 training images:\n" in said and "\nfrozen backbone   " in said
    assert "judged by the neighbours that the net before training finds in images of 224 pixels\n" in said
    judged = json.loads((tmp_path / "with.json").read_text())
    assert [entry["epoch"] for entry in judged] == [1, 2] and all("recall" in entry for entry in judged)

    (image_folder / "test.txt").unlink()
    run(*test, "--pretrained", "True", "--save_json", tmp_path / "without.json")
    said = capsys.readouterr().out
    first, *alone = json.loads((tmp_path / "without.json").read_text())
    assert [entry["epoch"] for entry in alone] == [1, 2] and "recall" not in alone[0] and not first["epoch"]
    assert [entry["label_free"] for entry in alone] == [entry["label_free"] for entry in judged]

    paths = read_train(str(image_folder)).paths  # by hand: frozen nets at both widths, and the trained ones
    frozen = [models.create("EfficientNet-Lite0", 512, True, width=side, origin_width=side * 9 // 8) for side in (224, 32)]
    trained = [models.load(checkpoint.path_of(str(tmp_path / "run"), epoch)) for epoch in (1, 2)]
    judge, *looks = (look_through(net.eval(), paths) for net in (*frozen, *trained))
    for entry, look in zip((first, *alone), looks, strict=True):
        expected = label_free.label_free(look.agreement, look.nearest, judge.chosen)
        assert entry["label_free"] == pytest.approx(expected, abs=0.02) and 0.1 < expected["overlap"] < 1

    scores = {"the frozen backbone": first, "epoch 1": alone[0], "epoch 2": alone[1]}
    best = max(scores, key=lambda name: scores[name]["label_free"]["overlap"])
    assert f"by overlap the best is {best}".replace("the frozen", "frozen") in said


def test_select_judges_the_others_where_a_net_makes_all_images_alike(run, image_folder, tmp_path, capsys):
    small = ("--width", 32, "--origin_width", 36, "--device", "cpu")
    flags = (*TINY_TRAIN, "--net", "EfficientNet-Lite0", *small, "--pretrained", "True", "--save_step", 1, "--epochs", 2)
    run("train", *flags, "--data", image_folder, "--save_dir", tmp_path / "run")
    path = checkpoint.path_of(str(tmp_path / "run"), 2)
    state = checkpoint.load(path)
    for value in state["state_dict"].values():
        value.zero_()
    torch.save(state, path)
    (image_folder / "test.txt").unlink()
    test = ("test", "--data", image_folder, "--resume", tmp_path / "run", "--pretrained", "True", *small[4:], "--select")
    run(*test, "--save_json", tmp_path / "result.json")
    _, intact, alike = [entry["label_free"] for entry in json.loads((tmp_path / "result.json").read_text())]
    assert intact["overlap"] > 0.1 and set(alike.values()) == {0}


def look_through(net, paths):
    compute = device.choose("cpu")
    return Fitter(ImageBatches(Images(paths, net.transforms), 100), compute).look(compute.place(net))


def test_select_refuses_a_net_that_takes_images_of_one_size(run, image_folder, monkeypatch):
    monkeypatch.setattr(test_program, "judging_width", lambda embedder: embedder.transforms.width)
    flags = ("--net", "EfficientNet-Lite0", "--width", 32, "--origin_width", 36, "--device", "cpu", "--pretrained", "True")
    with pytest.raises(InputError, match="EfficientNet-Lite0 takes images of 32 pixels only"):
        run("test", *flags, "--data", image_folder, "--select")


def test_select_names_an_image_that_can_be_read_at_one_size_only(run, image_folder, monkeypatch):
    class Fickle(Fitter):
        def look(self, embedder):
            large = embedder.transforms.width > 32
            return super().look(embedder)._replace(unreadable=(3,) if large else ())

    monkeypatch.setattr(test_program, "Fitter", Fickle)
    flags = ("--net", "EfficientNet-Lite0", "--width", 32, "--origin_width", 36, "--device", "cpu", "--pretrained", "True")
    with pytest.raises(
        InputError, match=re.escape(f"{read_train(str(image_folder)).paths[3]}: can be read at one size only")
    ):
        run("test", *flags, "--data", image_folder, "--select")


def test_training_does_not_notice_the_readout(run, image_folder, tmp_path, capsys, monkeypatch):
    """One run fits a closed form at epoch 1, stops and goes on. The other is not stopped and fits none. Both learn the
    same."""
    outdated, backward = [], Run.backward
    monkeypatch.setattr(
        Run, "backward", lambda self, *a: (outdated.append(self.method.trained().closed_form), backward(self, *a))
    )
    flags = ("train", *TINY_TRAIN, *SMALL[len(TINY) :], "--net", "timm/test_resnet", "--data", image_folder)
    run(*flags, "--save_dir", tmp_path / "whole", "--epochs", 2)
    for epochs in (1, 3):
        run(*flags, "--save_dir", tmp_path / "parts", "--epochs", epochs, "--save_step", 1, "--readout", "closed_form")
    assert len(outdated) >= 5 and not any(outdated)
    whole, first, second = (
        checkpoint.load(checkpoint.path_of(str(tmp_path / folder), epoch))
        for folder, epoch in (("whole", 2), ("parts", 1), ("parts", 2))
    )
    assert whole["method"].keys() == second["method"].keys()
    assert all(torch.equal(whole["method"][key], second["method"][key]) for key in whole["method"])
    assert not any("closed_form" in key for key in whole["state_dict"])
    assert whole["agreement_before"] == {} and list(first["agreement_before"]) == list(choice.WEIGHTS)
    assert first["agreement_before"] == second["agreement_before"]  # measured once, before the first step
    loaded = models.load(checkpoint.path_of(str(tmp_path / "parts"), 2))
    assert loaded.agreement_before == first["agreement_before"]
    for key in ("closed_form.mean", "closed_form.projection"):  # each closed form belongs to the weights of its epoch
        assert not torch.equal(first["state_dict"][key], second["state_dict"][key])

    capsys.readouterr()
    run("test", "--data", image_folder, "--resume", tmp_path / "whole", "--readout", "closed_form")
    assert "\nepoch 2, closed form   " in capsys.readouterr().out
