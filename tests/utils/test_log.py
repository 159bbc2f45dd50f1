"""The log writes to the terminal and to a file. Neither may end a run."""

import io
import logging
import sys

import pytest

from utils import log
from utils.errors import InputError


@pytest.fixture(autouse=True)
def logger(monkeypatch):
    """The run's logger. Its handlers and level are restored afterwards."""
    logger = logging.getLogger("udml")
    handlers, level = logger.handlers, logger.level
    monkeypatch.delenv("RANK", raising=False)
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers = handlers
    logger.setLevel(level)


def test_what_makes_a_run_repeatable(tmp_path, capsys):
    log.start({"seed": 3, "data": "cub"}, {"seed": 3}, str(tmp_path / "logs" / "run.log"))
    log.say("a line")
    log.warn("a warning")
    out, err = capsys.readouterr()
    written = (tmp_path / "logs" / "run.log").read_text().splitlines()
    assert [line for line in written if line != "settings: data=cub seed=3"] == [*out.splitlines(), "a warning"]
    assert len(written) == 6 and err == "a warning\n"
    command, versions, settings, line = out.splitlines()
    assert command == "command: " + " ".join(sys.argv) and line == "a line"
    assert settings == "settings that are not the defaults: seed=3"
    assert versions.startswith("commit ") and f"python {sys.version.split()[0]}, torch " in versions


def test_a_second_start_appends_to_the_file(tmp_path):
    for _ in range(2):
        log.start({"seed": 3}, {}, str(tmp_path / "run.log"))
    assert (tmp_path / "run.log").read_text().count("settings: seed=3") == 2


def test_only_the_first_of_several_processes_speaks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "2")
    log.start({"seed": 3}, {}, str(tmp_path / "run.log"))
    log.warn("a warning")
    log.log.error("its own end")
    assert capsys.readouterr() == ("", "process 2: its own end\n") and not (tmp_path / "run.log").exists()


@pytest.mark.parametrize("file", ["file/run.log", "folder"])
def test_a_log_file_that_cannot_be_opened(tmp_path, file):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught:
        log.start({}, {}, str(tmp_path / file))
    assert len(str(caught.value).splitlines()) == 1 and f"{tmp_path}/{file.split('/')[0]}: cannot " in str(caught.value)


def test_a_full_disk_costs_the_file_and_not_the_run(capsys):
    log.start({"seed": 3}, {}, "/dev/full")
    log.say("a line")
    log.warn("a warning")
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["command:", "commit", "settings", "a"]
    assert err == (
        "/dev/full: the log cannot be written there any more ([Errno 28] No space left on device); it goes on "
        "without the file\na warning\n"
    )


def broken_pipe(*_):
    raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_reader_that_is_gone_does_not_end_the_run(tmp_path, monkeypatch, method):
    stream = io.StringIO()
    setattr(stream, method, broken_pipe)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    log.start({}, {}, str(tmp_path / "run.log"))
    log.say("a line")
    log.warn("a warning")
    assert (tmp_path / "run.log").read_text().endswith("a line\na warning\n")


def test_a_terminal_that_was_closed_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    log.start({}, {}, str(tmp_path / "run.log"))
    log.warn("a warning")
    assert (tmp_path / "run.log").read_text().endswith("a warning\n")


@pytest.mark.parametrize(
    "encoding, expected", [("utf-8", "ü\\udce9 猫"), ("ascii", "\\xfc\\udce9 \\u732b")], ids=["utf-8", "ascii"]
)
def test_names_that_the_terminal_cannot_show(tmp_path, monkeypatch, encoding, expected):
    """A file name that is not valid UTF-8 reaches Python with surrogate characters."""
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    log.start({}, {}, str(tmp_path / "run.log"))
    log.say("ü\udce9 猫")
    assert buffer.getvalue().decode(encoding).splitlines()[-1] == expected
    assert (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()[-1] == "ü\\udce9 猫"
