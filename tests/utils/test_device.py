"""Device, precision and layout as the flags choose them."""

import pytest
import torch

from utils import device
from utils.errors import InputError


def test_cpu_computes_in_float32_unless_told():
    compute = device.choose("cpu")
    assert compute == (torch.device("cpu"), None, True, "torch") and not compute.scaler().is_enabled()
    assert not compute.pin_memory
    gpu = device.Compute(torch.device("cuda"), None, True)
    assert gpu.pin_memory
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with compute.autocast():
        assert layer(x).dtype == torch.float32
    with device.choose("cpu", amp="bf16").autocast():
        assert layer(x).dtype == torch.bfloat16


def test_the_engine(monkeypatch):
    """ONNX Runtime computes on the CPU, in float32."""
    auto = device.choose("cpu", engine="auto")
    assert [auto.by_onnx(images) for images in (device.EARNS - 1, device.EARNS)] == [False, True]
    assert device.choose("cpu", engine="onnx").by_onnx(1) and not device.choose("cpu", engine="torch").by_onnx(10**6)
    assert auto.engine_in_full.startswith("auto, ONNX Runtime 1.") and device.choose("cpu").engine_in_full == "torch"
    assert device.choose("cpu", amp="bf16", engine="auto").engine == "torch"
    with pytest.raises(InputError, match="^onnx: ONNX Runtime computes in float32 on the CPU; give --device") as caught:
        device.choose("cpu", amp="bf16", engine="onnx")
    assert caught.value.setting == "engine"
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert device.choose("cpu", engine="auto").engine == "torch"
    with pytest.raises(InputError, match="^onnx: ONNX Runtime is not installed; run pip install -r requirements.txt, or"):
        device.choose("cpu", engine="onnx")


def test_channels_last():
    convolution = torch.nn.Conv2d(3, 4, 3)
    device.choose("cpu", channels_last=True).place(convolution)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cud", "meta", "hpu", "cpu:1", ""])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InputError, match=f"^{name}: ") as caught:
        device.choose(name)
    assert caught.value.setting == "device"
