"""The pairs of a batch and their similarities, against loops."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.functional import normalize

from losses.pairs import pairs, similarities


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(0, 1000))
def test_similarities_equal_the_loop(labels, seed):
    x = normalize(torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed))).requires_grad_()
    n = range(len(labels))
    expected = {
        "positive": [(x[i] @ x[j]).item() for i in n for j in n if i != j and labels[i] == labels[j]],
        "negative": [(x[i] @ x[j]).item() for i in n for j in n if labels[i] != labels[j]],
    }
    found = similarities(x, torch.tensor(labels))
    assert list(found) == ["positive", "negative", "lowest"] and not any(value.requires_grad for value in found.values())
    for kind, values in expected.items():
        mean = sum(values) / len(values) if values else float("nan")
        assert found[kind].item() == pytest.approx(mean, abs=1e-6, nan_ok=True)
    assert found["lowest"].item() == pytest.approx(min((x[i] @ x[j]).item() for i in n for j in n), abs=1e-6)


def test_mean_similarities():
    embeddings = normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)))
    found = similarities(embeddings, torch.tensor([0, 0, 1, 1]))
    sim = embeddings @ embeddings.T
    assert found["positive"].item() == pytest.approx(((sim[0, 1] + sim[2, 3]) / 2).item(), abs=1e-6)
    assert found["negative"].item() == pytest.approx(sim[:2, 2:].mean().item(), abs=1e-6)


def test_a_collapsed_batch_shows():
    same = normalize(torch.ones(4, 8))
    assert similarities(same, torch.tensor([0, 0, 1, 1]))["lowest"].item() == pytest.approx(1)


def test_an_image_is_not_its_own_positive_but_its_copy_is():
    _, positive, negative = pairs(torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.tensor([4, 4, 7]))
    assert positive.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert negative.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
