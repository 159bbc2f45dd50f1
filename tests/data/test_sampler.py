"""The P x K sampler's invariants."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from data.sampler import PKSampler
from utils.errors import InputError


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 5), st.integers(0, 4), st.integers(0, 1000))
def test_every_batch_is_p_by_k(clusters, per_batch, k, rot_batch, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(clusters), rng.integers(-1, clusters, size=20)])
    rot_batch = min(rot_batch, per_batch * k)
    sampler = PKSampler(per_batch * k, k, rot_batch, seed=seed)
    sampler.set_labels(labels, epoch=seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) == max(1, clusters // per_batch)
    seen = []
    for batch in batches:
        p = min(per_batch, clusters)
        assert len(batch) == p * k and all(draw.metric for draw in batch)
        assert sum(draw.rotate for draw in batch) == min(rot_batch, p * k)
        assert len({draw.seed for draw in batch}) == len(batch)
        for start in range(0, len(batch), k):
            group = batch[start:start + k]
            cluster = group[0].label
            assert all(draw.label == cluster == labels[draw.index] >= 0 for draw in group)
            if (labels == cluster).sum() >= k:
                assert len({draw.index for draw in group}) == k
            seen.append(cluster)
    assert len(seen) == len(set(seen))  # no cluster twice in an epoch


def test_the_papers_epoch_is_six_steps():
    sampler = PKSampler(80, 5, 16)
    sampler.set_labels(np.arange(500) % 100, 1)
    assert len(sampler) == 6


def test_epochs_differ_and_repeat():
    def draws(seed, epoch):
        sampler = PKSampler(8, 2, 3, seed=seed)
        sampler.set_labels(np.arange(40) % 10, epoch)
        return list(sampler)

    assert draws(0, 1) == draws(0, 1)
    assert draws(0, 1) != draws(0, 2) and draws(0, 1) != draws(1, 1)


def test_rot_only_loads_only_what_is_rotated():
    sampler = PKSampler(8, 2, 3, rot_only=True)
    sampler.set_labels(np.arange(40) % 10, 1)
    assert all(len(batch) == 3 and not any(d.metric for d in batch) for batch in sampler)


@pytest.mark.parametrize("rot_only", [False, True])
def test_one_image_fills_a_batch(rot_only):
    """K larger than the cluster, fewer clusters than P, more rotated images than there are."""
    sampler = PKSampler(80, 5, 16, rot_only)
    sampler.set_labels(np.array([-1, 3, -1]), 1)
    batch, = sampler
    assert len(sampler) == 1 and [draw[:2] for draw in batch] == [(1, 3)] * 5 and all(draw.rotate for draw in batch)
    assert len({draw.seed for draw in batch}) == 5 and all(draw.metric != rot_only for draw in batch)


@pytest.mark.parametrize("arguments, expected", [
    ((80, 7), "--batch_size 80 is not a multiple of --num_instances 7"), ((80, 5, 81), "--rot_batch 81"),
    ((80, 5, -1), "--rot_batch -1")])
def test_refuses(arguments, expected):
    with pytest.raises(InputError, match=expected):
        PKSampler(*arguments)
