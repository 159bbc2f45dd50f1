"""A Group without other processes. tests/test_processes.py tests it with them."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from utils import distributed
from utils.distributed import Group, cores_here
from utils.errors import InputError, RunError


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6) | st.integers(0, 20), st.integers(1, 64))
def test_shares_follow_each_other_and_differ_by_at_most_one(count, size):
    shares = [Group(rank, size).stretch(count) for rank in range(size)]
    assert shares[0].start == 0 and shares[-1].stop == count
    assert all(a.stop == b.start for a, b in zip(shares, shares[1:]))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if count < 1000:
        assert [i for share in shares for i in share] == list(range(count))


def test_a_group_of_one_changes_nothing():
    group = Group()
    x, rows = torch.randn(3, 2, requires_grad=True), np.arange(6.0).reshape(3, 2)
    assert group.gather(x) is x and group.total(3, 0, True) == (3, 0, 1) and group.total() == ()
    assert group.gather_objects("x") == ["x"]
    module = torch.nn.Linear(2, 2)
    weight = module.weight.clone()
    group.share_state(module)
    assert torch.equal(module.weight, weight)
    before = rows.copy()
    group.collect(rows, 2)
    assert np.array_equal(rows, before) and list(group.stretch(5)) == [0, 1, 2, 3, 4]
    with group.first_before_others():
        group.leave()


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for world in (None, "1"):  # "1" is torchrun with a single process
        if world:
            monkeypatch.setenv("WORLD_SIZE", world)
        group = distributed.join(torch.device("cpu"))
        assert (group.rank, group.size) == (0, 1) and not distributed.under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.under_torchrun()


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:5000")


def test_a_lost_process_is_a_run_error():
    for error in (LOST, torch.distributed.DistBackendError("NCCL error"), torch.distributed.DistNetworkError("no route")):
        with pytest.raises(RunError, match="process 1 of 3 has lost another one") as caught, Group(1, 3).watching():
            raise error
        assert caught.value.rescue and caught.value.__cause__ is error


@pytest.mark.parametrize(
    "group, error",
    [
        (Group(), LOST),
        (Group(1, 3), RuntimeError("shapes (3, 4) and (5, 6) do not fit")),
        (Group(1, 3), InputError("a bad image")),
        (Group(1, 3), RunError("a full disk")),
    ],
)
def test_other_errors_stay_what_they_are(group, error):
    with pytest.raises(type(error)) as caught, group.watching():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("cores, processes, share", [(None, 1, 1), (4, 1, 4), (4, 2, 2), (2, 3, 1), (64, 2, 8)])
def test_a_process_has_its_share_of_the_cores(cores, processes, share, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert cores_here() == share
