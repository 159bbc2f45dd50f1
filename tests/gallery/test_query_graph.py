"""Query images embedded by a gallery's graph, against the gallery's model; and no PyTorch on the way of search.py query."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from galleries import TINY, checkpoint_of, photo, photos
from gallery import query_graph
from gallery.folder import GalleryFolder, read_json
from gallery.model import Model
from models import exported
from models.closed_form import ClosedForm
from utils.errors import InputError

ROOT = Path(__file__).parents[2]
MEMORY = 10**9
SIZES = [(48, 40), (700, 900), (33, 300)]


def model_of(kind):
    """Return the Model of a tiny net. Its closed form has random numbers and a second order."""
    embedder = models.create("timm/test_resnet", 16, False, width=32, origin_width=36).eval()
    if kind == "closed_form":
        form = embedder.closed_form = ClosedForm(embedder.feature_dim, {"layer2": (48, 8), "layer3": (192, 8)}, embedder.dim)
        form.weights.fill_(1)
        form.projection.normal_()
        form.prefer(True)
        for buffer in form.reduce.buffers():
            torch.nn.init.orthogonal_(buffer)
    embedder.transforms.detail = 256
    return Model(embedder, kind, {}, 0)


class OfModel:
    """Stands in for a gallery: the folder, and the digest of its model."""

    def __init__(self, folder, model):
        self.place, self.about = GalleryFolder(folder), {"model": model.digest}


@pytest.fixture(scope="module", params=["pooled", "closed_form"])
def written(request, tmp_path_factory):
    """A gallery's folder with the graph of a tiny net, and the Model."""
    folder, model = tmp_path_factory.mktemp("gallery"), model_of(request.param)
    assert query_graph.embed(OfModel(folder, model), [], MEMORY) is None  # no graph yet
    query_graph.prepare(GalleryFolder(folder), model)
    return folder, model


def test_it_gives_the_models_embeddings(written, tmp_path):
    folder, model = written
    paths = [str(photo(tmp_path / f"{i}.jpg", i, size)) for i, size in enumerate(SIZES)]
    ours = query_graph.embed(OfModel(folder, model), paths, MEMORY)
    assert ours.dtype == np.float32 and np.ptp(ours, axis=0).max() > 0.01
    np.testing.assert_allclose(ours, model.embed(paths), atol=1e-5)


def test_files_that_cannot_be_read(written, tmp_path):
    folder, model = written
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    large = str(photo(tmp_path / "large.png", 0, (400, 400)))
    for path, memory in ((str(tmp_path / "a.jpg"), MEMORY), (large, 1000)):
        with pytest.raises(InputError) as ours:
            query_graph.embed(OfModel(folder, model), [path], memory)
        model.embedder.transforms.memory = memory
        with pytest.raises(InputError) as theirs:
            model.embed([path])
        assert str(ours.value) == str(theirs.value) and path in str(ours.value)


@pytest.mark.parametrize("fault", ["another model", "damaged", "missing", "no json", "no runtime"])
def test_a_graph_that_does_not_fit_is_not_used(written, tmp_path, monkeypatch, fault):
    folder, model = written
    here, picture = shutil.copytree(folder, tmp_path / "gallery"), str(photo(tmp_path / "a.jpg"))
    gallery = OfModel(here, model)
    assert query_graph.embed(gallery, [picture], MEMORY) is not None
    if fault == "another model":
        gallery.about["model"] = model_of("embedding").digest
    elif fault == "damaged":
        graph = bytearray((here / "query.onnx").read_bytes())
        graph[len(graph) // 2] ^= 1
        (here / "query.onnx").write_bytes(graph)
    elif fault == "no runtime":
        monkeypatch.setattr("utils.onnx_file.find_spec", lambda name: None)
    else:
        (here / {"missing": "query.onnx", "no json": "query.json"}[fault]).unlink()
    assert query_graph.embed(gallery, [picture], MEMORY) is None


@pytest.mark.parametrize("fault", ["cannot be exported", "wrong numbers", "read-only"])
def test_a_net_without_a_graph_is_tried_once(tmp_path, monkeypatch, caplog, fault):
    model, calls = model_of("embedding"), []
    place = GalleryFolder(tmp_path / "gallery")
    caplog.set_level("INFO", "udml")
    if fault != "read-only":
        os.mkdir(place.path)

    def write(*args, **kwargs):
        calls.append(1)
        if fault == "cannot be exported":
            raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(exported, "write", write)
    wrong = np.full((1, 16), 0.0 if fault == "wrong numbers" else np.nan)
    monkeypatch.setattr(query_graph, "open_graph", lambda path: lambda crops: [wrong])
    for _ in range(2):
        query_graph.prepare(place, model)
    said = [record.getMessage() for record in caplog.records]
    if fault == "read-only":  # a missing folder fails in the same way; root may write everywhere
        assert len(calls) == 2 and not os.path.exists(place.path)
    else:
        assert len(calls) == len(said) == 1 and "and much more" not in said[0] and not os.path.exists(place.query_graph)
        assert read_json(place.query_about)["graph"] is None
        assert query_graph.embed(OfModel(place.path, model), [], MEMORY) is None


def test_the_second_query_of_a_gallery_needs_no_pytorch(tmp_path, run, capsys):
    photos(tmp_path / "photos", 6)
    flags = ("--images", tmp_path / "photos", "--checkpoint", checkpoint_of(tmp_path, 1), *TINY)
    run("embed", *flags, "--out", tmp_path / "gallery")
    query = photo(tmp_path / "new.jpg", 3, (200, 170))  # shows the same as 003.jpg
    capsys.readouterr()
    run("search", "query", tmp_path / "gallery", query, "-k", 3)
    first = capsys.readouterr()
    assert "further queries start sooner" in first.err and "003.jpg" in first.out.splitlines()[1]
    program = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
    program += "assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", program, ROOT / "search.py", "query", tmp_path / "gallery", query, "-k", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines()[:-1] == first.out.splitlines()[:-1]  # the last line has the time
