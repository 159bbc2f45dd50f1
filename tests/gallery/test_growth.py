"""Which images the states of a first gallery hold."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from galleries import files_named, make
from gallery import growth as growth_file
from gallery.growth import FIRST, Growth, spread, unfinished_images


@given(st.integers(1, 3000))
@settings(deadline=None)
def test_every_beginning_is_spread_evenly(count):
    order = spread(count)
    assert sorted(order.tolist()) == list(range(count))
    for size in (1, 2, 7, 100):
        first = np.sort(order[: min(size, count)])
        gaps = np.diff([*first, count])
        assert gaps.max() <= 4 * -(-count // len(first))  # no stretch of the folder is left out


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by `clock.sleep(seconds)` only."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(growth_file, "time", clock)
    return clock


def grown(growth, clock, speed, cost):
    """Return the sizes of all states of a gallery that embeds `speed` images a second."""
    sizes = [0]
    while not growth.is_whole:
        images = growth.images()
        clock.sleep((len(images) - sizes[-1]) / speed)
        growth.embedded(len(images) - sizes[-1])
        clock.sleep(cost)
        growth.in_place()
        sizes.append(len(images))
    return sizes[1:]


def test_a_state_takes_as_long_as_those_before_it(clock):
    files = files_named(*(f"{i:05}.jpg" for i in range(50_000)))
    sizes = grown(Growth(files), clock, speed=100, cost=0.1)
    assert sizes == [64, 64 + 500, 1128, 2256, 4512, 9024, 18048]
    assert clock.now == pytest.approx(180.48 + 0.7)  # 0.7 s of 500 s went into states


def test_states_that_are_put_in_place_slowly_are_fewer(clock):
    files = files_named(*(f"{i:05}.jpg" for i in range(20_000)))
    sizes = grown(Growth(files), clock, speed=100, cost=2)
    assert sizes == [64, 64 + 5000, 64 + 10_064]


def test_each_state_holds_the_images_of_the_one_before(clock):
    files = files_named(*(f"{i:04}.jpg" for i in range(1000)))
    first = {files[place].path for place in (3, 500, 998)}
    growth, before = Growth(files, first), {3, 500, 998}
    assert len(growth.images()) == FIRST + 3
    while not growth.is_whole:
        images = set(growth.images().tolist())
        assert before <= images and growth.images().tolist() == sorted(images)
        clock.sleep(1)
        growth.embedded(len(images) - len(before))
        growth.in_place()
        before = images
    assert len(growth.images()) == 1000


@pytest.mark.parametrize("count", [1, FIRST, FIRST + 20])
def test_few_images_have_one_state(count):
    assert Growth(files_named(*(f"{i}.jpg" for i in range(count)))).is_whole


def test_a_finished_gallery_is_not_replaced_by_a_part(tmp_path):
    files = files_named("a.jpg", "b.jpg")
    assert unfinished_images(tmp_path / "none") == set()
    make(tmp_path / "one", files)
    assert unfinished_images(tmp_path / "one") is None
