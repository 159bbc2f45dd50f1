"""metrics.jsonl: the means in it, and the lines that are kept when a run is resumed."""

import errno
import json
from itertools import product

import pytest

from utils import metrics
from utils.errors import RunError
from utils.metrics import Metrics


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(metrics, "say", lines.append)
    return lines


def measured(loss, seconds=2.0, **more):
    return {"loss": loss, **more, "images": 10, "waited": 0.5, "seconds": seconds}


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_report_is_the_mean_of_the_unreported_steps(tmp_path, said):
    log = Metrics(str(tmp_path))
    log.unreported += [measured(1.0, negative=0.5), measured(2.0, negative=0.25), measured(6.0, seconds=4.0, negative=0.0)]
    log.report(3, 600, 17)
    assert lines_of(tmp_path) == [
        {"epoch": 3, "step": 17, "steps": 3, "loss": 3.0, "negative": 0.25, "images_per_s": 30 / 8, "data_wait": 1.5 / 8}
    ]
    assert said == ["epoch 3/600 loss 3.0000 negative 0.2500 images/s 3.8 waiting for data 18.8%"]
    log.report(3, 600, 18)  # nothing is left to report
    log.unreported.append(measured(5.0))
    log.report(3, 600, 19)
    assert [(line["step"], line["loss"]) for line in lines_of(tmp_path)] == [(17, 3.0), (19, 5.0)]
    log.write(3, test={"nmi": 0.5})
    assert lines_of(tmp_path)[-1] == {"epoch": 3, "test": {"nmi": 0.5}}


def test_unreported_steps_are_carried_over_as_a_copy(tmp_path, said):
    before = [measured(1.0)]
    log = Metrics(str(tmp_path), 1, 1, before)
    log.unreported.append(measured(3.0))
    log.report(2, 9, 2)
    assert lines_of(tmp_path)[0]["loss"] == 2.0 and lines_of(tmp_path)[0]["steps"] == 2 and before == [measured(1.0)]


def test_what_comes_after_the_position_is_dropped(tmp_path):
    """At every position in 4 epochs of 6 steps. There is a line every 3 steps, and a test line after each epoch."""
    lines = {}  # line -> the position at which it was written
    for epoch in (1, 2, 3, 4):
        for step in (3, 6):
            lines[json.dumps({"epoch": epoch, "step": step, "loss": 1}) + "\n"] = epoch - 1, step
        lines[json.dumps({"epoch": epoch, "test": 1}) + "\n"] = epoch, 0
    for position in product(range(5), range(7)):
        (tmp_path / "metrics.jsonl").write_text("".join(lines))
        Metrics(str(tmp_path), *position)
        expected = [line for line, written in lines.items() if written <= position]
        assert (tmp_path / "metrics.jsonl").read_text() == "".join(expected), position
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "bad",
    [
        "\n",
        "{\n",
        "null\n",
        "3\n",
        "[1]\n",
        '"epoch"\n',
        "{}\n",
        '{"step": 1}\n',
        '{"epoch": null}\n',
        '{"epoch": "1"}\n',
        '{"epoch": 3, "step": "1"}\n',
        '{"epoch": 3, "step": [1]}\n',
        "\xff\n",
        "\0" * 50 + "\n",
        "[" * 10000 + "\n",
        '{"epoch": ' + "9" * 5000 + "}\n",
        '{"epoch": 1',
        '{"epoch": 1}',
    ],
    ids=lambda bad: ascii(bad[:20]),
)
def test_garbage_and_half_lines_are_dropped(tmp_path, bad):
    whole = '{"epoch": 2, "step": 4}\n'
    (tmp_path / "metrics.jsonl").write_bytes((whole + bad).encode("latin-1"))
    Metrics(str(tmp_path), 2, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == whole
    if bad.endswith("\n"):  # bad lines between others are dropped too
        (tmp_path / "metrics.jsonl").write_bytes((bad + whole).encode("latin-1"))
        Metrics(str(tmp_path), 2, 1)
        assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_nan_and_unicode_come_back(tmp_path):
    log = Metrics(str(tmp_path))
    log.write(1, step=1, positive=float("nan"), name="ü\udce9")
    before = (tmp_path / "metrics.jsonl").read_bytes()
    Metrics(str(tmp_path), 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before and b"NaN" in before


def test_only_the_first_process_writes(tmp_path, said):
    log = Metrics(str(tmp_path), writes=False)
    log.unreported.append(measured(1.0))
    log.report(1, 2, 3)
    log.write(1, test=1)
    assert not list(tmp_path.iterdir()) and not log.unreported
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")  # the file of the first process, which reports the error
    log.write(1)
    log.sync()


def test_a_removed_folder_is_made_again(tmp_path):
    log = Metrics(str(tmp_path))
    (tmp_path / "metrics.jsonl").unlink()
    log.sync()  # there is no file to sync
    tmp_path.rmdir()
    log.write(1, step=2)
    assert lines_of(tmp_path) == [{"epoch": 1, "step": 2}]


def test_what_goes_wrong_with_the_file_is_said_in_one_line(tmp_path, monkeypatch):
    log = Metrics(str(tmp_path))
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    reason = "No space left on device"

    def one_line(call, *arguments):
        with pytest.raises(RunError) as caught:
            call(*arguments)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path}/metrics.jsonl: cannot be written ({reason}); ") and caught.value.rescue
        assert len(message.splitlines()) == 1

    one_line(log.write, 1)
    (tmp_path / "metrics.jsonl").unlink()
    log.write(1)

    def fsync(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(metrics.os, "fsync", fsync)
        reason = "Input/output error"
        one_line(log.sync)
        one_line(Metrics, str(tmp_path), 1)
    assert lines_of(tmp_path) == [{"epoch": 1}]  # the file did not change
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    reason = "Is a directory"
    for call in (lambda: log.write(1), lambda: Metrics(str(tmp_path)), lambda: Metrics(str(tmp_path), 1)):
        one_line(call)
