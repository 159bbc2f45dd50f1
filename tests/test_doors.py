"""A new user's first tries: a folder without lists, incomplete lists, the embedding in Python."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import models
from data.transforms import Transforms
from thumbnails import TINY, TINY_TRAIN
from utils import checkpoint


def test_a_folder_of_images_is_a_data_set(run, image_folder, tmp_path, capsys):
    for name in ("train.txt", "test.txt"):
        (image_folder / name).unlink()
    run("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", image_folder / "results" / "run", "--epochs", 1)
    assert f"42 images of {image_folder}; " in capsys.readouterr().out  # 24 + 18
    run("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "again", "--epochs", 1)
    assert f"42 images of {image_folder}; " in capsys.readouterr().out


@pytest.mark.parametrize("test_list", ["test/class 0/0.jpg\n", "not a list", "gone.jpg 3\n"])
def test_training_does_not_read_the_test_list_unless_it_tests(run, refused, image_folder, tmp_path, test_list):
    (image_folder / "test.txt").write_text(test_list)
    flags = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1)
    run(*flags)
    assert "test.txt" in refused(*flags, "--eval_step", 1)


def test_testing_does_not_need_the_training_images(run, image_folder, tmp_path, capsys):
    run("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1)
    shutil.rmtree(image_folder / "train")
    run("test", "--data", image_folder, "--resume", tmp_path / "run", "--save_neighbours", tmp_path / "new" / "found.npz")
    assert "18 queries" in capsys.readouterr().out
    found = np.load(tmp_path / "new" / "found.npz")
    assert found["indices"].shape == found["similarities"].shape == (18, 16) and found["query"].tolist() == list(range(18))


@pytest.fixture
def trained(run, image_folder, tmp_path):
    """The checkpoint of a small run."""
    flags = (*TINY_TRAIN, "--net", "ResNet18", "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1)
    run("train", *flags)
    return checkpoint.path_of(str(tmp_path / "run"), 1)


def test_the_embedder_of_a_checkpoint_knows_its_crop_and_normalisation(trained, image_folder):
    """Paths, PIL images and arrays all give the embedding that the steps by hand give."""
    embedder = models.load(trained)
    paths = sorted((image_folder / "test").rglob("*.jpg"))
    embeddings = embedder.embed(paths, batch_size=5)
    assert embeddings.shape == (18, 16) and embeddings.dtype == np.float32 and not embedder.training
    crops = Transforms(32, 36)
    for path, row in zip(paths, embeddings):
        pixels = crops.centre_crop(crops.load(str(path))).double()
        mean, std = (
            torch.tensor([255 * x for x in numbers])[:, None, None]
            for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        features = embedder.features(((pixels - mean) / std).float()[None]).flatten(1)
        by_hand = embedder.classifier(features)[0]
        assert np.allclose(row, (by_hand / by_hand.norm()).detach().numpy(), atol=1e-5)
    pictures = [Image.open(path) for path in paths]
    assert np.allclose(embedder.embed(pictures), embeddings, atol=1e-6)
    assert np.allclose(embedder.embed(map(np.array, pictures)), embeddings, atol=1e-6)
    assert embedder.embed(str(paths[0])).shape == (1, 16) and embedder.embed([]).shape == (0, 16)
    pooled = embedder.embed(paths[:2], pooled=True)
    assert pooled.shape == (2, 512) and np.allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)


def test_frozen_needs_an_epoch_and_no_step(run, image_folder, tmp_path):
    """Its embedding ranks images as the pooled features do."""
    flags = ("--pretrained", "False", "--method", "frozen", "--epochs", 1, "--eval_step", 1, "--dim", 512)
    run("train", *TINY_TRAIN[: len(TINY)], *flags, "--data", image_folder, "--save_dir", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"epoch", "test"}]
    embedder = models.load(checkpoint.path_of(str(tmp_path / "run"), 1))
    paths = sorted((image_folder / "test").rglob("*.jpg"))
    a, b = embedder.embed(paths), embedder.embed(paths, pooled=True)
    assert np.allclose(a @ a.T, b @ b.T, atol=1e-4)
