"""The model of a gallery: engines, other checkpoints, rows and fits of older versions."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from made_galleries import at_put, by_two, holds, many, refusal, same_rows
from PIL import Image

import models
from data.pixels import PIXELS
from galleries import photo, photos
from gallery import model as gallery_model, model_choice, renew
from gallery.store import Gallery
from models import exported, readout
from utils import checkpoint
from utils.errors import Interrupted


@pytest.mark.parametrize("head", ["pooled", "closed_form"])
def test_onnx_embeds_without_a_pass_by_pytorch(embed, folder, graphs, tmp_path, monkeypatch, head):
    """PyTorch's convolutions are counted from the first image to the last. Its rows by the same model are the same."""
    many(folder)
    Image.new("RGB", (48, 40)).save(folder / "black.jpg")
    counts, embedded = [], renew.embedded

    def counted(*arguments):
        seen = lambda module, *_: counts.append(isinstance(module, torch.nn.Conv2d))
        hook = torch.nn.modules.module.register_module_forward_hook(seen)
        yield from embedded(*arguments)
        hook.remove()

    monkeypatch.setattr(renew, "embedded", counted)
    fast = embed("--engine", "onnx", "--head", head)
    assert sum(counts) == 0 and len(list(graphs.iterdir())) == 1
    expected = gallery_model.of_gallery(fast).embed(fast.paths)
    assert len(fast) == 17 and abs(fast.embeddings - expected).max() <= 1e-4
    embed("--engine", "torch", "--head", head, out=tmp_path / "slow")
    assert sum(counts) > 0


def test_a_gallery_takes_rows_of_either_engine(embed, folder, graphs):
    before = embed("--engine", "torch")
    photo(folder / "new.jpg", 70)
    both = embed("--engine", "onnx")
    assert embed.taken == ["new.jpg"] and both.about["model"] == before.about["model"]
    again = embed("--engine", "torch", "--again")
    assert same_rows(both, again, tolerance=1e-4)


def test_two_processes_write_one_graph(embed, folder, graphs, tmp_path, monkeypatch):
    """The second waits for the first."""
    many(folder)
    written, write = tmp_path / "written", exported.write

    def writing(*arguments, **more):
        with open(written, "a") as file:
            file.write("a graph\n")
        write(*arguments, **more)

    monkeypatch.setattr(exported, "write", writing)
    assert by_two(monkeypatch, lambda: embed("--engine", "onnx", "--batch_size", 4)) == [0, 0]
    assert written.read_text() == "a graph\n"
    one = embed("--engine", "torch", out=tmp_path / "one")
    assert same_rows(Gallery(tmp_path / "gallery"), one, tolerance=1e-4)


def test_another_checkpoint_is_refused_and_again_takes_it(embed, folder, tmp_path, checkpoints):
    one, two, _ = checkpoints
    gallery = embed("--checkpoint", one)
    assert gallery.name == "trained" and gallery.about["kind"] == "embedding"
    paths = sorted(map(str, folder.rglob("*.jpg")))
    assert np.allclose(gallery.embeddings, models.load(one).embed(paths), atol=1e-5)
    photo(folder / "new.jpg", 50)
    message = refusal(lambda: embed("--checkpoint", two))
    what = "holds embeddings of another model (checkpoint); give another folder, or --again to embed all anew"
    assert message == f"--out {tmp_path}/gallery: {what}"
    assert "checkpoint" in refusal(embed) and "(head)" in refusal(lambda: embed("--checkpoint", one, "--head", "pooled"))
    assert Gallery(tmp_path / "gallery").stamp == gallery.stamp
    shutil.copy(one, tmp_path / "moved.pth.tar")
    embed("--checkpoint", tmp_path / "moved.pth.tar")  # its content identifies it
    assert embed.taken == ["new.jpg"]
    gallery = embed("--checkpoint", two, "--again")
    assert len(embed.taken) == 6 and np.allclose(gallery.embeddings, models.load(two).embed(gallery.paths), atol=1e-5)
    assert np.allclose(gallery_model.of_gallery(gallery).embed(gallery.paths[2]), gallery.embeddings[2:3], atol=1e-5)
    assert embed("--checkpoint", two).stamp == gallery.stamp


def test_stopped_in_the_midst_of_again(embed, folder, tmp_path, checkpoints, monkeypatch):
    """The same command goes on. The previous command still finds its gallery unchanged."""
    one, two, _ = checkpoints
    old = embed("--checkpoint", one)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--checkpoint", two, "--again", "--batch_size", 2)
    assert embed("--checkpoint", one).stamp == old.stamp and embed.taken == []
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--checkpoint", two, "--again", "--batch_size", 2)
    gallery = embed("--checkpoint", two, "--again", "--batch_size", 2)
    assert len(embed.taken) <= 3 and np.allclose(gallery.embeddings, models.load(two).embed(gallery.paths), atol=1e-5)


def test_again_embeds_all_anew_by_the_same_model_too(embed, folder, checkpoints):
    """This repairs damage that nothing shows."""
    gallery = embed("--checkpoint", checkpoints[0])
    rows, path = np.array(gallery.embeddings), Path(gallery.folder, "embeddings.npy")
    path.write_bytes(path.read_bytes()[:-64] + np.ones(16, np.float32).tobytes())
    assert not np.array_equal(Gallery(gallery.folder).embeddings, rows)
    photo(folder / "new.jpg", 50)
    again = embed("--checkpoint", checkpoints[0], "--again")
    assert len(embed.taken) == 6 and np.allclose(again.embeddings[:5], rows, rtol=0, atol=1e-6)


def test_again_takes_nothing_from_an_ordinary_renewal_that_was_stopped(embed, folder, net, monkeypatch):
    """Its rows come from the gallery that --again is to drop."""
    path = Path(embed().folder, "embeddings.npy")
    path.write_bytes(path.read_bytes()[:-64] + np.ones(16, np.float32).tobytes())
    photo(folder / "new.jpg", 50)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed()
    assert holds(embed("--again"), net, sorted(map(str, folder.rglob("*.jpg"))))


def test_the_closed_form_is_made_anew_when_the_folder_has_outgrown_it(embed, folder, monkeypatch, capsys):
    monkeypatch.setattr(gallery_model, "ENOUGH", 4)
    shutil.rmtree(folder / "deep")
    assert embed().about["kind"] == "pooled"  # there are three images
    photos(folder, 2, first=10)
    gallery = embed()
    assert gallery.about["kind"] == "closed_form" and gallery.about["fitted_to"] == 5 and gallery.about["dim"] == 16
    assert "the model is made anew: 5 images are enough for the closed form" in capsys.readouterr().out
    assert len(embed.taken) == 5
    photos(folder, 5, first=20)
    assert embed().about["model"] == gallery.about["model"] and len(embed.taken) == 5  # it has just doubled
    photo(folder / "one more.jpg", 40)
    larger = embed()
    assert larger.about["fitted_to"] == 11 and larger.about["model"] != gallery.about["model"] and len(embed.taken) == 11
    assert "the model is made anew: it was fitted to 5 images, now there are 11" in capsys.readouterr().out
    assert np.allclose(gallery_model.of_gallery(larger).embed(larger.paths), larger.embeddings, atol=1e-5)
    assert embed().stamp == larger.stamp


def change_json(path, **changes):
    """Change fields of a JSON file. None removes a field."""
    content = {**json.loads(Path(path).read_text()), **changes}
    Path(path).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_rows_of_older_pixels_are_renewed_and_that_is_said(embed, folder, net, capsys, tmp_path):
    """Unreadable files are tried again too: another version may be able to read them."""
    (folder / "bad.jpg").write_text("no image")
    about, paths = tmp_path / "gallery" / "about.json", sorted(map(str, folder.rglob("0*.jpg")))
    assert embed().about["pixels"] == PIXELS
    for held in (None, 0):  # None: as galleries were before they named it, which is version 1
        change_json(about, pixels=held)
        capsys.readouterr()
        assert holds(embed(), net, paths) and len(embed.taken) == 6 and Gallery(about.parent).pixels == PIXELS
        versions = f"the rows are of pixel version {1 if held is None else held}, this program reads version {PIXELS}"
        assert f"{versions}: all are embedded anew" in capsys.readouterr().out
        assert embed() and embed.taken == []


def test_an_unfinished_gallery_of_older_pixels_is_not_continued(embed, folder, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    change_json(tmp_path / "gallery" / "making" / "plan.json", pixels=0)
    embed()
    assert len(embed.taken) == 5


def test_a_closed_form_of_older_pixels_is_fitted_anew(embed, folder, capsys, tmp_path):
    gallery = embed("--head", "closed_form")
    path = tmp_path / "gallery" / "model.pth.tar"
    held = checkpoint.load(path)
    assert int(held["state_dict"]["closed_form.pixels"]) == PIXELS
    held["state_dict"]["closed_form.pixels"].fill_(0)
    checkpoint.save(path, held)
    assert gallery_model.of_gallery(gallery).pixels == 0  # its embeddings can still be compared with each other
    embed("--head", "closed_form")
    versions = f"it was fitted to pixel version 0, this program reads version {PIXELS}"
    assert f"the model is made anew: {versions}" in capsys.readouterr().out
    assert gallery_model.of_gallery(Gallery(tmp_path / "gallery")).pixels == PIXELS


def test_the_closed_form_is_fitted_to_so_many(embed, folder, monkeypatch):
    """Evenly taken, and no more for a folder that grows."""
    monkeypatch.setattr(model_choice, "MOST_FITTED", 3)
    monkeypatch.setattr(gallery_model, "MOST_FITTED", 3)
    gallery = embed("--head", "closed_form")
    assert gallery.about["fitted_to"] == 3
    photos(folder, 5, first=20)
    assert embed("--head", "closed_form").about["model"] == gallery.about["model"] and len(embed.taken) == 5


def test_stopped_after_the_closed_form_was_fitted(embed, folder, monkeypatch, tmp_path):
    """The fit is not repeated."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--head", "closed_form", "--batch_size", 2)
    monkeypatch.setattr(readout.Fitter, "__call__", lambda *args: pytest.fail("fitted again"))
    assert len(embed("--head", "closed_form", "--batch_size", 2)) == 5 and len(embed.taken) == 3
