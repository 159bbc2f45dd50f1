"""How a run ends: with one line and its exit code. Only bugs give a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def end(ending, before="", **environment):
    """Run a process whose main() is `ending`. Returns (exit code, stdout, stderr)."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import logging, sys
from utils import errors
from utils.errors import InputError, Interrupted, RunError, exit_on_error
def main():
    print("so far", end="")
    {ending}
{before}
exit_on_error(main)
""",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


LOGGING = """
log = logging.getLogger("udml")
log.handlers = [logging.StreamHandler(sys.stderr), logging.FileHandler(sys.argv[1])]
"""


@pytest.mark.parametrize("before", ["", "logging.getLogger('udml').addHandler(logging.StreamHandler())"])
@pytest.mark.parametrize(
    "error, code, line",
    [
        ("InputError('no such file')", 2, "error: no such file\n"),
        ("RunError('a full disk')", 1, "error: a full disk\n"),
        ("RunError('lost', rescue=True)", 1, "error: lost\n"),
        ("Interrupted('by SIGTERM', 143)", 143, "stopped: by SIGTERM\n"),
        ("Interrupted('by SIGINT', 130)", 130, "stopped: by SIGINT\n"),
        ("InputError('100% of %s')", 2, "error: 100% of %s\n"),
    ],
)
def test_one_line_and_its_exit_code(error, code, line, before):
    """The error comes before or after the log is open."""
    assert end(f"raise {error}", before) == (code, "so far", line)


def test_a_good_end():
    assert end("pass") == (0, "so far", "")
    assert end("sys.exit(5)") == (5, "so far", "")


def test_a_fault_of_ours_is_in_the_log_file_with_its_traceback(tmp_path):
    before = LOGGING.replace("sys.argv[1]", repr(str(tmp_path / "run.log")))
    code, out, err = end("{}['missing']", before)
    assert code == 1 and out == "so far"
    text = (tmp_path / "run.log").read_text()
    assert text.startswith("the run ended with an unexpected error\nTraceback") and text.endswith("KeyError: 'missing'\n")
    assert err == text  # the terminal has it only once
    code, out, err = end("{}['missing']")
    assert code == 1 and err.startswith("Traceback") and err.endswith("KeyError: 'missing'\n")


def test_the_first_of_several_processes_speaks_first():
    before = "errors.time.sleep = lambda seconds: print(' waited', end='')"
    assert end("raise InputError('x')", before, RANK="1") == (2, "so far waited", "error: x\n")
    assert end("raise InputError('x')", before, RANK="0") == (2, "so far", "error: x\n")
    assert end("raise RunError('x')", before, RANK="1") == (1, "so far", "error: x\n")  # only one process has it


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_changes_no_exit_code(stream):
    ending = f"sys.{stream} = None; raise InputError('x')"  # as Python sets it after `>&-`
    assert end(ending)[0] == 2
    assert end(ending, "logging.getLogger('udml').addHandler(logging.NullHandler())")[0] == 2
