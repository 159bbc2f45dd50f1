"""Fixtures that several test files share: a small image folder, and a way to run the entry points."""

import importlib
import logging
import os
import signal
from functools import partial

import hypothesis
import pytest
import torch

import test as test_program
import train as train_program
from thumbnails import make_image_folder
from utils.errors import InputError
from utils.interrupt import EXIT_CODES

logging.getLogger("udml").propagate = False  # to pytest, which would pass on names that are no UTF-8 between its processes
IMPORTED = {"train": train_program, "test": test_program}  # not by their names: the standard library has a `test` too
torch.set_num_threads(1)  # of small work: several threads on a busy machine wait for each other many times over


def pytest_collection_modifyitems(items):
    """EXAMPLES=10 draws ten times as many examples of each property as a test asks for (scripts/nightly.sh)."""
    times = int(os.environ.get("EXAMPLES", 1))
    name = "_hypothesis_internal_use_settings"
    for function in {item.function for item in items if hasattr(getattr(item, "function", None), name)}:
        asked = getattr(function, name)
        setattr(function, name, hypothesis.settings(asked, max_examples=times * asked.max_examples))


@pytest.fixture
def image_folder(tmp_path):
    return make_image_folder(tmp_path / "images")


def run_program(monkeypatch, program, *arguments):
    if program in IMPORTED and "--report" not in arguments:
        arguments = (*arguments, "--report", "no")  # it would take most of the time
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    main = (IMPORTED.get(program) or importlib.import_module(program)).main
    monkeypatch.setattr("sys.argv", [f"{program}.py", *map(str, arguments)])
    try:
        main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture
def run(monkeypatch):
    """run("train", "--flag", value, ...) runs an entry point in this process, which hears no signals afterwards."""
    return partial(run_program, monkeypatch)


@pytest.fixture(scope="module")
def run_once():
    """The same for what the tests of a file share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield partial(run_program, monkeypatch)


@pytest.fixture
def refused(run):
    """refused("train", ...) -> the one line with which an entry point refuses its input."""

    def call(*arguments):
        with pytest.raises(InputError) as caught:
            run(*arguments)
        message = caught.value.shown
        assert message and "\n" not in message
        return message

    return call
