"""Every family of backbones in ONNX Runtime, with the embedding head and with the closed form, against PyTorch."""

import functools
import sys

import numpy as np
import pytest

import models
from families import DIM, NETS, NIGHTLY, create, crops_of
from models import exported
from utils.errors import InputError
from utils.onnx_file import open_graph

KINDS = ("embedding", "closed_form")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """export(net) returns (embedder, the file of its graph, which has both readouts)."""

    @functools.cache
    def made(net):
        folder = tmp_path_factory.mktemp("exported")
        embedder = create(net)
        exported.write_graph(embedder, folder / "model.onnx", KINDS)
        return embedder, folder / "model.onnx"

    return made


@pytest.fixture(scope="module", params=[*NETS, *(pytest.param(net, marks=pytest.mark.nightly) for net in NIGHTLY)])
def net(request, export):
    """(embedder, the function that runs the graph, five crops of JPEGs)"""
    embedder, file = export(request.param)
    return embedder, open_graph(file, 1), crops_of(embedder, file.parent / "photos")


def test_onnx_gives_what_pytorch_gives(net):
    """In batches of 1 and of 5. The embeddings of different images must differ, so that the comparison means something."""
    embedder, run, crops = net
    difference = exported.largest_difference(embedder, run, crops, KINDS)
    print(f"{embedder.settings['net']}: largest difference {difference:.1e}")
    assert difference <= 1e-4
    for rows in run(crops.numpy()):
        assert rows.shape == (5, DIM) and rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert (rows @ rows.T - np.eye(5)).max() < 0.999


def test_no_product_is_left_that_older_runtimes_refuse(export):
    """In older versions, MatMul with a transposed side only takes float32. tests/test_export.py runs an older version."""
    import onnx

    graph = onnx.load(export("timm/test_vit")[1]).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    doubles = [node for node in graph.node if kinds.get(node.output[0]) == onnx.TensorProto.DOUBLE]
    assert {"Einsum", "MatMul"} <= {node.op_type for node in doubles}
    assert not [n for n in doubles if n.op_type == "MatMul" and "Transpose" in map(made_by.get, n.input)]


def test_the_difference_is_seen(net):
    """Here, 8 x 8 pixels of one of five images differ. A NaN among numbers must also be seen."""
    embedder, run, crops = net
    other = crops.clone()
    other[2, :, 12:20, 12:20] = 255 - other[2, :, 12:20, 12:20]
    changed = lambda images: run(other.numpy() if len(images) == 5 else images)
    assert exported.largest_difference(embedder, changed, crops, KINDS) > 1e-4
    lost = lambda images: [rows * np.nan if len(images) == 1 else rows for rows in run(images)]
    assert np.isnan(exported.largest_difference(embedder, lost, crops, KINDS))


def test_missing_packages_are_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError) as caught:
        exported.require_packages()
    assert str(caught.value) == "an export needs onnx, onnxscript; run pip install onnx onnxscript onnxruntime"


def test_weights_beyond_a_file_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(exported, "MOST_BYTES", 1e6)
    embedder = models.create("timm/test_resnet", DIM, False, width=32, origin_width=36).eval()
    with pytest.raises(InputError, match=r"0\.0 GB of weights do not fit into an ONNX file, which ends at 2 GB; take a"):
        exported.write_graph(embedder, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
