"""An Embedder with a closed form, exported to ONNX and run by ONNX Runtime."""

import numpy as np
import pytest
import torch
from torch import nn

import models
from models.closed_form import REDUCED, ClosedForm
from models.taps import middle_and_last, stages, tapped

runtime = pytest.importorskip("onnxruntime")
BATCHES = (1, 2, 5, 70)  # 70: on a CPU an Embedder takes them in two slices
WIDTH, DIM = 64, 16


class Net(nn.Module):
    """Normalised images -> embeddings, as `Embedder.read` makes them, without its slices."""

    def __init__(self, embedder):
        super().__init__()
        self.embedder = embedder

    def forward(self, images):
        features, form = self.embedder.features, self.embedder.closed_form
        with tapped(features, form.layers) as maps:
            pooled = features(images).flatten(1)
        return form(pooled, maps)


@pytest.fixture(scope="module")
def embedder():
    """EfficientNet-Lite0 with its weights, and a closed form whose numbers are drawn."""
    torch.manual_seed(0)
    embedder = models.create("EfficientNet-Lite0", DIM, width=WIDTH, origin_width=WIDTH).eval().requires_grad_(False)
    sizes = stages(embedder.features, torch.zeros(1, 3, WIDTH, WIDTH))
    layers = {name: (sizes[name][1], REDUCED) for name in middle_and_last(sizes)}
    form = embedder.closed_form = ClosedForm(embedder.feature_dim, layers, DIM)
    for buffer in form.reduce.buffers():
        nn.init.orthogonal_(buffer)
    form.mean.copy_(form.describe(*described(embedder, torch.randn(8, 3, WIDTH, WIDTH))).mean(0))
    form.projection.normal_()
    return embedder


def described(embedder, images):
    with tapped(embedder.features, embedder.closed_form.layers) as maps:
        return embedder.features(images).flatten(1), maps


def found_by_onnx(net, file):
    """The embeddings that the exported net gives of batches of several sizes, and those of torch."""
    example = torch.zeros(2, 3, WIDTH, WIDTH)
    sizes = ({0: torch.export.Dim("images", min=1, max=1024)},)
    torch.onnx.export(net, (example,), dynamo=True, dynamic_shapes=sizes, verbose=False).save(file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    for count in BATCHES:
        x = torch.randn(count, 3, WIDTH, WIDTH)
        yield session.run(None, {images.name: x.numpy()})[0], net(x).numpy()


def compare(found):
    for ours, expected in found:
        assert ours.shape == expected.shape and ours.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_onnx_gives_the_closed_form(embedder, tmp_path):
    net = Net(embedder).eval()
    images = torch.randn(5, 3, WIDTH, WIDTH)
    torch.testing.assert_close(net(images), embedder(images))  # it is what an Embedder gives
    assert (embedder(images) @ embedder(images).T).fill_diagonal_(0).abs().max() < 0.99  # and not the same for all
    compare(found_by_onnx(net, str(tmp_path / "net.onnx")))


def test_an_embedder_can_be_exported_as_it_is(embedder, tmp_path):
    compare(found_by_onnx(embedder, str(tmp_path / "embedder.onnx")))
