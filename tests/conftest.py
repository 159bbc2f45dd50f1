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

logging.getLogger("udml").propagate = False  # pytest cannot pass names that are not UTF-8 between its processes
IMPORTED = {"train": train_program, "test": test_program}  # imported as files, because the standard library has a `test` too
torch.set_num_threads(1)  # for small work, several threads would mostly wait for each other


def pytest_collection_modifyitems(items):
    """With EXAMPLES=10, draw ten times as many examples of each property as a test names (scripts/nightly.sh)."""
    times = int(os.environ.get("EXAMPLES", 1))
    name = "_hypothesis_internal_use_settings"
    for function in {item.function for item in items if hasattr(getattr(item, "function", None), name)}:
        asked = getattr(function, name)
        setattr(function, name, hypothesis.settings(asked, max_examples=times * asked.max_examples))


@pytest.fixture
def image_folder(tmp_path):
    return make_image_folder(tmp_path / "images")


@pytest.fixture
def graphs(monkeypatch, tmp_path):
    """An empty folder, where ONNX Runtime's graphs are kept."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "graphs"


def run_program(monkeypatch, program, *arguments):
    if program in IMPORTED and "--report" not in arguments:
        arguments = (*arguments, "--report", "no")  # the report would take most of the time
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
    """run("train", "--flag", value, ...) runs an entry point in this process, and restores the signal handlers."""
    return partial(run_program, monkeypatch)


@pytest.fixture(scope="module")
def run_once():
    """As `run`, for results that all tests of a file share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield partial(run_program, monkeypatch)


@pytest.fixture
def refused(run):
    """refused("train", ...) returns the one line with which an entry point refuses its input."""

    def call(*arguments):
        with pytest.raises(InputError) as caught:
            run(*arguments)
        message = caught.value.shown
        assert message and "\n" not in message
        return message

    return call
