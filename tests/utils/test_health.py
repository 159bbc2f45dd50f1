"""Divergence, collapse and giant clusters are reported, and each only once."""

import numpy as np
import pytest

from utils import health
from utils.errors import RunError


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr(health.log, "warn", lines.append)
    return lines


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_run_unsaved(loss):
    with pytest.raises(RunError, match=f"^epoch 3 step 4: the loss is {loss}: training has diverged; ") as caught:
        health.Watch().step("epoch 3 step 4", loss, 0.1)
    assert not caught.value.rescue and len(str(caught.value).splitlines()) == 1


def test_diverged_says_what_and_what_to_do():
    line = health.diverged("epoch 1 step 2: weights are not finite")
    assert line.startswith("epoch 1 step 2: weights are not finite: training has diverged")
    assert all(flag in line for flag in ("--lr", "--rot_lr", "--alpha", "--amp off", "--override")) and "\n" not in line


def test_a_collapse_is_warned_of_once_after_50_steps_on_end(warned):
    watch = health.Watch()
    for step in range(200):
        watch.step(f"step {step}", 0.5, 0.9995)
    assert len(warned) == 1 and "step 49: all similarities have been above 0.999 for 50 steps" in warned[0]


@pytest.mark.parametrize("loss, lowest", [(0.0, float("nan")), (float("inf"), 0.5)])
def test_embeddings_that_are_not_finite_end_the_run_whatever_the_loss(loss, lowest):
    with pytest.raises(RunError, match="^epoch 3 step 4: the .* is (nan|inf): training has diverged; ") as caught:
        health.Watch().step("epoch 3 step 4", loss, lowest)
    assert not caught.value.rescue


@pytest.mark.parametrize("good", [0.5, 0.999])
def test_one_good_step_starts_the_count_anew(warned, good):
    watch = health.Watch()
    for step in range(300):
        watch.step(f"step {step}", 0.5, good if step % 50 == 49 else 1.0)
    assert not warned
    for step in range(300, 350):
        watch.step(f"step {step}", 0.5, 1.0)
    assert len(warned) == 1 and "step 349" in warned[0]


@pytest.mark.parametrize(
    "labels, k, share",
    [
        ([0] * 7 + [1, 2, 3], 4, "70%"),
        ([3] * 51 + [0, 1, 2] * 16, 4, "52%"),
        ([0] * 5 + [1] * 5, 4, None),
        ([0] * 9 + [1], 2, None),
        ([0] * 9, 1, None),
        ([0, 1, 2], 3, None),
    ],
)
def test_a_cluster_of_most_images_is_warned_of(warned, labels, k, share):
    health.watch_clusters(np.array(labels), k)
    assert [line.partition("warning: one cluster holds ")[2].split()[0] for line in warned] == [share] * (share is not None)
