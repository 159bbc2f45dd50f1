"""Properties that every batch of the samplers has."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from data.sampler import PKBatches, PositiveBatches, check_pk
from utils.errors import InputError


def epoch(labels, batch_size, num_instances, rotated=0, seed=0, epoch=1):
    """Return the batches of one epoch, with picks instead of draws."""
    return PKBatches(np.array(labels), batch_size, num_instances, list, seed, epoch, rotated)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 5), st.integers(0, 4), st.integers(0, 1000))
def test_every_batch_is_p_by_k(clusters, per_batch, k, rotated, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(clusters), rng.integers(-1, clusters, size=20)])
    rotated = min(rotated, per_batch * k)
    made = epoch(labels, per_batch * k, k, rotated, seed=seed, epoch=seed)
    batches = list(made)
    assert len(batches) == len(made) == max(1, clusters // per_batch)
    seen = []
    for batch in batches:
        p = min(per_batch, clusters)
        assert len(batch) == p * k
        assert sum(pick.rotate for pick in batch) == min(rotated, p * k)
        assert len({pick.seed for pick in batch}) == len(batch)
        for start in range(0, len(batch), k):
            group = batch[start : start + k]
            cluster = group[0].label
            assert all(pick.label == cluster == labels[pick.index] >= 0 for pick in group)
            if (labels == cluster).sum() >= k:
                assert len({pick.index for pick in group}) == k
            seen.append(cluster)
    assert len(seen) == len(set(seen))  # no cluster twice in an epoch


def test_the_papers_epoch_is_six_steps():
    assert len(epoch(np.arange(500) % 100, 80, 5, 16)) == 6


def test_epochs_differ_and_repeat():
    def picks(seed, number):
        return list(epoch(np.arange(40) % 10, 8, 2, 3, seed, number))

    assert picks(0, 1) == picks(0, 1)
    assert picks(0, 1) != picks(0, 2) and picks(0, 1) != picks(1, 1)


def test_a_batch_is_what_views_makes_of_its_picks():
    made = PKBatches(np.arange(40) % 10, 8, 2, lambda picks: [pick for pick in picks if pick.rotate], 0, 1, 3)
    assert all(len(batch) == 3 and all(pick.rotate for pick in batch) for batch in made)


def test_one_image_fills_a_batch():
    """K is larger than the cluster, there are fewer clusters than P, and fewer images than should be rotated."""
    made = epoch([-1, 3, -1], 80, 5, 16)
    (batch,) = made
    assert len(made) == 1 and [pick[:2] for pick in batch] == [(1, 3)] * 5 and all(pick.rotate for pick in batch)
    assert len({pick.seed for pick in batch}) == 5


@pytest.mark.parametrize(
    "arguments, setting, expected",
    [
        ((80, 7), "batch_size", "^80 is not a multiple of num_instances 7"),
        ((80, 5, 81), "rot_batch", "^81 is not within"),
        ((80, 5, -1), "rot_batch", "^-1 is not within"),
        ((80, 1), "num_instances", "^1 leaves"),
    ],
)
def test_refuses(arguments, setting, expected):
    with pytest.raises(InputError, match=expected) as caught:
        check_pk(*arguments)
    assert caught.value.setting == setting
    check_pk(80, 5, 16)
    check_pk(80, 1, 16, metric=False)


def test_an_image_with_too_few_positives_fills_up_with_itself_and_one_without_any_is_left_out():
    positives = np.array([[1, 2, -1], [0, -1, -1], [-1, -1, -1]])
    for step in PositiveBatches(positives, 8, 4, steps=5, seed=0, epoch=1):
        groups = {step[i].index: [draw.index for draw in step[i + 1 : i + 4]] for i in range(0, len(step), 4)}
        assert set(groups) == {0, 1}
        assert sorted(groups[0]) == [0, 1, 2] and sorted(groups[1]) == [0, 1, 1]
        crops = [(draw.seed, draw.crop) for draw in step if draw.label == draw.index == 1]
        assert [crop for _, crop in crops] == [0, 1, 2] and len({seed for seed, _ in crops}) == 1  # three different crops
