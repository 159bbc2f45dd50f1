"""The recipes of CONTRIBUTING.md: their code is read from that page, written where the page says, and trained.

If a recipe needed more than its one file and its one line, it would fail here.
"""

import math
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import losses
import models
from data import dataset
from models import methods
from thumbnails import TINY, TINY_TRAIN, make_image_folder, measured
from utils import checkpoint
from utils.errors import InputError

ROOT = Path(__file__).parents[1]
FILE = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.M | re.S)  # a path, and the file's content
LINE = re.compile(r"\b[Ii]n `(\w+)` of `(\S+\.py)`(?:, after `(import .+?|from .+?)`)?: `(.+)`$", re.M)

# Flags of a run of the toy method, all of which every method has.
SMALL = (*TINY, *"--net timm/test_resnet --pretrained False --batch_size 8 --lr 1e-4 --print_freq 1".split())


class Recipe(NamedTuple):
    """The files and lines that one section tells the reader to write."""

    files: list[tuple[str, str]]  # (path, content)
    lines: list[tuple[str, str, str, str]]  # (dict, the file it is in, an import to add or "", line)


def recipes():
    """title -> Recipe"""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {}
    for section in re.split(r"^### ", page, flags=re.M)[1:]:
        title, _, text = section.partition("\n")
        text = re.split(r"^## ", text, flags=re.M)[0]
        found[title] = Recipe(FILE.findall(text), LINE.findall(text))
    return found


def module_of(path):
    """models/methods/__init__.py -> models.methods"""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture
def follow(monkeypatch, tmp_path):
    """follow(title) does what the recipe says, until the test ends. Its files go to folders outside the project."""
    added = []

    def do(title):
        recipe = recipes()[title]
        for path, content in recipe.files:
            assert not (ROOT / path).exists()
            file = tmp_path / "added" / path
            file.parent.mkdir(parents=True)
            file.write_text(content)
            folder = import_module(module_of(str(Path(path).parent)))
            monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(file.parent)])
            added.append((folder, module_of(path)))
        for registry, path, above, line in recipe.lines:
            module = import_module(module_of(path))
            names = dict(vars(module))
            exec(above, names)
            ((name, value),) = eval(f"{{{line}}}", names).items()
            assert name not in getattr(module, registry)
            monkeypatch.setitem(getattr(module, registry), name, value)

    yield do
    for folder, name in added:
        sys.modules.pop(name, None)
        vars(folder).pop(name.rpartition(".")[2], None)


def state_of(save_dir, epoch):
    return checkpoint.load(checkpoint.path_of(str(save_dir), epoch))


@pytest.mark.parametrize("title, files", [("A method", 1), ("A backbone", 1), ("A loss", 1), ("A data set", 0)])
def test_a_recipe_is_one_file_and_one_line(title, files):
    recipe = recipes()[title]
    assert (len(recipe.files), len(recipe.lines)) == (files, 1)


def test_there_are_no_recipes_that_are_not_tested():
    assert set(recipes()) == {"A method", "A backbone", "A loss", "A data set"}


# ---- a method -------------------------------------------------------------------------------------------------------


def train(run, folder, save_dir, *more):
    run("train", "--method", "instances", *SMALL, "--data", folder, "--save_dir", save_dir, *more)


def test_a_method_shows_its_flag_in_the_help(follow, run, capsys):
    follow("A method")
    with pytest.raises(SystemExit) as left:
        run("train", "--method", "instances", "--help")
    out = capsys.readouterr().out
    assert left.value.code == 0 and "--temperature" in out and "lower for finer differences" in out
    assert "closed_form, instances" in " ".join(out.split()) and "--num_clusters" not in out


def test_a_method_trains_is_logged_tested_and_loaded(follow, run, image_folder, tmp_path, capsys):
    follow("A method")
    flags = "--epochs 3 --save_step 1 --eval_step 3 --temperature 0.2 --lr 1e-3".split()
    train(run, image_folder, tmp_path / "run", *flags)
    assert "temperature=0.2" in capsys.readouterr().out
    *steps, last = measured(tmp_path / "run")
    assert last.keys() == {"epoch", "test"} and [line["epoch"] for line in steps] == sorted(6 * [1, 2, 3])
    assert all({"loss", "positive", "negative"} <= line.keys() for line in steps)
    first, last = ([line["loss"] for line in steps if line["epoch"] == epoch] for epoch in (1, 3))
    assert np.mean(last) < np.mean(first)  # it learns to tell the images apart

    memory = state_of(tmp_path / "run", 3)["method"]["memory"]
    assert memory.shape == (24, 16) and torch.allclose(memory.norm(dim=1), torch.ones(24))
    assert memory.ne(state_of(tmp_path / "run", 1)["method"]["memory"]).any(1).all()  # every image was drawn

    saved = checkpoint.path_of(str(tmp_path / "run"), 3)
    embedder = models.load(saved)
    for key, value in embedder.state_dict().items():
        assert torch.equal(value, state_of(tmp_path / "run", 3)["method"][f"embedder.{key}"]), key
    embeddings = embedder.embed(sorted((image_folder / "test").rglob("*.jpg")))
    assert embeddings.shape == (18, 16) and np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    run("test", "--data", image_folder, "--resume", saved)
    assert "18 queries" in capsys.readouterr().out


def test_a_method_that_stops_goes_on_exactly(follow, run, image_folder, tmp_path):
    """Four epochs in one run equal two epochs and two more: weights, memory, optimiser and log."""
    follow("A method")
    train(run, image_folder, tmp_path / "whole", "--epochs", 4)
    for epochs in (2, 4):
        train(run, image_folder, tmp_path / "parts", "--epochs", epochs)
    whole, parts = (state_of(tmp_path / name, 4) for name in ("whole", "parts"))
    assert "memory" in whole["method"]
    for name in ("state_dict", "method"):
        assert whole[name].keys() == parts[name].keys()
        for key, value in whole[name].items():
            assert torch.equal(value, parts[name][key]), key
    moments = [state["optimiser"]["state"] for state in (whole, parts)]
    assert moments[0].keys() == moments[1].keys() and len(moments[0]) > 0
    for parameter, values in moments[0].items():
        assert all(torch.equal(value, moments[1][parameter][key]) for key, value in values.items())
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")


def test_the_loss_of_a_method_by_hand(follow, image_folder):
    """The loss is -log of the softmax over the memory, image by image. Each row of the memory moves to its image's two
    crops."""
    follow("A method")
    images = dataset.read_train(str(image_folder))
    embedder = models.create("timm/test_resnet", 16, pretrained=False)
    method = methods.create("instances", embedder, images, methods.default_settings("instances", batch_size=8))
    (draws, *_), before = method.draws(1), method.memory.clone()
    assert [draw.crop for draw in draws] == 4 * [0, 1] and len({draw.index for draw in draws}) == 4
    index = torch.tensor([draw.index for draw in draws])
    rows = torch.nn.functional.normalize(torch.randn(8, 16))
    batch = type("Batch", (), {"index": index})
    expected = 0.0
    for row, i in zip(rows, index):
        similar = [float(row @ other) / 0.07 for other in before]
        expected += (math.log(sum(map(math.exp, similar))) - similar[i]) / 8
    loss, shown = method.loss({"embedding": rows}, batch)
    assert float(loss) == pytest.approx(expected, rel=1e-5) and shown["loss"] is loss
    method.after_step({"embedding": rows}, batch)
    for i in range(24):
        moved = before[i] + sum(row for row, at in zip(rows, index) if at == i)
        assert torch.allclose(method.memory[i], moved / moved.norm(), atol=1e-6)


# ---- a backbone -----------------------------------------------------------------------------------------------------


def test_a_backbone_trains_and_is_loaded(follow, run, refused, image_folder, tmp_path, capsys):
    follow("A backbone")
    assert "Tiny" in models.names()
    run("train", *TINY_TRAIN, "--net", "Tiny", "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1)
    saved = checkpoint.path_of(str(tmp_path / "run"), 1)
    embedder = models.load(saved)
    assert embedder.settings["net"] == "Tiny" and embedder.feature_dim == 128
    assert embedder.embed(image_folder / "test" / "class 0" / "0.jpg").shape == (1, 16)
    run("test", "--data", image_folder, "--resume", saved)
    assert "18 queries" in capsys.readouterr().out
    other = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "other")
    assert "did you mean Tiny?" in refused(*other, "--net", "Tinny")


def test_a_backbone_starts_from_a_weights_file(follow, tmp_path):
    follow("A backbone")
    with pytest.raises(InputError, match="Tiny: no weights of it are published; give a file"):
        models.create("Tiny", 16)
    source = models.create("Tiny", 16, pretrained=False)
    torch.save(source.features.state_dict(), tmp_path / "tiny.pth")
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(models.create("Tiny", 16, weights=tmp_path / "tiny.pth").pool(images), source.pool(images))
    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="other.pth"):
        models.create("Tiny", 16, weights=tmp_path / "other.pth")


# ---- a loss ---------------------------------------------------------------------------------------------------------


def test_a_loss_trains(follow, run, refused, image_folder, tmp_path):
    follow("A loss")
    flags = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 2)
    run(*flags, "--loss", "Cosine")
    assert all(0 < line["loss"] < 3 for line in measured(tmp_path / "run"))
    assert "Cosine" in refused(*flags, "--loss", "Cosin")


def test_a_loss_is_that_of_torch(follow):
    """All anchors have equally many positives, and equally many negatives. So the mean over pairs is a mean of means."""
    follow("A loss")
    embeddings = torch.nn.functional.normalize(torch.randn(12, 8))
    labels = torch.arange(4).repeat(3)
    a, b = (~torch.eye(12, dtype=torch.bool)).nonzero().T
    target = torch.where(labels[a] == labels[b], 1.0, -1.0)
    peer = torch.nn.CosineEmbeddingLoss(reduction="none")(embeddings[a], embeddings[b], target)
    expected = peer[target > 0].mean() + peer[target < 0].mean()
    assert float(losses.create("Cosine")(embeddings, labels)) == pytest.approx(float(expected), abs=1e-6)


# ---- a data set -----------------------------------------------------------------------------------------------------


def test_a_data_set_trains_and_tests(follow, run, refused, tmp_path, capsys):
    flags = ("--data", "flowers", "--data_root", tmp_path)
    train = ("train", *TINY_TRAIN, *flags, "--save_dir", tmp_path / "run", "--epochs", 1)
    make_image_folder(tmp_path / "Flowers102")
    assert "--data flowers: unknown" in refused(*train)
    follow("A data set")
    run(*train, "--eval_step", 1)
    assert f"24 images of {tmp_path / 'Flowers102' / 'train.txt'}" in capsys.readouterr().out
    run("test", *flags, "--resume", tmp_path / "run")
    assert "18 queries" in capsys.readouterr().out
