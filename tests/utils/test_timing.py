"""Time by part, with a clock that the tests set by hand."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils import timing
from utils.timing import TimeByPart, duration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sleep(monkeypatch):
    """sleep(seconds) advances the clock that TimeByPart reads."""
    now = [100.0]

    def pass_by(seconds):
        now[0] += seconds

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 2))
    return pass_by


def test_time_goes_to_the_innermost_part(sleep):
    clock = TimeByPart("start-up", already=10)
    sleep(2)
    clock.outside("other")
    with clock("clustering"):
        sleep(3)
        with clock("data"):
            sleep(5)
        sleep(4)
    sleep(1)
    with pytest.raises(KeyError), clock("clustering"):
        sleep(0.5)
        raise KeyError
    sleep(1)
    clock.summary()
    assert clock.seconds == {"start-up": 12, "clustering": 7.5, "data": 5, "other": 2}
    assert (clock.total(), clock.total(without=("data", "other"))) == (26.5, 19.5)
    before = 50 + 1  # the process's time until the clock was made, and the first part's
    assert clock.cpu == {"start-up": before, "clustering": 3.75, "data": 2.5, "other": 1} and clock.total(cpu=True) == 58.25


def test_a_loop_over_a_loader(sleep):
    def loader():
        for batch in (None, 1, 2):  # None is an ordinary batch
            sleep(10)
            yield batch
        sleep(5)

    clock = TimeByPart()
    with clock("evaluation"):
        for batch in clock.over(loader(), "feature extraction"):
            if batch == 1:
                continue
            sleep(1)
            with clock("clustering"):
                sleep(0.25)
        sleep(0.5)
    assert clock.seconds == {"other": 0, "evaluation": 0.5, "data": 35, "feature extraction": 2, "clustering": 0.5}


def test_parts_sum_to_what_the_clock_went_on(sleep):
    clock = TimeByPart("start-up", already=3)
    for _ in clock.over(range(100), "feature extraction"):
        sleep(0.5)
        with clock("clustering"):
            sleep(0.25)
    sleep(7)
    clock.summary()
    assert sum(clock.seconds.values()) == 3 + 100 * 0.75 + 7


def test_summary():
    clock = TimeByPart()
    clock.seconds = {"other": 1.0, "clustering": 3.0}
    title, other, clustering = clock.summary().splitlines()
    assert title == "time by part, 4.0 s in all:"
    assert other.split() == ["other", "1.0", "s", "25.0%", "#" * 10]
    assert clustering.split() == ["clustering", "3.0", "s", "75.0%", "#" * 30]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_process_age():
    """The reference is a second clock of the kernel. The age grows with the time since the process started."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import time; time.sleep(0.5); from utils.timing import process_age; "
            "a, b = process_age(), time.monotonic(); c, d = process_age(), time.monotonic(); "
            "print(a, (c - a) - (d - b))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    age, drift = map(float, done.stdout.split())
    assert age >= 0.5 and abs(drift) < 0.1


def test_durations_as_people_say_them():
    assert [duration(seconds) for seconds in (40.4, 89.9, 720, 5399, 12600)] == ["40 s", "90 s", "12 min", "90 min", "3.5 h"]
