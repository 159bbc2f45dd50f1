"""Runs that are killed, stopped and hit by faults: nothing is lost, and the resumed run is the same run, bit by bit."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import utils.clustering.kmeans
import utils.run
from forked import Forked, train as train_program
from kill_at import train_until
from thumbnails import TINY, TINY_TRAIN, make_image_folder, measured
from utils import beside, checkpoint
from utils.errors import Interrupted, RunError
from utils.grad_cache import ForwardBackward

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("KILLS", 5))  # scripts/kill_and_resume.sh sets more

# Epochs of two steps of a tiny net, with as many of the other parts as possible.
EPOCHS = max(40, 5 * KILLS)
FLAGS = (
    *TINY_TRAIN,
    *"--num_clusters 8 --up_step 1 --eval_step 1 --cache ram --print_freq 3 --save_step 4 --keep_last 2".split(),
    *("--epochs", str(EPOCHS)),
)
MOMENTS = {  # what the process does when it is killed -> (its function, most calls before, most seconds within)
    "step": ("utils.grad_cache:ForwardBackward.backward", 4, 0.03),
    "checkpoint": ("utils.checkpoint:save", 4, 0.03),
    "clustering": ("utils.clustering.kmeans:lloyd", 3, 0.002),
    "cache": ("data.cache:_fill", 1, 0.02),
    "evaluation": ("evaluations.retrieval:score", 3, 0.01),
    "metrics": ("utils.metrics:Metrics.write", 4, 0.001),
    "any": ("models:create", 1, 1),
}  # up to a second after the imports, which take most of a run's time


def start(images, save_dir, *more, moment=None):
    """Start train.py in a process. moment: (function, call, delay) of kill_at.py, or None."""
    command = (*FLAGS, "--data", images, "--save_dir", save_dir, *more)
    output = Path(f"{save_dir}.output")
    return Forked(output, train_program, *command) if moment is None else Forked(output, train_until, moment, *command)


def finish(process, code=0):
    returned, out = process.wait()
    assert returned == code, out
    assert "Traceback" not in out, out
    return out


def learned(save_dir, epoch):
    """Return all parts of a checkpoint that the next step depends on, in one dict."""
    state = checkpoint.load(checkpoint.path_of(str(save_dir), epoch))
    adam = {f"adam {i} {name}": value for i, values in state["optimiser"]["state"].items() for name, value in values.items()}
    return {**state["state_dict"], **adam, "labels": state["method"]["labels"]}


def same_run(a, b, epoch):
    one, other = learned(a, epoch), learned(b, epoch)
    assert one.keys() == other.keys() and [k for k in one if not torch.equal(one[k], other[k])] == []
    assert measured(a) == measured(b)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp("survival") / "images")


@pytest.fixture(scope="module")
def whole(images):
    """The folder of a run without any fault."""
    save_dir = images.parent / "whole"
    finish(start(images, save_dir, "--save_minutes", 0))
    return save_dir


def test_a_run_killed_at_any_moment_is_the_same_run(images, whole, tmp_path):
    """One run is killed again and again, at chosen and at random moments. There is a rolling checkpoint after every step."""
    rng, save_dir = random.Random(0), tmp_path / "run"
    chosen = [*MOMENTS][:-1] * -(-KILLS // 12)  # half of the kills, or each moment once
    plan = [*chosen, *["any"] * KILLS][:KILLS]
    rng.shuffle(plan)
    for name in plan:
        print("killed during:", name)
        function, calls, seconds = MOMENTS[name]
        process = start(
            images, save_dir, "--save_minutes", 1e-9, moment=(function, rng.randint(1, calls), rng.uniform(0, seconds))
        )
        finish(process, -signal.SIGKILL)  # if it exits with 0, raise EPOCHS
        for path in save_dir.glob("*.pth.tar"):
            checkpoint.load(str(path))  # a file with its final name is whole
    finish(start(images, save_dir, "--save_minutes", 1e-9))
    same_run(whole, save_dir, EPOCHS)
    assert not list(save_dir.glob("*.tmp*"))


NEIGHBOURS = (  # a method that keeps a part of its checkpoints in a file beside them
    *TINY,
    *"--method shared_neighbours --pretrained False --batch_size 8 --num_instances 2 --k1 6 --near 0.9".split(),
    *"--train_from all --readout embedding --report no --epochs 3 --save_step 1 --save_minutes 1e-9".split(),
)
BESIDE = [  # (function, call, seconds after it has begun) of each kill
    ("utils.beside:written_whole", 1, 0),
    ("utils.beside:write", 1, 0),
    ("utils.checkpoint:save", 1, 0),
    ("utils.checkpoint:remove_unnamed", 1, 0),
    ("utils.beside:write", 3, 0.002),
    ("utils.beside:read", 1, 0.001),
]


def test_a_run_killed_around_the_file_beside_its_checkpoints_is_the_same_run(images, tmp_path):
    """The file of another look lies there too: the first checkpoint removes it."""

    def go(name, moment=None):
        command = (*NEIGHBOURS, "--data", images, "--save_dir", tmp_path / name)
        output = tmp_path / f"{name}.output"
        return Forked(output, train_program, *command) if not moment else Forked(output, train_until, moment, *command)

    finish(go("whole"))
    save_dir = tmp_path / "run"
    save_dir.mkdir()
    beside.write(str(save_dir), {"of another run": torch.ones(3)})
    for moment in BESIDE:
        finish(go("run", moment), -signal.SIGKILL)
        for path in {*map(str, save_dir.glob("*.pth.tar"))} - beside.all_in(str(save_dir)):
            checkpoint.load_to_resume(path)  # what a checkpoint names is there, and whole
    finish(go("run"))
    one, other = (checkpoint.load_to_resume(checkpoint.path_of(str(tmp_path / name), 3)) for name in ("whole", "run"))
    assert one["method"].keys() == other["method"].keys() > {"neighbours", "distance"}
    assert all(torch.equal(value, other["method"][key]) for key, value in one["method"].items())
    assert measured(tmp_path / "whole") == measured(save_dir)
    assert len(beside.all_in(str(save_dir))) == 1 and not list(save_dir.glob("*.tmp*"))


def test_checkpoints_of_before_there_were_files_beside_them_go_on(run, images, tmp_path, monkeypatch):
    """The first look copies no state: there is nothing to restore."""
    monkeypatch.setattr(utils.run, "copy", None)
    for name in ("whole", "parts"):
        run("train", *NEIGHBOURS, "--data", images, "--save_dir", tmp_path / name)
    first = tmp_path / "parts" / "ckp_ep1.pth.tar"
    state = checkpoint.load_to_resume(first)
    assert len(state.pop("look")) == 64
    for path in (tmp_path / "parts").glob("*.pth.tar"):
        path.unlink()
    checkpoint.save(str(first), state)
    run("train", *NEIGHBOURS, "--data", images, "--save_dir", tmp_path / "parts")
    one, other = (checkpoint.load_to_resume(tmp_path / name / "ckp_ep3.pth.tar") for name in ("whole", "parts"))
    assert all(torch.equal(value, other["method"][key]) for key, value in one["method"].items())


def wait_for(save_dir, lines):
    """Wait until a run has written this number of lines of metrics."""
    end = time.monotonic() + 300  # long enough on a busy machine
    while time.monotonic() < end:
        if (save_dir / "metrics.jsonl").exists() and len(measured(save_dir)) >= lines:
            return
        time.sleep(0.05)
    raise AssertionError("the run does not get on")


def test_signals_end_a_run_soon_and_the_same_command_goes_on(images, whole, tmp_path, refused):
    save_dir = tmp_path / "run"
    for turn, (number, code) in enumerate([(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)]):
        before = len(measured(save_dir)) if turn else 0
        process = start(images, save_dir, "--save_minutes", 0)
        wait_for(save_dir, before + 3)
        if not turn:  # someone else starts the same command
            message = refused("train", *FLAGS, "--data", images, "--save_dir", save_dir)
            assert f"in use by another run, pid {process.pid} on host {os.uname().nodename}" in message
        process.send_signal(number)
        out = finish(process, code)  # it must not have ended by itself
        assert f"stopped: by {number.name}" in out and (save_dir / "latest.pth.tar").exists()
    finish(start(images, save_dir, "--save_minutes", 0))
    same_run(whole, save_dir, EPOCHS)


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, happens) calls `happens()` in the middle of the n-th step from now on."""

    def arrange(n, happens):
        original, calls = ForwardBackward.backward, []

        def backward(self, loss):
            calls.append(1)
            if len(calls) == n:
                happens()
            return original(self, loss)

        monkeypatch.setattr(ForwardBackward, "backward", backward)

    return arrange


@pytest.fixture
def train(run, images, tmp_path):
    """train(name, "--flag", value, ...) trains in this process, and returns the folder of that name."""

    def call(name, *more):
        run("train", *TINY_TRAIN, "--num_clusters", 8, "--data", images, "--save_dir", tmp_path / name, *more)
        return tmp_path / name

    return call


@pytest.mark.parametrize("net, stop_at", [("timm/rexnet_100", 1), ("timm/rexnet_100", 4), ("timm/test_resnet", 3)])
def test_stopped_in_the_middle_of_an_epoch(train, at_step, capsys, net, stop_at):
    """An epoch has two steps. One net has dropout, whose draws must go on as without the stop."""
    flags = ("--net", net, "--epochs", 3, "--print_freq", 4)
    same = train("whole", *flags)
    at_step(stop_at, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train("parts", *flags)
    state = checkpoint.load(str(same.parent / "parts" / "latest.pth.tar"))
    assert 2 * state["epoch"] + state["step"] == stop_at
    same_run(same, train("parts", *flags), 3)


def test_a_run_that_is_stopped_has_said_what_it_is(train, at_step, tmp_path):
    """run.json is written with each numbered checkpoint, so test.py can make a whole report of a run that died."""
    at_step(7, lambda: os.kill(os.getpid(), signal.SIGTERM))  # this is in the fourth epoch
    with pytest.raises(Interrupted):
        train("parts", "--epochs", 4, "--save_step", 2)
    about = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert about["settings"]["epochs"] == 4 and about["seconds"]["forward/backward"] > 0


def test_a_signal_while_features_are_extracted(train, monkeypatch):
    """The run ends at once. The next run extracts the features again."""
    original, calls = utils.run.extract, []

    def extract(*args):
        calls.append(1)
        if len(calls) == 2:  # this is before the second clustering, after two epochs
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("still here")
        return original(*args)

    flags = ("--epochs", 4)
    whole = train("whole", *flags)
    monkeypatch.setattr(utils.run, "extract", extract)
    with pytest.raises(Interrupted):
        train("parts", *flags)
    same_run(whole, train("parts", *flags), 4)


def test_a_signal_while_labels_are_made(train, tmp_path, monkeypatch):
    """The signal comes at the worst moment: the new labels are in place, but the run has not noted it. It drops these
    labels."""
    kmeans, calls = utils.clustering.kmeans.kmeans, []

    def other_labels(*args):
        clusters = kmeans(*args)
        calls.append(clusters.labels)
        return clusters if len(calls) == 1 else clusters._replace(labels=(clusters.labels + 1) % 8)

    def describe(*args):
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("still here")
        return ""

    flags = ("--epochs", 4)
    whole = train("whole", *flags)
    with monkeypatch.context() as patch:
        patch.setattr(utils.clustering.kmeans, "kmeans", other_labels)
        patch.setattr(utils.clustering.kmeans, "describe", describe)
        with pytest.raises(Interrupted):
            train("parts", *flags)
    state = checkpoint.load(str(tmp_path / "parts" / "latest.pth.tar"))
    assert state["looked"] == 1 and state["method"]["labels"].tolist() == calls[0].tolist()
    same_run(whole, train("parts", *flags), 4)


def test_disk_full_while_saving(train, tmp_path):
    save_dir = train("run", "--epochs", 1)
    before = (save_dir / "ckp_ep1.pth.tar").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
    try:
        with pytest.raises(RunError, match="ckp_ep2.pth.tar: cannot be written .*earlier checkpoints are as they were"):
            train("run", "--epochs", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (save_dir / "ckp_ep1.pth.tar").read_bytes() == before
    assert sorted(path.name for path in save_dir.iterdir()) == ["ckp_ep1.pth.tar", "metrics.jsonl", "run.json", "run.lock"]
    same_run(train("whole", "--epochs", 2), train("run", "--epochs", 2), 2)


def test_a_full_disk_is_exit_code_1_and_one_line(images, tmp_path):
    script = f'ulimit -f 100; exec "$0" train.py --data "{images}" --save_dir "{tmp_path}/run" --epochs 1 "$@"'
    done = subprocess.run(["bash", "-c", script, sys.executable, *TINY_TRAIN], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "ckp_ep1.pth.tar: cannot be written (File too large)" in done.stderr
    assert list((tmp_path / "run").glob("*.pth.tar*")) == []


@pytest.fixture
def read_only(tmp_path):
    """A folder that nobody can write, not even root."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
    else:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("cannot mount a read-only folder here")
        yield folder
        subprocess.run(["umount", folder], check=True)


def test_read_only_output(refused, read_only, images):
    flags = (*TINY_TRAIN, "--data", images, "--epochs", 1)
    assert f"{read_only}/run: cannot make this folder" in refused("train", *flags, "--save_dir", read_only / "run")
    assert f"{read_only}/run.lock: cannot be written" in refused("train", *flags, "--save_dir", read_only)
    assert "--log_file" in refused("train", *flags, "--save_dir", read_only.parent / "run", "--log_file", read_only / "log")


def test_output_folder_removed_during_the_run(train, at_step, tmp_path, capsys):
    same = train("whole", "--epochs", 3)
    at_step(2, lambda: shutil.rmtree(tmp_path / "run"))
    save_dir = train("run", "--epochs", 3)
    assert all(torch.equal(a, b) for a, b in zip(learned(same, 3).values(), learned(save_dir, 3).values()))
    assert measured(save_dir) == measured(same)[1:]  # the line of the first step was in the removed folder


def test_a_data_loading_process_is_killed(train, at_step, capfd):
    flags = ("--epochs", 4, "--nThreads", 1, "--cache", "none", "--up_step", 4)
    same = train("whole", *flags)
    at_step(3, lambda: [child.kill() for child in multiprocessing.active_children()])
    with pytest.raises(RunError, match="a data loading process was killed"):
        train("run", *flags)
    same_run(same, train("run", *flags), 4)


def test_an_image_breaks_after_the_start(train, at_step, images, refused, tmp_path):
    flags = ("--epochs", 4, "--cache", "none", "--up_step", 4)
    same = train("whole", *flags)
    contents = {path: path.read_bytes() for path in (images / "train").rglob("*.jpg")}
    at_step(3, lambda: [path.write_bytes(content[:100]) for path, content in contents.items()])
    save_dir = tmp_path / "run"
    message = refused("train", *TINY_TRAIN, "--num_clusters", 8, "--data", images, "--save_dir", save_dir, *flags)
    assert "cannot be read as an image" in message
    for path, content in contents.items():
        path.write_bytes(content)
    assert checkpoint.load(str(tmp_path / "run" / "latest.pth.tar"))["step"] == 1  # in the second epoch; nothing is lost
    same_run(same, train("run", *flags), 4)


def test_a_loss_that_is_not_finite_stops_the_run(train, tmp_path):
    save_dir = train("run", "--epochs", 1)
    before = (save_dir / "ckp_ep1.pth.tar").read_bytes()
    with pytest.raises(RunError, match=r"epoch \d step \d: the loss is nan: training has diverged.* Lower --lr"):
        train("run", "--epochs", 9, "--lr", 1e9, "--override", "--save_minutes", 1e-9)
    assert (save_dir / "ckp_ep1.pth.tar").read_bytes() == before
    for path in save_dir.glob("*.pth.tar"):
        assert all(value.isfinite().all() for value in checkpoint.load(str(path))["state_dict"].values())
    assert all(line["epoch"] < 9 for line in measured(save_dir))


def test_collapse_and_a_giant_cluster_are_warned_of(run, tmp_path, capsys):
    folder = make_image_folder(tmp_path / "alike", per_class=3)
    for path in (folder / "train").rglob("*.jpg"):
        Image.new("RGB", (48, 40), "grey").save(path)
    flags = "--epochs 60 --up_step 60 --self_supervision_rot 0 --print_freq 100".split()
    run("train", *TINY_TRAIN, "--data", folder, "--save_dir", tmp_path / "run", *flags)
    err = capsys.readouterr().err
    assert "one cluster holds 75% of the images" in err
    assert err.count("all similarities have been above 0.999 for 50 steps") == 1


def test_resuming_says_what_differs(train, capsys):
    train("run", "--epochs", 1)
    capsys.readouterr()
    train("run", "--epochs", 2, "--lr", 2e-4, "--override")
    out = capsys.readouterr().out
    assert "goes on with other settings" in out and "--epochs was 1, is 2" in out and "--lr was 0.0001, is 0.0002" in out


def test_a_new_run_does_not_mix_with_an_old_one(train, images, refused, tmp_path):
    train("run", "--epochs", 1)
    assert "holds checkpoints of an earlier run" in refused(
        "train", *TINY_TRAIN, "--data", images, "--save_dir", tmp_path / "run", "--resume", "no"
    )
