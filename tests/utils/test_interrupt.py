"""Signals: when they end a run at once, when they wait for the end of a step, and with which exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import Interrupted
from utils.interrupt import EXIT_CODES, Stop, ignore_in_worker

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in EXIT_CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raised(call, *arguments):
    with pytest.raises(Interrupted) as caught:
        call(*arguments)
    return str(caught.value), caught.value.code


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_at_first_a_signal_acts_where_it_arrives_and_later_after_the_step(name, code, capfd):
    number = signal.Signals[name]
    Stop()
    assert raised(signal.raise_signal, number) == (f"by {name}", code)

    stop, steps = Stop(), 0
    with stop.deferred():
        signal.raise_signal(number)
        steps += 1
        assert stop.signal == number and capfd.readouterr().err.count("finishing the step, then saving") == 1
        assert raised(stop.check, stop.signal) == (f"by {name}", code)
    assert steps == 1


def test_no_signal_no_end():
    stop = Stop()
    stop.check(False)
    with stop.deferred(), stop.at_once():
        stop.check(stop.signal)


def test_after_the_deferred_block_signals_act_at_once_again():
    stop = Stop()
    with pytest.raises(KeyError), stop.deferred():
        raise KeyError
    assert raised(signal.raise_signal, signal.SIGTERM)[1] == 143


def test_at_once_within_deferred():
    stop, reached = Stop(), []
    with stop.deferred():
        with pytest.raises(Interrupted), stop.at_once():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the rest of the block")
        signal.raise_signal(signal.SIGUSR1)  # a save in progress is not interrupted
    stop = Stop()
    with stop.deferred():
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGTERM)  # now signals are deferred again
        assert stop.signal == signal.SIGTERM
    stop = Stop()
    with stop.deferred():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), stop.at_once():
            reached.append("a block that the signal came before")
    assert not reached


def test_the_first_signal_counts():
    stop = Stop()
    with stop.deferred():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGHUP)
        assert raised(stop.check, True) == ("by SIGUSR1", 143)


def test_a_signal_at_another_process_ends_this_one_too():
    stop = Stop()
    assert raised(stop.check, 1) == ("by SIGTERM", 143)  # this process does not know which signal the other one got


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    stop = Stop()
    signal.raise_signal(signal.SIGHUP)
    assert not stop.signal


def test_a_terminal_that_is_gone_does_not_break_the_step():
    stop, (reader, writer), stderr = Stop(), os.pipe(), os.dup(2)
    os.close(reader)
    os.dup2(writer, 2)
    try:
        with stop.deferred():
            signal.raise_signal(signal.SIGHUP)  # the line about it goes into a broken pipe
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writer)
    assert stop.signal == signal.SIGHUP


def test_a_library_does_not_catch_it():
    Stop()
    with pytest.raises(Interrupted):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pass


@pytest.mark.parametrize(
    "first, second, code",
    [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGINT", 130), ("SIGUSR1", "SIGTERM", 143), ("SIGTERM", "SIGTERM", 143)],
)
def test_a_second_signal_ends_at_once_but_not_the_same_one_twice(first, second, code):
    """torchrun passes on a Ctrl-C that its processes have got already."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import signal, time
from utils import interrupt
now = 0
interrupt.time.monotonic = lambda: now
stop = interrupt.Stop()
stop.step_seconds = 12.34
with stop.deferred():
    signal.raise_signal(signal.{first})
    now = interrupt.BOUNCE
    signal.raise_signal(signal.{second})
    print("goes on", flush=True)
    now = 1.1 * interrupt.BOUNCE
    signal.raise_signal(signal.{second})
    print("still there", flush=True)
""",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (code, "goes on\n")
    assert "finishing the step (12.3 s or less), then saving; another signal after 1 s ends the run at once" in done.stderr


def test_workers_hear_no_signals():
    ignore_in_worker(0)
    for number in EXIT_CODES:
        signal.raise_signal(number)
