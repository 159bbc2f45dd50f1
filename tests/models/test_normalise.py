"""Normalise, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from models.backbones import Preprocessing
from models.normalise import Normalise


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([False, True]), st.tuples(*[st.floats(1, 250)] * 3), st.tuples(*[st.floats(1, 90)] * 3))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalise(layout, bgr, mean, std):
    image = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    pixels = image.numpy().astype(np.float64)
    pixels = pixels[:, ::-1] if bgr else pixels
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    normalise = Normalise(Preprocessing(mean, std, bgr))
    got = normalise(image, layout)
    assert got.dtype == torch.float32 and got.is_contiguous(memory_format=layout) and not normalise.state_dict()
    assert np.allclose(got.numpy(), expected, atol=1e-3)
