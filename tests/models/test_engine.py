"""ONNX Runtime as the engine of every family of backbones, against PyTorch; when a graph serves, and how graphs are kept."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import families
from models import engine, exported
from models.activations import Activations
from models.taps import evaluating
from small_nets import embedder_of
from utils import device
from utils.errors import InputError
from utils.features import Look

ROOT = Path(__file__).parents[2]
KINDS = ("pooled", "embedding", "closed_form", "description")
ONNX, AUTO = (device.choose("cpu", engine=name) for name in ("onnx", "auto"))


class Passes:
    """Counts PyTorch's passes through a backbone in a block."""

    def __init__(self, embedder):
        self.features, self.count = embedder.features, 0

    def __enter__(self):
        self.hook = self.features.register_forward_hook(self.add)
        return self

    def add(self, *_):
        self.count += 1

    def __exit__(self, *_):
        self.hook.remove()


def small():
    """Return a net that is exported in a second."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 12, 3), nn.ReLU()),
    ]
    return embedder_of(layers).eval().requires_grad_(False)


def noise(count=5, width=16):
    return torch.randint(256, (count, 3, width, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def by_torch(embedder, images):
    """Return PyTorch's pooled features, and whether the Embedder's own are the same to the last digit."""
    with evaluating(embedder), torch.no_grad():
        expected = embedder.features(embedder.normalise(images)).flatten(1)
    return bool((embedder.pool(images) == expected).all())


@pytest.fixture
def served():
    embedder = small()
    engine.use(embedder, ONNX, 1)
    return embedder


@pytest.mark.parametrize("net", [*families.NETS, *families.NIGHTLY])
def test_every_family_gives_what_pytorch_gives(net, tmp_path, said):
    """In batches of 1, 5 and 18: parts of a graph's batch, and more than one slice. One image is black."""
    embedder = families.create(net)
    crops = families.crops_of(embedder, tmp_path / "photos")
    crops[1] = 0
    crops = torch.cat([crops] * 4)[:18]
    with torch.no_grad():
        expected = embedder.read(crops, *KINDS)
        engine.use(embedder, ONNX, 1)
        with Passes(embedder) as passes:
            found = [torch.cat(parts) for parts in zip(*(embedder.read(part, *KINDS) for part in crops.split(5)))]
            alone, whole = embedder.read(crops[:1], *KINDS), embedder.read(crops, *KINDS)
    assert passes.count == 0 and "ONNX Runtime" in said()[0]
    for name, ours, theirs, one, all_at_once in zip(KINDS, found, expected, alone, whole):
        assert ours.shape == theirs.shape and ours.dtype == torch.float32
        scale = theirs.abs().max()
        for rows, right in ((ours, theirs), (one, theirs[:1]), (all_at_once, theirs)):
            assert (rows - right).abs().max() <= 1e-4 * scale, name
    assert not np.allclose(found[0][0], found[0][1])  # different images differ, so the comparison means something


def test_a_graph_serves_where_no_gradient_is_needed(served):
    """Everywhere else PyTorch runs, and gives its own digits."""
    images = noise()
    with torch.no_grad(), Passes(served) as passes:
        served.pool(images)
        assert passes.count == 0
        with torch.inference_mode():
            served.pool(images)
        assert passes.count == 0
        for count, pixels in ((1, noise(width=20)), (2, served.normalise(images)), (3, images[:0])):  # another width, floats
            served.pool(pixels)
            assert passes.count == count
        with torch.autocast("cpu", torch.bfloat16):
            served.pool(images)
        served.train()
        served.pool(images)
        assert passes.count == 5
        served.eval()
        with torch.enable_grad():
            served.pool(images)
    assert passes.count == 6


def test_a_copy_has_no_graph(served):
    """It may get other weights: after as many changes as the original has seen, it would look the same."""
    images, twin = noise(), copy.deepcopy(served)
    assert not any(twin.graphs.values())
    with torch.no_grad():
        assert by_torch(twin, images)
        engine.use(twin, ONNX, 1)
        with Passes(twin) as passes:
            twin.pool(images)
    assert passes.count == 0


def test_a_graph_is_of_its_weights(served):
    """After a change of weights or of statistics PyTorch runs, until the net is exported anew."""
    images, changes = noise(), [served.features[0][0].weight, served.features[0][1].running_mean]
    for changed in changes:
        with torch.no_grad():
            changed.add_(0.1)
            assert by_torch(served, images)
            engine.use(served, ONNX, 1)
            with Passes(served) as passes:
                ours = served.pool(images)
            assert passes.count == 0
            served.graphs.clear()
            assert torch.allclose(ours, served.pool(images), atol=1e-5)
            engine.use(served, ONNX, 1)
    served.load_state_dict(small().state_dict())
    with torch.no_grad():
        assert by_torch(served, images)


def test_training_changes_weights_unseen_by_nobody(served):
    served.requires_grad_(True).train()
    step = torch.optim.Adam(served.parameters(), 0.1)
    served.pool(noise()).sum().backward()
    step.step()
    served.eval()
    with torch.no_grad():
        assert by_torch(served, noise())


def test_crops_of_two_widths(served):
    engine.use_for(Look("pooled", enlarged=24), served, [0] * 5, ONNX)
    with torch.no_grad(), Passes(served) as passes:
        served.pool(noise()), served.pool(noise(width=24))
    assert passes.count == 0


def test_kept_activations_have_no_graph(served):
    engine.use_for(Look("pooled"), served, Activations.__new__(Activations), ONNX)
    assert not served.graphs


# ---- which engine ----------------------------------------------------------------------------------------------------


def test_auto_counts_images(said):
    embedder = small()
    engine.use(embedder, AUTO, device.EARNS)
    assert list(embedder.graphs) == [16] and said()[0].startswith("the net at 16 pixels: auto, ONNX Runtime ")
    engine.use(embedder, AUTO, device.EARNS - 1)
    assert not embedder.graphs and said() == [
        "the net at 16 pixels: torch; 1199 images do not earn a graph for ONNX Runtime"
    ]
    engine.use(embedder, device.choose("cpu"), 10**6)
    assert not embedder.graphs and not said()


class Odd(nn.Module):
    """Does what a graph cannot."""

    def forward(self, images):
        return torch.from_numpy(np.sort(images.numpy(), axis=None)[:12].reshape(1, 12, 1, 1)).expand(len(images), 12, 1, 1)


def test_a_net_that_cannot_be_exported(said):
    embedder = embedder_of([Odd()]).eval()
    engine.use(embedder, AUTO, 5000)
    assert not embedder.graphs and "16 pixels: torch, because it cannot be exported (" in said()[0]
    with pytest.raises(InputError, match=r"^onnx: .* cannot be exported \(.*\); give torch$") as caught:
        engine.use(embedder, ONNX, 1)
    assert caught.value.setting == "engine" and "\n" not in str(caught.value)


def test_a_graph_that_gives_other_numbers_is_not_used(monkeypatch, said):
    opened = engine.open_graph
    monkeypatch.setattr(engine, "open_graph", lambda *how: lambda x: [1.001 * rows for rows in opened(*how)(x)])
    embedder = small()
    engine.use(embedder, AUTO, 5000)
    assert not embedder.graphs and "gives other numbers" in said()[0]
    monkeypatch.setattr(engine, "open_graph", lambda *how: lambda x: [np.nan * rows for rows in opened(*how)(x)])
    engine.use(embedder, AUTO, 5000)
    assert not embedder.graphs


# ---- the folder of graphs --------------------------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch):
    """Count the exports."""
    paths, write = [], exported.write
    monkeypatch.setattr(exported, "write", lambda *how, **more: (paths.append(how[3]), write(*how, **more)))
    return paths


def kept():
    return sorted(Path(torch.hub.get_dir(), "graphs").iterdir())


def test_a_graph_is_written_once(writes, served):
    engine.use(served, ONNX, 1)
    engine.use(small(), ONNX, 1)
    assert len(writes) == len(kept()) == 1
    other = small()
    other.features[0][0].weight.add_(1)
    engine.use(other, ONNX, 1)
    engine.use(small(), ONNX, 1, width=20)
    assert len(writes) == len(kept()) == 3


@pytest.mark.parametrize("damage", [b"", b"noise" * 99])
def test_a_damaged_graph_is_written_anew(writes, served, damage):
    whole = kept()[0].read_bytes()
    kept()[0].write_bytes(damage)
    engine.use(embedder := small(), ONNX, 1)
    assert len(writes) == 2 and embedder.graphs and kept()[0].read_bytes() == whole


def test_the_folder_holds_few_graphs(monkeypatch, writes):
    monkeypatch.setattr(engine, "KEPT", 2)
    for number, width in enumerate((16, 18, 20)):
        engine.use(small(), ONNX, 1, width=width)
        os.utime(max(kept(), key=os.path.getmtime), (number, number))
    engine.use(small(), ONNX, 1, width=18)  # used again, so it stays
    engine.use(small(), ONNX, 1, width=22)
    assert len(kept()) == 2 and len(writes) == 4
    engine.use(small(), ONNX, 1, width=18)
    assert len(writes) == 4


def test_without_a_folder(monkeypatch, offline):
    """A graph is used even if it cannot be kept."""
    graphs = Path(torch.hub.get_dir(), "graphs")
    graphs.parent.mkdir(parents=True)
    graphs.write_text("no folder")
    engine.use(embedder := small(), ONNX, 1)
    assert embedder.graphs and graphs.read_text() == "no folder"


# ---- threads ---------------------------------------------------------------------------------------------------------

THREADS = """
import copy, os, sys, torch
threads = int(sys.argv[1])
torch.set_num_threads(threads)
sys.path.insert(0, "tests")
import families
from models import engine
from utils import device
embedder = families.create("ResNet18")
images = torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8)
with torch.no_grad():
    embedder.pool(images)  # PyTorch has started its threads
    engine.use(copy.deepcopy(embedder), device.choose("cpu", engine="onnx"), 1)  # the import and the export start some, too
    before = len(os.listdir("/proc/self/task"))
    engine.use(embedder, device.choose("cpu", engine="onnx"), 1)
    embedder.pool(images)
    assert len(os.listdir("/proc/self/task")) == before + threads - 1
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_as_pytorch(threads, tmp_path):
    command = [sys.executable, "-c", THREADS, str(threads)]
    environment = {**os.environ, "TORCH_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
