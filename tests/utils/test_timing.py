"""Time by part: against a clock that is set by hand, and against the wall time as a whole."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils import timing
from utils.timing import Parts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sleep(monkeypatch):
    """sleep(seconds) moves the clock that Parts reads."""
    now = [100.0]

    def pass_by(seconds):
        now[0] += seconds

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return pass_by


def test_time_goes_to_the_innermost_part(sleep):
    parts = Parts("start-up", already=10)
    sleep(2)
    parts.outside("other")
    with parts("clustering"):
        sleep(3)
        with parts("data"):
            sleep(5)
        sleep(4)
    sleep(1)
    with pytest.raises(KeyError), parts("clustering"):
        sleep(0.5)
        raise KeyError
    sleep(1)
    parts.summary()
    assert parts.seconds == {"start-up": 12, "clustering": 7.5, "data": 5, "other": 2}


def test_a_loop_over_a_loader(sleep):
    def loader():
        for batch in (None, 1, 2):  # None is a batch like others
            sleep(10)
            yield batch
        sleep(5)

    parts = Parts()
    with parts("evaluation"):
        for batch in parts.over(loader(), "feature extraction"):
            if batch == 1:
                continue
            sleep(1)
            with parts("clustering"):
                sleep(0.25)
        sleep(0.5)
    assert parts.seconds == {"other": 0, "evaluation": 0.5, "data": 35, "feature extraction": 2, "clustering": 0.5}


def test_parts_sum_to_the_wall_time():
    began, parts = time.perf_counter(), Parts()
    for _ in parts.over(range(100), "feature extraction"):
        with parts("clustering"):
            time.sleep(0.001)
    parts.summary()
    assert sum(parts.seconds.values()) == pytest.approx(time.perf_counter() - began, abs=2e-3)


def test_summary():
    parts = Parts()
    parts.seconds = {"other": 1.0, "clustering": 3.0}
    title, other, clustering = parts.summary().splitlines()
    assert title == "time by part, 4.0 s in all:"
    assert other.split() == ["other", "1.0", "s", "25.0%", "#" * 10]
    assert clustering.split() == ["clustering", "3.0", "s", "75.0%", "#" * 30]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_process_age():
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5); from utils.timing import process_age; "
                           "print(process_age())"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0.5 <= float(done.stdout) <= time.perf_counter() - began + 0.02  # the kernel counts in hundredths
