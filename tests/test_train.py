"""train.py and test.py end to end on thumbnails: results, repeated runs, resumed runs, and refused input."""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from thumbnails import TINY, TINY_TRAIN, make_image_folder, measured
from utils import checkpoint, device, timing


def train(run, folder, save_dir, *more):
    run("train", *TINY_TRAIN, "--data", folder, "--save_dir", save_dir, *more)
    return save_dir


def weights(save_dir, epoch):
    return checkpoint.load(checkpoint.path_of(str(save_dir), epoch))["state_dict"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def lines_of(save_dir):
    return [json.loads(line) for line in (save_dir / "metrics.jsonl").read_text().splitlines()]


def test_trains_logs_saves_and_tests(run, image_folder, tmp_path, capsys):
    save = train(
        run,
        image_folder,
        tmp_path / "run",
        "--epochs",
        3,
        "--save_step",
        2,
        "--eval_step",
        3,
        "--log_file",
        tmp_path / "run.log",
    )
    out = capsys.readouterr().out
    assert [p.rsplit("/", 1)[1] for p in checkpoint.all_in(str(save))] == ["ckp_ep2.pth.tar", "ckp_ep3.pth.tar"]
    assert out.count("clustered 24 images into 4") == 2  # before epochs 1 and 3
    assert "NMI with the last" in out and "with the true labels NMI" in out and "Epoch-3 " in out
    for word in ("commit ", "num_clusters=4", "rotation_accuracy", "waiting for data"):
        assert word in out and word in (tmp_path / "run.log").read_text()
    assert "seed=0" not in out and "seed=0" in (tmp_path / "run.log").read_text()  # it has its default value
    steps = [line for line in lines_of(save) if "loss" in line]
    assert [line["epoch"] for line in steps] == [1, 2, 3]
    assert {"loss", "rotation_loss", "rotation_accuracy", "positive", "negative", "images_per_s"} <= steps[0].keys()

    paths = checkpoint.all_in(str(save))
    run(
        "test",
        "--data",
        image_folder,
        "--resume",
        *paths,
        "--save_json",
        tmp_path / "out" / "result.json",
        "--nThreads",
        0,
        "--device",
        "cpu",
    )
    out = capsys.readouterr().out
    two, three = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (two["epoch"], three["epoch"], three["queries"]) == (2, 3, 18)
    assert f"Epoch-3 {three['recall']['1']:.4f}  " in out and "R@32" in out
    # Testing a checkpoint afterwards gives the same result as --eval_step.
    assert lines_of(save)[-1]["test"]["recall"] == three["recall"]


def test_the_time_by_part_is_the_time_it_took(run, image_folder, tmp_path, capsys, monkeypatch):
    """The clock advances by a second each time it is read."""
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)), process_time=lambda: 0.0)
    clock.clock_gettime, clock.CLOCK_BOOTTIME = time.clock_gettime, time.CLOCK_BOOTTIME
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr("utils.run.process_age", lambda: 0.0)
    train(run, image_folder, tmp_path / "run", "--epochs", 2, "--eval_step", 1)
    total, *lines = capsys.readouterr().out.partition("time by part, ")[2].splitlines()[:10]
    parts = {line[:20].strip(): float(line[20:].split()[0]) for line in lines}
    assert parts.keys() == {
        "start-up",
        "untrained net",
        "data",
        "feature extraction",
        "clustering",
        "forward/backward",
        "evaluation",
        "checkpoints",
        "other",
    }
    assert sum(parts.values()) == float(total.split()[0]) == next(ticks) - 1 and min(parts.values()) > 0


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--nThreads", "2"),
        ("--rot_bt", "0"),
        ("--freeze_BN", "False"),
        ("--init", "pca"),
        ("--init", "pca", "--labels", "True"),
    ],
)
def test_same_seed_same_run(run, image_folder, tmp_path, more):
    a, b = (train(run, image_folder, tmp_path / name, "--epochs", 2, *more) for name in "ab")
    assert same(weights(a, 2), weights(b, 2)) and measured(a) == measured(b)


@pytest.mark.parametrize("init", ["random", "pca"])
def test_the_embedding_starts_as_told(run, image_folder, tmp_path, init):
    """The step is tiny. With pca, rows are still orthogonal and have length 1/sqrt(3); otherwise they are not."""
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1, "--init", init, "--lr", 1e-9, "--batch_size", 8)
    rows = weights(save, 1)["classifier.linear.weight"]
    assert torch.allclose(rows @ rows.T, torch.eye(16) / 3, atol=1e-4) == (init == "pca")


def test_other_seed_other_run(run, image_folder, tmp_path):
    a, b = (train(run, image_folder, tmp_path / str(seed), "--epochs", 1, "--seed", seed) for seed in (0, 1))
    assert not same(weights(a, 1), weights(b, 1))


@pytest.mark.parametrize(
    "stop, more",
    [  # before and between two clusterings; once with dropout, workers and tests
        (2, ()),
        (3, ("--net", "timm/rexnet_100", "--nThreads", "1", "--eval_step", "1")),
        (2, ("--engine", "onnx")),
    ],
)
def test_resumed_run_is_the_same_run(run, image_folder, tmp_path, graphs, stop, more):
    flags = ("--save_step", stop, *more)
    whole = train(run, image_folder, tmp_path / "whole", "--epochs", 5, *flags)
    parts = train(run, image_folder, tmp_path / "parts", "--epochs", stop, *flags)
    with open(parts / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "of": "a run that died after its last checkpoint"}\n{"epo')
    train(run, image_folder, parts, "--epochs", 5, *flags, "--resume", "yes")
    assert same(weights(whole, 5), weights(parts, 5))
    assert measured(whole) == measured(parts)


def test_rotation_only_and_metric_only(run, image_folder, tmp_path):
    steps = lines_of(train(run, image_folder, tmp_path / "rot", "--epochs", 1, "--rot_only", "1"))
    assert all("rotation_loss" in line and "loss" not in line for line in steps)
    steps = lines_of(train(run, image_folder, tmp_path / "metric", "--epochs", 1, "--self_supervision_rot", "0"))
    assert all("loss" in line and "rotation_loss" not in line for line in steps)


def test_without_labels(run, tmp_path, capsys):
    folder = make_image_folder(tmp_path / "plain")
    plain = [line.rsplit(" ", 1)[0] for line in (folder / "train.txt").read_text().splitlines()]
    (folder / "train.txt").write_text("\n".join(plain))
    train(run, folder, tmp_path / "run", "--epochs", 1, "--orth_reg", "0.1", "--cluster_crops", "random", "--amp", "bf16")
    assert "true labels" not in capsys.readouterr().out


def test_supervised_upper_bound_uses_the_labels(run, image_folder, tmp_path):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1, "--labels", "true")
    labels = checkpoint.load(checkpoint.path_of(str(save), 1))["method"]["labels"]
    assert labels.tolist() == [i // 6 for i in range(24)]


def test_query_and_gallery_lists(run, image_folder, tmp_path, capsys):
    lines = (image_folder / "test.txt").read_text().splitlines(True)
    (image_folder / "query.txt").write_text("".join(lines[::2]) + "test/class 0/0.jpg 77\n")
    (image_folder / "gallery.txt").write_text("".join(lines[1::2]))
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    run("test", "--data", image_folder, "--resume", checkpoint.path_of(str(save), 1), "-g_eq_q", "False", "-j", 0)
    assert "9 queries; left out: 1 without a positive" in capsys.readouterr().out


def test_metrics_asked_for(run, refused, image_folder, tmp_path, capsys):
    lines = (image_folder / "test.txt").read_text().splitlines()
    mixed = [f"{line.rsplit(' ', 1)[0]} {i % 4 * i // 5}\n" for i, line in enumerate(lines)]  # labels that no embedding fits
    (image_folder / "test.txt").write_text("".join(mixed))
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    test = ("test", "--data", image_folder, "--resume", save, *TINY)
    capsys.readouterr()
    run(
        *test,
        "--metrics",
        "map_at_r",
        "f1",
        "recall",
        "nmi",
        "--nmi_average",
        "geometric",
        "--save_json",
        tmp_path / "result.json",
    )
    out = capsys.readouterr().out
    (result,) = json.loads((tmp_path / "result.json").read_text())
    assert list(result) == [
        "epoch",
        "map_at_r",
        "f1",
        "recall",
        "nmi",
        "queries",
        "without_positive",
        "unreadable",
        "checkpoint",
        "seconds",
        "cpu_seconds",
        "readout",
    ]
    state = checkpoint.load(result["checkpoint"])
    assert (result["seconds"], result["cpu_seconds"]) == (state["seconds"], state["cpu_seconds"]) and state["seconds"] > 0
    values = (result["map_at_r"], result["f1"], *result["recall"].values(), result["nmi"])
    assert "Epoch-1 " + "  ".join(f"{value:.4f}" for value in values) + "\n" in out
    assert "MAP@R      F1     R@1     R@2" in out and "NMI: geometric mean" in out

    message = refused(*test, "--metrics", "recall", "mapr")
    assert "--metrics: invalid choice: 'mapr'" in message and "map_at_r" in message
    assert "--nmi_average: invalid choice: 'max'" in refused(*test, "--nmi_average", "max")


def test_bad_image_is_named_or_skipped(run, refused, image_folder, tmp_path, capsys):
    for name in ("train/class 1/2.jpg", "test/class 0/1.jpg"):
        whole = (image_folder / name).read_bytes()
        (image_folder / name).write_bytes(whole[: len(whole) // 2])
    stop = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1)
    assert "class 1/2.jpg" in refused(*stop)  # found by the first clustering
    every_image = ("--labels", "True", "--batch_size", 24, "--num_instances", 6)
    assert "--on_bad_image stop: " in refused(*stop, *every_image)  # found by the first step
    run(*stop, *every_image, "--on_bad_image", "skip")
    assert "left out (1 of 1)" in capsys.readouterr().out
    run(*stop, "--save_dir", tmp_path / "other", "--on_bad_image", "skip")
    assert "left out (1 of 1)" in capsys.readouterr().out
    saved = checkpoint.path_of(str(tmp_path / "other"), 1)
    assert checkpoint.load(saved)["method"]["labels"][8] == -1
    test = ("test", "--data", image_folder, "--resume", saved, "-j", 0)
    assert "class 0/1.jpg" in refused(*test)
    run(*test, "--on_bad_image", "skip")
    assert "17 queries; left out: 0 without a positive, 1 unreadable" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, expected",
    [
        (("--data_root", "/nowhere"), "--data_root /nowhere: no such folder"),
        (("--data", "cub", "--data_root", "."), "prepare_data.sh cub"),
        (("--data", "birds", "--data_root", "."), "--data birds: unknown; give one of cub, car"),
        (("--num_clusters", "25"), "--num_clusters 25 is more than the 24 images"),
        (("--batch_size", "9"), "--batch_size 9 is not a multiple of num_instances 2"),
        (("--net", "VGG16"), "BN-Inception, Inception, ResNet18"),
        (("--loss", "Triple"), "known losses: Weight"),
        (("--method", "udml"), "known methods: udml_ss, shared_neighbours"),
        (("--method", "rotation", "--labels", "1"), "--method: rotation and supervised at once"),
        (("--meth", "frozen"), "--method was abbreviated"),
        (("--rot_batch", "9"), "--rot_batch 9"),
        (("--rot_only", "1", "--self_supervision_rot", "0"), "--rot_only needs"),
        (("--width", "64"), "--width 64"),
        (("--seed", "-1"), "-1 is not at least 0"),
        (("--lr", "nan"), "nan is not above 0"),
        (("--alpha", "0"), "0 is not above 0"),
        (("--weight_decay", "-1"), "-1 is not at least 0"),
        (("--num_instances", "1"), "without positive pairs"),
        (("--weights", "x.pth"), "--weights x.pth would be ignored"),
        (("--seed", "3000000000"), "3000000000 is above"),
        (("--net", "timm/vit_tiny_patch16_224", "--width", "30"), "cannot take images of that size"),
        (("--net", "Inception", "--width", "8"), "--width 8: the net Inception cannot take images of that size"),
        (("--dim", "none"), "--dim"),
        (("--freeze_BN", "perhaps"), "neither True nor False"),
        (("--no_such_flag",), "--no_such_flag"),
        (("--resume", "missing.pth.tar"), "missing.pth.tar: no such checkpoint"),
        (("--device", "cuda:99"), "--device cuda:99"),
    ],
)
def test_refused_flags(refused, image_folder, tmp_path, flags, expected):
    assert expected in refused(
        "train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 1, *flags
    )


def test_refused_lists(refused, image_folder, tmp_path):
    def refusal(name, text, *flags):
        before = (image_folder / name).read_text()
        (image_folder / name).write_text(text)
        try:
            return refused(
                "train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--eval_step", 1, *flags
            )
        finally:
            (image_folder / name).write_text(before)

    unlabelled = "train/class 0/0.jpg\n"
    assert "train.txt: the list is empty" in refusal("train.txt", "")
    assert "train.txt:1: the label `x`" in refusal("train.txt", "train/class 0/0.jpg x\n")
    assert "no path" in refusal("train.txt", "3\n")
    assert "1 of 1 listed files do not exist" in refusal("train.txt", "gone.jpg 0\n")
    assert "(--labels True) needs a label" in refusal("train.txt", unlabelled, "--labels", "True")
    assert "test.txt:1" in refusal("test.txt", "test/class 0/0.jpg\n", "--num_clusters", "2")
    assert "also in" in refusal("test.txt", unlabelled.strip() + " 0\n", "--num_clusters", "2")


def test_refused_tests(refused, run, image_folder, tmp_path):
    base = ("test", *TINY, "--data", image_folder)
    assert "nothing to test" in refused(*base)
    (tmp_path / "bad.pth.tar").write_bytes(b"not a checkpoint")
    assert "bad.pth.tar: not a readable checkpoint" in refused(*base, "--resume", tmp_path / "bad.pth.tar")
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    assert "is it from another net?" in refused(*base, "--net", "ResNet34", "--resume", checkpoint.path_of(str(save), 1))


@pytest.mark.parametrize(
    "flags", [("--lr", "1"), ("--init", "pca"), ("--num_clusters", "3"), ("--seed", "5"), ("--labels", "True")]
)
def test_resuming_with_other_settings_is_refused(run, refused, image_folder, tmp_path, flags):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    message = refused(
        "train", *TINY_TRAIN, "--data", image_folder, "--save_dir", save, "--epochs", 2, "--resume", "yes", *flags
    )
    flag = "--method" if flags[0] == "--labels" else flags[0]  # --labels stands for a method
    assert f"{flag} was " in message and "ckp_ep1" in message


def test_resuming_with_another_engine_is_refused(run, refused, image_folder, tmp_path, monkeypatch, capsys):
    """The engine is kept with its version and its threads. Another one may go on if the user says so."""
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1, "--engine", "auto")
    again = ("train", *TINY_TRAIN, "--data", image_folder, "--save_dir", save, "--epochs", 2)
    version = importlib.metadata.version("onnxruntime")
    was = f"--engine was auto, ONNX Runtime {version} with 1 thread(s), is"
    assert f"{was} torch; give" in refused(*again, "--engine", "torch")
    monkeypatch.setattr(device, "version", lambda name: "1.0.0")
    assert f"{was} auto, ONNX Runtime 1.0.0 with 1 thread(s); give" in refused(*again)
    run(*again, "--engine", "torch", "--override")
    said = capsys.readouterr().out
    assert "goes on with other settings: " in said and f"{was} torch" in said


def test_a_finished_run_stays_as_it_is(run, image_folder, tmp_path, capsys):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 2)
    before = weights(save, 2)
    train(run, image_folder, save, "--epochs", 1, "--resume", "yes")
    assert "epoch 2 is already reached" in capsys.readouterr().out and same(before, weights(save, 2))


def test_resuming_on_other_images_is_refused(run, refused, image_folder, tmp_path):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    lines = (image_folder / "train.txt").read_text().splitlines(True)
    (image_folder / "train.txt").write_text("".join(lines[::-1]))  # the pseudo-labels would belong to other images
    assert "not a checkpoint of a run on these images" in refused(
        "train", *TINY_TRAIN, "--data", image_folder, "--save_dir", save, "--epochs", 2, "--resume", "yes"
    )


@pytest.mark.parametrize(
    "program, flags, file", [("train", ("--save_dir", "run"), "train.txt"), ("test", ("--pretrained", "True"), "test.txt")]
)
def test_exit_code_is_2_with_one_line_and_no_traceback(tmp_path, program, flags, file):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / file).write_text("a.jpg cat\n")
    program = os.path.join(os.path.dirname(os.path.dirname(__file__)), f"{program}.py")
    done = subprocess.run(
        [sys.executable, program, "--data", str(tmp_path), *flags], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    fault = "the label `cat` is not an integer; write `path label` with a whole number as the label"
    assert done.stderr == f"error: {tmp_path / file}:1: {fault}\n"


def test_a_folder_stands_for_its_checkpoints(run, refused, image_folder, tmp_path, capsys):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 3, "--save_step", 1)
    run("test", "--data", image_folder, "--resume", save)
    assert [line[:8] for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")] == [
        "Epoch-1 ",
        "Epoch-2 ",
        "Epoch-3 ",
    ]
    other = train(run, image_folder, tmp_path / "other", "--epochs", 1, "--width", 36)
    assert "--width is 36" in refused("test", "--data", image_folder, "--resume", save, other)


def test_a_run_stopped_in_its_first_epoch_is_tested_by_its_embedding(run, image_folder, tmp_path, capsys):
    save = train(run, image_folder, tmp_path / "run", "--epochs", 1)
    state = checkpoint.load(checkpoint.path_of(str(save), 1))
    checkpoint.save(str(tmp_path / "latest.pth.tar"), {**state, "epoch": 0})
    run("test", "--data", image_folder, "--resume", checkpoint.path_of(str(save), 1), tmp_path / "latest.pth.tar", "-j", 0)
    one, zero = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")][-2:]
    assert one.split()[1] == "1" and zero.split()[1] == "0" and one.split()[2:] == zero.split()[2:]


def test_all_images_unreadable(refused, image_folder, tmp_path):
    for path in (image_folder / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    assert "none of the 24 images can be read" in refused(
        "train", *TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--on_bad_image", "skip"
    )
