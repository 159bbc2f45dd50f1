"""Several processes' shares of the P x K sampler, and an epoch that is gone on with."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from data.sampler import PKSampler


def steps(labels, batch, *settings, rot_only=False, rank=0, size=1, done=0):
    sampler = PKSampler(*batch, rot_only, seed=3, rank=rank, size=size)
    sampler.set_labels(labels, *settings, done=done)
    return list(sampler), len(sampler)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 5), st.integers(0, 8), st.booleans(), st.integers(0, 1000))
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_shares_are_the_global_batch(size, clusters, per_batch, k, rot_batch, rot_only, seed):
    labels = np.concatenate([np.arange(clusters), np.random.default_rng(seed).integers(-1, clusters, size=20)])
    batch = per_batch * k, k, min(rot_batch, per_batch * k)
    whole, _ = steps(labels, batch, 1, rot_only=rot_only)
    shares, lengths = zip(*[steps(labels, batch, 1, rot_only=rot_only, rank=rank, size=size) for rank in range(size)])
    assert set(lengths) == {len(whole)} == {len(share) for share in shares}
    for batch, *parts in zip(whole, *shares, strict=True):
        assert Counter(draw for part in parts for draw in part) == Counter(batch)
        for numbers in ([len(part) for part in parts], [sum(draw.rotate for draw in part) for part in parts]):
            assert max(numbers) - min(numbers) <= 1
    if size == 1:
        assert shares[0] == whole


@pytest.mark.parametrize("rank, size", [(0, 1), (1, 3)])
@pytest.mark.parametrize("done", range(6))
def test_done_leaves_out_the_first_steps_and_no_others(done, rank, size):
    labels = np.arange(60) % 10
    whole, length = steps(labels, (8, 4, 3), 2, rank=rank, size=size)
    assert length == 5 and steps(labels, (8, 4, 3), 2, rank=rank, size=size, done=done) == (whole[done:], 5)


def test_the_next_epoch_is_whole_again():
    sampler = PKSampler(8, 4)
    sampler.set_labels(np.arange(60) % 10, 1, done=4)
    assert len(list(sampler)) == 1
    sampler.set_labels(np.arange(60) % 10, 2)
    assert len(list(sampler)) == 5
