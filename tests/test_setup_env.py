"""scripts/setup_env.sh with a stand-in for the environment's python: its messages, its calls of pip, its failures."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = """#!/bin/sh
echo "$*" >> "{folder}/calls"
case "$*" in
    *"import torch"*) exit {without_torch} ;;
    *--index-url*) echo "ERROR: no index"; exit {unreachable} ;;
    *"pip install"*) echo "Collecting torch"; printf '\\033[31mERROR: {reason}\\033[0m\\n' >&2; exit {fails} ;;
esac
"""


@pytest.fixture
def set_up(tmp_path):
    """set_up(...) runs the script. set_up.calls: the calls of python. set_up.log: the lines of pip."""

    def call(torch_cpu=False, without_torch=1, unreachable=0, fails=0, reason="no space left"):
        binaries = tmp_path / "environment" / "bin"
        binaries.mkdir(parents=True, exist_ok=True)
        (binaries / "python").write_text(
            STAND_IN.format(
                folder=tmp_path, without_torch=without_torch, unreachable=unreachable, fails=fails, reason=reason
            )
        )
        (binaries / "python").chmod(0o755)
        settings = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "TORCH")}
        settings["VIRTUAL_ENV"] = str(tmp_path / "environment")
        settings |= {"TORCH": "cpu"} if torch_cpu else {}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "source scripts/setup_env.sh"],
            cwd=ROOT, env=settings, text=True, capture_output=True,
        )  # fmt: skip
        call.calls = (tmp_path / "calls").read_text().splitlines()
        log = tmp_path / "environment" / "install.log"
        call.log = log.read_text() if log.exists() else ""
        return done

    return call


def test_it_says_how_large_pytorch_is_and_how_to_take_less(set_up):
    done = set_up()
    assert done.returncode == 0 and "PyTorch is about 6 GB" in done.stdout
    if not Path("/proc/driver/nvidia").exists():
        assert "put TORCH=cpu in front of the same command" in done.stdout
    assert "Collecting" not in done.stdout and "Collecting torch" in set_up.log
    assert not any("--index-url" in call for call in set_up.calls)
    assert set_up().stdout == ""  # nothing is left to do


def test_a_torch_that_is_there_is_used_as_it_is(set_up):
    for torch_cpu in (False, True):
        done = set_up(torch_cpu=torch_cpu, without_torch=0)
        assert done.returncode == 0 and "GB" not in done.stdout
    assert not any("--index-url" in call for call in set_up.calls)


def test_the_build_for_the_cpu(set_up):
    done = set_up(torch_cpu=True)
    assert done.returncode == 0 and "for the CPU, about 1 GB" in done.stdout and "6 GB" not in done.stdout
    (call,) = [call for call in set_up.calls if "--index-url" in call]
    pinned = re.findall(r"^torch(?:vision)?==\S+$", (ROOT / "requirements.txt").read_text(), re.M)
    assert len(pinned) == 2 and call.endswith(" ".join(["https://download.pytorch.org/whl/cpu", *pinned]))


def test_if_the_build_for_the_cpu_cannot_be_installed_the_ordinary_one_is_taken(set_up):
    done = set_up(torch_cpu=True, unreachable=1)
    assert done.returncode == 0
    assert "could not be installed from https://download.pytorch.org/whl/cpu (no index)" in done.stdout
    assert any("-r requirements.txt" in call for call in set_up.calls)


def test_a_failed_install_is_one_line_with_a_remedy_and_is_tried_again(set_up, tmp_path):
    done = set_up(fails=1)
    (line,) = done.stderr.splitlines()
    log = tmp_path / "environment" / "install.log"
    assert done.returncode == 2
    why = "pip could not install requirements.txt: no space left"
    assert line == f"error: {why}; run the same command again, or see {log}"
    assert set_up().returncode == 0
