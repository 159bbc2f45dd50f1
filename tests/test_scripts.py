"""The shell scripts as a user runs them, on a made-up CUB of thumbnails, and the small tools beside them."""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models
from data.dataset import Dict
from data.demo import make_demo
from data.prepare.__main__ import FORMATS
from galleries import photo, photos, snapshot
from gallery.store import Gallery
from models import methods
from thumbnails import make_image_folder
from train import parse_args as parse_train
from utils import checkpoint

ROOT = Path(__file__).parents[1]
SUFFIX = f"-pytest-{os.getpid()}"  # at the end of the logs' names
TINY = {"NET": "timm/test_resnet", "PRETRAINED": "False", "WIDTH": "32", "ORIGIN_WIDTH": "36", "RUN_SUFFIX": SUFFIX}
nightly = pytest.mark.nightly


def script(name, *arguments, cwd=None, **environment):
    """Run scripts/<name> with this interpreter and the given environment variables, and no others that scripts read."""
    clean = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if key in os.environ}
    defaults = {} if "VIRTUAL_ENV" in environment else {"PYTHON": sys.executable}
    return subprocess.run(
        [str(ROOT / "scripts" / name), *map(str, arguments)],
        text=True,
        capture_output=True,
        cwd=cwd,
        env={**clean, **defaults, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.fixture
def no_logs_left():
    """Remove the logs of this file's runs from scripts/out."""
    yield
    for log in (ROOT / "scripts" / "out").glob(f"*{SUFFIX}.log"):
        log.unlink()


@pytest.fixture(scope="module")
def cub(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_image_folder(root / Dict["cub"], train_classes=100, test_classes=3, per_class=2)
    return root


@pytest.mark.parametrize("images", [2, pytest.param(20, marks=nightly)])
def test_the_first_command_makes_the_demo_and_ends_with_the_table(tmp_path, no_logs_left, images):
    """By a tiny net on a tenth of the demo. Every night by the default net, on the whole demo, which it draws itself."""
    small = {"ROOT": str(tmp_path), "EPOCHS": "1", "WIDTH": "32", "ORIGIN_WIDTH": "36", "RUN_SUFFIX": SUFFIX}
    if images < 20:
        weights = models.create("timm/test_resnet", 16, pretrained=False).state_dict()
        checkpoint.save(str(tmp_path / "tiny.pth.tar"), {"state_dict": weights, "epoch": 1})
        small |= {"NET": "timm/test_resnet", "WEIGHTS": str(tmp_path / "tiny.pth.tar")}
        make_demo(tmp_path / "data" / "demo", images=images)
        note = tmp_path / "data" / "demo" / "made.txt"
        note.write_text(note.read_text().replace(f"x {images} images", "x 20 images"))
    done = script("run_train_test.sh", **small)
    assert done.returncode == 0, done.stdout + done.stderr
    header, frozen, closed, trained, read_out, report = table = done.stdout.splitlines()[-6:]
    assert header.split() == ["R@1", "R@2", "R@4", "R@8", "R@16", "R@32", "NMI"]
    assert frozen.startswith("frozen backbone  ") and closed.startswith("frozen backbone, closed form ")
    assert trained.startswith("epoch 1  ") and read_out.startswith("epoch 1, closed form ")
    assert len(frozen.split()) == len(trained.split()) == 9
    assert "pictures find their own class" in Path(report.removeprefix("the report: ")).read_text()
    assert "demo set, version 1, seed 0: 40 + 40 classes x 20 images" in done.stdout
    if images == 20:
        again = script("run_train_test.sh", **small)  # this neither draws nor trains again, and gives the same result
        assert "epoch 1 is already reached" in again.stdout and again.stdout.splitlines()[-6:] == table


PAPER = "lr-0.00001-ratio-0.16-BatchSize-80-rot_lr-0.00001-self_supervision_rot-0.1-rot_bt-1-"
PAPER += "rot_batch-16-up_step-5-num_clusters-100-ALPHA-40-BETA-2"


@nightly
@pytest.mark.parametrize("net", ["Inception", "BN-Inception"])
def test_all_weight_runs_the_papers_settings(cub, tmp_path, no_logs_left, net):
    done = script("all_weight.sh", DATA_ROOT=str(cub), ROOT=str(tmp_path), EPOCHS="1", **{**TINY, "NET": net})
    assert done.returncode == 0, done.stdout + done.stderr
    logs = list((ROOT / "scripts" / "out").glob(f"cub-Weight-{net}-*{SUFFIX}.log"))
    assert done.stdout.count("Epoch-1 ") == 1 and len(logs) == 1  # one run
    name = f"{net}-DIM-512-{PAPER}{SUFFIX}"
    assert (tmp_path / "ckpt" / "Weight" / "cub" / name / "ckp_ep1.pth.tar").is_file()
    assert json.loads((tmp_path / "result" / "Weight" / "cub" / f"{name}.json").read_text())[0]["epoch"] == 1
    for word in ("clustered 200 images into 100", "Epoch-1 ", "weight_decay=0.0005", "amp=off", "in torch.float32"):
        assert all(word in log.read_text() for log in logs)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """commands(script, ...) returns the settings of the train.py that a script would run, and the flags of its test.py."""

    def call(name, *arguments, **environment):
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/calls"\n')
        python.chmod(0o755)
        done = script(name, *arguments, PYTHON=str(python), ROOT=str(tmp_path), DATA_ROOT=str(tmp_path), **environment)
        assert done.returncode == 0, done.stderr
        calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
        (train,), (test,) = ([call for call in calls if call[0] == program] for program in ("train.py", "test.py"))
        monkeypatch.setattr("sys.argv", train)
        return vars(parse_train()[0]), test

    return call


def test_all_weight_has_the_papers_settings(commands, tmp_path):
    """The nightly test above makes such a run."""
    settings, test = commands("all_weight.sh", RUN_SUFFIX=SUFFIX)
    saved = tmp_path / "ckpt" / "Weight" / "cub" / f"Inception-DIM-512-{PAPER}{SUFFIX}"
    expected = {"num_clusters": 100, "weight_decay": 0.0005, "amp": "off", "rot_batch": 16, "save_dir": str(saved)}
    expected |= {
        "net": "Inception",
        "epochs": 600,
        "batch_size": 80,
        "lr": 1e-5,
        "width": 227,
        "up_step": 5,
        "loss": "Weight",
    }
    assert {name: settings[name] for name in expected} == expected
    assert test[test.index("--resume") + 1] == str(saved)
    assert test[test.index("--save_json") + 1] == str(tmp_path / "result" / "Weight" / "cub" / f"{saved.name}.json")


def test_positional_arguments_keep_their_order(commands):
    values = "0.3 cub Weight 0.002 41 0 7 0.001 64 6 50 1 False ResNet18".split()
    settings, _ = commands("run_train_test.sh", *values, EPOCHS="1", RUN_SUFFIX=SUFFIX)
    expected = {"self_supervision_rot": 0.3, "data": "cub", "loss": "Weight", "rot_lr": 0.002, "alpha": 41, "rot_bt": False}
    expected |= {"rot_batch": 7, "lr": 0.001, "dim": 64, "up_step": 6, "num_clusters": 50, "method": "rotation"}
    expected |= {"pretrained": False, "net": "ResNet18"}
    assert {name: settings[name] for name in expected} == expected


def test_the_scripts_values_are_the_defaults_of_train():
    """Both are the paper's settings, with two exceptions.

    --amp: the script takes off, as the paper did; train.py takes auto. --readout: the script also fits the closed form.
    """
    script = (ROOT / "scripts" / "run_train_test.sh").read_text()
    values = dict(re.findall(r"^([A-Z_]+)=\$\{\1:-([^}]*)\}", script, re.MULTILINE))
    flags = {"ROT": "self_supervision_rot", "DATA": "data", "NET": "net"}
    settings = vars(methods.default_settings("udml_ss"))
    compared = 0
    for name, value in values.items():
        flag = flags.get(name, {flag.lower(): flag for flag in settings}.get(name.lower()))
        if flag in settings and name not in ("AMP", "DATA_ROOT", "WEIGHTS", "METHOD", "READOUT", "SAVE_DIR"):
            assert boolean_or_number(value) == settings[flag], name
            compared += 1
    assert compared > 20


def test_the_scripts_values_for_other_methods_are_their_defaults():
    script = (ROOT / "scripts" / "run_train_test.sh").read_text()
    lines = re.findall(r"^    ([\w | ]+)\) ((?:[A-Z_]+=\$\{[A-Z_]+:-[\d.]+\} ?)+);;", script, re.MULTILINE)
    assert {name for names, _ in lines for name in names.split(" | ")} == {*methods.names()} - {
        "udml_ss",
        "supervised",
        "rotation",
    }
    for names, values in lines:
        for name in names.split(" | "):
            settings = vars(methods.default_settings(name))
            for flag, value in re.findall(r"([A-Z_]+)=\$\{\w+:-([\d.]+)\}", values):
                assert float(value) == settings[flag.lower()], (name, flag)


def boolean_or_number(text):
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text


@nightly
def test_own_images_without_a_test_list_by_two_processes(cub, tmp_path, no_logs_left):
    photos = tmp_path / "my photos"
    (photos / "train").mkdir(parents=True)
    for i, image in enumerate((cub / Dict["cub"] / "train").rglob("*.jpg")):
        if i < 20:
            (photos / "train" / f"{i}.jpg").write_bytes(image.read_bytes())
    settings = {
        "DATA": str(photos),
        "ROOT": str(tmp_path / "out put"),
        "NUM_CLUSTERS": "6",
        "EPOCHS": "1",
        "BATCH_SIZE": "20",
    }
    tried = script("run_train_test.sh", DRY_RUN="1", **TINY, **settings)
    assert tried.returncode == 0 and "the whole run will take about" in tried.stdout, tried.stdout + tried.stderr
    assert not list((tmp_path / "out put").rglob("*.pth.tar")) and "Nothing to test on" not in tried.stdout

    done = script("run_train_test.sh", NPROC="2", **TINY, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 process(es)" in done.stdout
    nothing, search_with = done.stdout.splitlines()[-2:]
    assert "Nothing to test on: no test.txt or query.txt; " in nothing
    command = shlex.split(search_with.removeprefix("To search with the trained net: "))
    assert command[command.index("--images") + 1] == str(photos) and Path(command[-1]).is_file()
    assert len(list((tmp_path / "out put").rglob("ckp_ep1.pth.tar"))) == 1


def test_a_slurm_job_is_queued_again_before_its_time_limit(cub, tmp_path, no_logs_left):
    """A stand-in replaces scontrol. As in SLURM, the signal reaches only the job's script."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n')
    (tmp_path / "scontrol").chmod(0o755)
    settings = {**TINY, "DATA_ROOT": str(cub), "ROOT": str(tmp_path / "results"), "EPOCHS": "100000", "DIM": "16"}
    settings |= {"ROT_BATCH": "2", "BATCH_SIZE": "10", "TRAIN_FLAGS": "--print_freq 1", "PYTHON": sys.executable}
    settings |= {"SLURM_JOB_ID": "77", "SLURM_SUBMIT_DIR": str(ROOT), "OMP_NUM_THREADS": "1"}
    settings["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    job = subprocess.Popen(
        [ROOT / "scripts" / "slurm_train.sh"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **settings},
    )
    before = ""
    while "images/s" not in before:  # until training has begun
        before += (line := job.stdout.readline())
        assert line, before
    job.send_signal(signal.SIGUSR1)
    out = job.communicate(timeout=30)[0]
    assert job.returncode == 143 and "stopped: by SIGTERM" in out, out
    assert (tmp_path / "calls").read_text() == "requeue 77\n"
    assert len(list((tmp_path / "results").rglob("latest.pth.tar"))) == 1


def test_wrong_data_root_is_one_line(tmp_path, no_logs_left):
    done = script("run_train_test.sh", DATA_ROOT=str(tmp_path / "nowhere"), ROOT=str(tmp_path), RUN_SUFFIX=SUFFIX)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --data_root {tmp_path / 'nowhere'}: no such folder")
    assert done.stderr.count("\n") == 1


def test_an_active_environment_is_used_and_filled_once(tmp_path):
    """A stand-in replaces the environment's python, and notes its arguments."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/calls"\n')
    python.chmod(0o755)
    for _ in range(2):
        done = script("run_tests.sh", "-k", "something", VIRTUAL_ENV=str(tmp_path / "venv"))
        assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    installs = [call.split("-r ")[1] for call in calls if "pip install" in call]
    assert installs == ["requirements.txt", "tests/requirements.txt"]
    assert calls.count("-m pytest -k something") == 2


def test_converters_write_where_the_registry_looks():
    assert {name: form.FOLDER for name, form in FORMATS.items()} == {n: Dict[n] for n in Dict if n != "demo"}


@pytest.mark.parametrize(
    "kinds, expected",
    [
        ((), ["| frozen backbone | 1 | 50.00 | 70.00 |", "| x | 2 | 55.00 ± 7.07 | 70.00 ± 0.00 |"]),
        (
            ("closed_form",),
            [
                "| frozen backbone | 1 | 50.00 | 70.00 |",
                "| closed form of it, no training | 1 | 51.00 | 70.00 |",
                "| x | 2 | 55.00 ± 7.07 | 70.00 ± 0.00 |",
                "| x, closed-form readout | 2 | 56.00 ± 7.07 | 70.00 ± 0.00 |",
            ],
        ),
        (("closed_form alone",), ["| x, closed-form readout | 2 | 56.00 ± 7.07 | 70.00 ± 0.00 |"]),
    ],
)
def test_summarise(tmp_path, kinds, expected):
    """The result files are older ones without a readout, files of both readouts, and files of a trained net's closed form
    alone."""
    for seed, value in enumerate((0.5, 0.6)):
        entries = []
        for epoch, own in ((0, "pooled"), (9, "embedding")):
            first = {"epoch": epoch, "recall": {"1": value}, "nmi": 0.7, **({"readout": own} if kinds else {})}
            closed = {"epoch": epoch, "recall": {"1": value + 0.01}, "nmi": 0.7, "readout": "closed_form"}
            entries += [first, closed][: 1 + bool(kinds)]
        (tmp_path / f"{seed}.json").write_text(json.dumps(entries[-1:] if "closed_form alone" in kinds else entries))
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "summarise.py", f"x={tmp_path / '0.json'},{tmp_path / '1.json'}"],
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.splitlines()[2:] == expected


def test_compare_puts_runs_on_one_page(tmp_path):
    """Paths are relative to the user's folder. A folder without a run gives one line."""
    for name, loss in (("first", 0.5), ("second", 0.25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "steps": 2, "loss": loss}) + "\n")
    done = script("compare.sh", "first", "second", cwd=tmp_path, OUT="both.html")
    assert done.returncode == 0 and done.stdout == f"the comparison: {tmp_path / 'both.html'}\n", done.stderr
    assert "<h1>2 runs compared</h1>" in (tmp_path / "both.html").read_text()
    refused = script("compare.sh", "none", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.startswith(f"error: {tmp_path / 'none'}: not the folder of a run")


BENCHMARKS = ROOT / "scripts" / "benchmarks"


@pytest.mark.parametrize(
    "script, flags",
    [
        ("loss", "--batch 10 --repeats 1"),
        ("recall", "--n 300 --n_peers 200 --dim 16 --curve 200 300 --repeats 1"),
        (
            "clustering",
            "--n 300 --k 30 --n_small 200 --k_small 10 --dim 16 --memory_n 500 --memory_k 5 --curve_n 100 200 "
            "--curve_k 10 --iterations 2",
        ),
        pytest.param("export", "--nets timm/test_resnet --width 32 --batches 1 2 --repeats 1 --threads 1", marks=nightly),
    ],
)
def test_benchmarks_print_tables(monkeypatch, capsys, script, flags):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("sys.argv", [f"{script}.py", *flags.split()])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert out.startswith("## ") and "| ours" in out and "threads" in out


def test_the_benchmark_of_activations_counts_what_was_made(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    flags = "--n 300 --epochs 1 --net timm/test_resnet --width 32 --threads 1"
    monkeypatch.setattr("sys.argv", ["activations.py", *flags.split()])
    runpy.run_path(str(BENCHMARKS / "activations.py"), run_name="__main__")
    out = capsys.readouterr().out
    drawn, different, made, every = (
        int(re.search(rf"^\| {name}[^|]* \| ([\d,]+) ", out, re.MULTILINE)[1].replace(",", ""))
        for name in ("views that", "different", "activations", "all")
    )
    assert every == 8 * 300 > drawn == 800 > different == made > 300
    assert "| later write |" in out


# ---- search_folder.sh ------------------------------------------------------------------------------------------------

SEARCH = {"SERVE": "0", "WIDTH": "32", "DIM": "16", "NET": "EfficientNet-Lite0", "DEVICE": "cpu"}


def galleries_in(root):
    """Return {name: Gallery} of the galleries that search_folder.sh has made in `root`."""
    return {path.parent.name: Gallery(path.parent) for path in root.glob("search/*/*/about.json")}


def test_search_folder_by_two_processes_and_too_few_images_to_train_on(tmp_path):
    folder, root = tmp_path / "my photos", tmp_path / "out put"
    paths = photos(folder, 5)
    (folder / "bad.jpg").write_text("no image")
    before = snapshot(folder)
    done = script("search_folder.sh", f"{folder}/", ROOT=str(root), NPROC="2", TRAIN="1", **SEARCH)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 images are too few to train on: 100 are needed\n" in done.stdout
    (gallery,) = galleries_in(root).values()
    assert gallery.name == "ready-made" and list(gallery.paths) == paths and len(gallery.bad) == 1
    assert "6 images of " in done.stdout and "not read  1  bad.jpg" in done.stdout
    assert snapshot(folder) == before


def test_search_folder_trains_and_embeds_what_is_new(tmp_path):
    """Training takes one step. Then another checkpoint takes its place, as after TRAIN=again, and all images are embedded
    by it."""
    folder, root = tmp_path / "photos", tmp_path / "results"
    photos(folder, 101)
    os.rename(folder / "100.jpg", folder / "line\nbreak.jpg")  # no list can hold this name, but the image is embedded
    before = snapshot(folder)
    small = {**SEARCH, "ROOT": str(root), "STEPS": "1", "SELECT": "0"}
    small["TRAIN_FLAGS"] = "--readout embedding --batch_size 8 --num_instances 2 --views 2"
    done = script("search_folder.sh", folder, TRAIN="1", **small)
    assert done.returncode == 0, done.stdout + done.stderr
    found = galleries_in(root)
    assert set(found) == {"ready-made", "trained"} and snapshot(folder) == before
    assert f"The embeddings are in {found['ready-made'].folder} {found['trained'].folder}\n" in done.stdout
    assert found["trained"].files == found["ready-made"].files and len(found["trained"]) == 101
    assert found["trained"].name == "trained" and found["trained"].about["kind"] == "embedding"
    (listed,) = root.rglob("train.txt")
    assert listed.read_text().splitlines() == [path for path in found["trained"].paths if "\n" not in path]
    assert "positives per image" in done.stdout and "of 100 have at least one" in done.stdout

    (path,) = root.rglob("ckp_ep*.pth.tar")
    state = checkpoint.load(path)
    state["state_dict"]["classifier.linear.weight"] *= -1
    checkpoint.save(str(path), state)
    photo(folder / "new.jpg", 150)
    done = script("search_folder.sh", folder, **{**small, "SERVE": "1", "SERVE_FLAGS": "--help"})
    assert done.returncode == 0, done.stdout + done.stderr
    again = galleries_in(root)
    assert f"{sys.executable} {ROOT / 'search.py'} query {again['trained'].folder} photo.jpg\n" in done.stdout
    assert ", 1 to embed: EfficientNet-Lite0, pooled" in done.stdout and len(again["ready-made"]) == 102
    assert len(again["trained"]) == 102
    row = again["trained"].row_of_path[found["trained"].paths[0]]
    assert again["trained"].embeddings[row] @ found["trained"].embeddings[0] < 0.99  # the new net made this row


@nightly
def test_search_folder_keeps_the_trained_net_only_if_it_helped(tmp_path):
    folder, root = tmp_path / "photos", tmp_path / "results"
    photos(folder, 100)
    small = {**SEARCH, "ROOT": str(root), "STEPS": "1", "TRAIN": "1"}
    done = script("search_folder.sh", folder, TRAIN_FLAGS="--readout embedding", **small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without labels, by 100 training images:" in done.stdout
    judged = root.glob("search/*/training/judgement.json")
    before, after = (entry["label_free"]["overlap"] for entry in json.loads(next(judged).read_text()))
    kept = f"The embeddings are in {galleries_in(root)['ready-made'].folder}"
    assert (f"{kept}\n" in done.stdout) == ("Training did not help" in done.stdout) == (after <= before)


@pytest.mark.parametrize("arguments", [[], ["/no/such/folder"], [__file__]])
def test_search_folder_without_a_folder_is_one_line(arguments, tmp_path):
    done = script("search_folder.sh", *arguments, ROOT=str(tmp_path / "root"))
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "give a folder of images: scripts/search_folder.sh ~/photos" in done.stderr and not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", ["two words", "it's \"$(x)`y`*", "-", "-v", "line\nbreak", "line break at the end\n"])
def test_search_folder_takes_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "python").write_text('#!/bin/sh\n[ "$1" != embed.py ] || printf %s "$3" > "$RECORD"\n')
    (tmp_path / "python").chmod(0o755)
    settings = {"PYTHON": str(tmp_path / "python"), "RECORD": str(tmp_path / "record"), "ROOT": str(tmp_path / "root")}
    done = script("search_folder.sh", name, cwd=tmp_path, SERVE="0", **settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "record").read_text() == str(tmp_path / name)


@pytest.fixture
def stand_in(tmp_path):
    """stand_in(page=, embedding=) runs search_folder.sh with shell commands in place of search.py and embed.py. Returns the
    result, and the calls of the two."""

    def call(page, embedding):
        (tmp_path / "photos").mkdir()
        programs = f'case "$1" in search.py) echo "$*" >> "$CALLS"; {page} ;; embed.py) {embedding} ;; esac'
        (tmp_path / "python").write_text(f"#!/bin/sh\n{programs}\n")
        (tmp_path / "python").chmod(0o755)
        (tmp_path / "calls").touch()  # the stand-ins look into it at once
        places = {"PYTHON": str(tmp_path / "python"), "CALLS": str(tmp_path / "calls"), "ROOT": str(tmp_path / "root")}
        done = script("search_folder.sh", tmp_path / "photos", **places, SERVE="1", SERVE_FLAGS="")
        return done, (tmp_path / "calls").read_text().splitlines()

    return call


def test_search_folder_serves_the_page_while_it_embeds(stand_in):
    """And goes on until the page ends."""
    until_there = 'while ! grep -q "$1" "$CALLS"; do sleep 0.1; done'
    page = f"set -- embedded; {until_there}; echo page >> $CALLS; exit 5"
    done, calls = stand_in(page, f"set -- search; {until_there}; echo embedded >> $CALLS")
    serve, *rest = calls
    assert serve.startswith("search.py serve ") and " --wait --port 8420" in serve and rest == ["embedded", "page"]
    assert done.returncode == 5 and "From the shell, in a second terminal: " in done.stdout


def test_search_folder_ends_the_page_when_it_cannot_embed(stand_in):
    page = "trap 'echo ended >> $CALLS; exit' TERM; while :; do sleep 0.1; done"
    embedding = "while ! grep -q search $CALLS; do sleep 0.1; done; sleep 1; echo error: no image >&2; exit 2"
    done, calls = stand_in(page, embedding)
    assert done.returncode == 2 and done.stderr == "error: no image\n" and calls[1:] == ["ended"]


def test_search_folder_tells_how_it_is_used():
    done = script("search_folder.sh", "--help")
    assert done.returncode == 0 and "TRAIN=1 scripts/search_folder.sh ~/photos" in done.stdout and not done.stderr


@pytest.mark.parametrize("root", ["", "results", "deep/er"])
def test_search_folder_refuses_to_write_into_the_folder(tmp_path, root):
    photos(tmp_path / "photos", 1)
    before = snapshot(tmp_path / "photos")
    done = script("search_folder.sh", tmp_path / "photos", ROOT=str(tmp_path / "photos" / root), **SEARCH)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert snapshot(tmp_path / "photos") == before


HEICS = """
import sys
import numpy as np
import pillow_heif
from data.creatures import recipe, snapshot
pillow_heif.register_heif_opener()
for number in range(int(sys.argv[2])):
    drawn = snapshot(recipe(0, 0, number % 40), np.random.default_rng(number)).resize((640, 480))
    drawn.save(f"{sys.argv[1]}/IMG_{number:04}.HEIC", quality=60)
"""


@nightly
def test_search_folder_of_heics(tmp_path):
    """As a phone gives them: 300 of 640 x 480."""
    pytest.importorskip("pillow_heif")
    (tmp_path / "phone").mkdir()
    subprocess.run([sys.executable, "-c", HEICS, tmp_path / "phone", "300"], cwd=ROOT, check=True)
    done = script("search_folder.sh", tmp_path / "phone", ROOT=str(tmp_path / "results"), SERVE="0")
    assert done.returncode == 0, done.stdout + done.stderr
    gallery = galleries_in(tmp_path / "results")["ready-made"]
    assert len(gallery) == 300 and gallery.about["kind"] == "closed_form" and not gallery.bad
    assert all(gallery.content(row).facts[:3] == (640, 480, "HEIF") and gallery.thumbnail(row) for row in (0, 150, 299))


def test_search_folder_finds_the_gallery_of_photos_that_have_moved(tmp_path):
    """And embeds nothing again; several folders make one gallery."""
    one, two, root = tmp_path / "one", tmp_path / "two", tmp_path / "results"
    photos(one, 6)
    photos(two, 4, first=6)
    small = {**SEARCH, "ROOT": str(root)}
    done = script("search_folder.sh", one, two, **small)
    assert done.returncode == 0 and "10 images are embedded" in done.stdout, done.stdout + done.stderr
    (first,) = root.glob("search/*")
    (tmp_path / "album").mkdir()
    one.rename(tmp_path / "album" / "1")
    two.rename(tmp_path / "album" / "2")
    done = script("search_folder.sh", tmp_path / "album", **small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{one}, {two}: its photos have moved; their gallery is kept and updated" in done.stdout
    assert "10 images have moved: their rows are found again" in done.stdout and "10 images of" in done.stdout
    (found,) = root.glob("search/*")
    assert found.name.startswith("album-") and not first.exists() and len(Gallery(found / "ready-made")) == 10

    photos(one, 3, first=50)  # other photos in the first place again, and the moved ones are still there
    done = script("search_folder.sh", one, **small)
    assert done.returncode == 0 and "have moved" not in done.stdout and len([*root.glob("search/*")]) == 2
