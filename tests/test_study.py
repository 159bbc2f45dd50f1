"""The study of methods: its script with a stand-in for training, its tables, and its plot of invented results."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import study  # noqa: E402
import study_budget  # noqa: E402
import study_judged  # noqa: E402
import study_results  # noqa: E402
import study_sets  # noqa: E402

from thumbnails import TINY_TRAIN, make_image_folder  # noqa: E402
from utils.errors import InputError  # noqa: E402

# The stand-in for run_train_test.sh has the real settings, which study.sh reads, and prints the requested ones.
SETTINGS = "".join(re.findall(r"^[A-Z_]+=.*\n", (SCRIPTS / "run_train_test.sh").read_text(), re.MULTILINE))
STAND_IN = """#!/usr/bin/env bash
if false; then
SETTINGS
fi
if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "dry run $METHOD clusters $NUM_CLUSTERS ${TRAIN_FLAGS:-}|${BATCH_SIZE:-}|$READOUT" >> "$ROOT/asked"
    cat "$ROOT/$METHOD.dry_run"
    exit
fi
echo "$METHOD $DATA seed $SEED loss ${LOSS:-}${UP_STEP:-} clusters $NUM_CLUSTERS epochs $EPOCHS every $SAVE_STEP" \
    "${INIT:-}|${TRAIN_FLAGS:-}|$TEST_FLAGS|$RUN_SUFFIX" >> "$ROOT/asked"
[ "$METHOD" != "${FAILS:-}" ] || exit 7
if [ -n "${SAVE_DIR:-}" ]; then mkdir -p "$SAVE_DIR"; echo "$IMAGES" > "$SAVE_DIR/ckp_ep$EPOCHS.pth.tar"; exit; fi
touch "$ROOT/net $METHOD $SEED"
echo '[{"epoch": 1, "readout": "embedding", "recall": {"1": 0.5, "8": 0.75}, "map_at_r": 0.25, "nmi": 0.5, "seconds": 90,' \
    '"checkpoint": "'"$ROOT/net $METHOD $SEED"'"}]' > "$RESULT"
""".replace("SETTINGS", SETTINGS)
TEST_STAND_IN = """
import json, os, sys
paths = sys.argv[sys.argv.index("--resume") + 1 : sys.argv.index("--save_json")]
data = sys.argv[sys.argv.index("--data") + 1]
scores = {"readout": "closed_form", "recall": {"1": 0.5}, "label_free": {"overlap": 0.5}}
nets = [{"epoch": 0, **scores}, *({"epoch": 1, "checkpoint": path, **scores} for path in paths)]
json.dump(nets, open(sys.argv[sys.argv.index("--save_json") + 1], "w"))
print("judged", sorted(map(os.path.basename, paths)), sorted(os.listdir(data)), "--select" in sys.argv)
"""


def entry(epoch, readout, recall, seconds=None):
    found = {"epoch": epoch, "readout": readout, "recall": {"1": recall, "8": 0.9}, "map_at_r": 0.2, "nmi": 0.6}
    return {**found, **({} if seconds is None else {"cpu_seconds": seconds})}


@pytest.fixture
def results(tmp_path):
    """Results of two methods and of labels on one set: the frozen net has 50, labels give 90."""
    files = {
        "closed_form-seed-0": [
            entry(0, "pooled", 0.5),
            entry(0, "closed_form", 0.6),
            entry(1, "embedding", 0.5, 30),
            entry(1, "closed_form", 0.6, 30),
        ],
        "ours-seed-0": [entry(4, "embedding", 0.7, 60), entry(8, "embedding", 0.72, 120), entry(8, "closed_form", 0.8, 120)],
        "ours-seed-1": [entry(8, "embedding", 0.74, 240), entry(8, "closed_form", 0.84, 240)],
        "supervised,LOSS=Triplet-seed-0": [entry(2, "embedding", 0.9, 600)],
    }
    folder = tmp_path / "found" / "birds"
    folder.mkdir(parents=True)
    for name, entries in files.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return str(folder.parent)


def gathered(results):
    return {name: study.gather(runs) for name, runs in study_results.collect(results).items()}


def test_a_table_has_the_last_point_of_each_method(results):
    lines = study.table("birds", gathered(results)["birds"]).splitlines()
    assert lines[0] == "**birds**" and len({line.count("|") for line in lines[2:]}) == 1
    assert lines[4:] == [
        "| frozen | 1 | 50.00 | 90.00 | 20.00 | 60.00 | 0 |  |",
        "| closed form, no training | 1 | 60.00 | 90.00 | 20.00 | 60.00 | 25 | 0.5 |",
        "| ours | 2 | 73.00 ± 1.41 | 90.00 ± 0.00 | 20.00 ± 0.00 | 60.00 ± 0.00 | 58 | 3.0 |",
        "| ours, closed form | 2 | 82.00 ± 2.83 | 90.00 ± 0.00 | 20.00 ± 0.00 | 60.00 ± 0.00 | 80 | 3.0 |",
        "| supervised,LOSS=Triplet | 1 | 90.00 | 90.00 | 20.00 | 60.00 | 100 | 10.0 |",
    ]


def test_a_curve_takes_the_better_readout_of_each_point(results):
    first, second = several = gathered(results)["birds"]["ours"]
    assert study.curve(several) == [(1.0, pytest.approx(70)), (3.0, pytest.approx(82))]  # means by epoch, not by place
    assert study.curve([first]) == [(1.0, pytest.approx(70)), (2.0, pytest.approx(80))]
    assert study.curve([second]) == [(4.0, pytest.approx(84))]


def test_the_page_and_the_plot(results, tmp_path, capsys):
    study.main(results, str(tmp_path / "out"))
    assert (
        "| ours, closed form | 2 | 82.00"
        in (tmp_path / "out" / "results.md").read_text()
        == (study.ABOUT + "\n\n" + capsys.readouterr().out)
    )
    with Image.open(tmp_path / "out" / "plot.png") as image:
        assert image.width > 400


def test_the_scores_without_labels_and_what_they_choose(results):
    def net(epoch, recall, good, bad, path=None):
        scores = {"label_free": {"good": good, "bad": bad, "flat": 1.0}}
        path = {"checkpoint": path} if epoch else {}
        return {"epoch": epoch, "readout": "closed_form", "recall": {"1": recall}, **scores, **path}

    paths = {
        "ours-seed-1": "ckpt/a/x",
        "ours-seed-2": "ckpt/b/x",
        "other-seed-0": "ckpt/c/x",
        "supervised-seed-0": "ckpt/d/x",
    }
    entries = [
        net(0, 0.6, 0.1, 0.5),
        net(4, 0.7, 0.2, 0.4, paths["ours-seed-1"]),
        net(8, 0.8, 0.4, 0.3, paths["ours-seed-2"]),
        net(8, 0.75, 0.3, 0.2, paths["other-seed-0"]),
        net(8, 0.9, 0.5, 0.1, paths["supervised-seed-0"]),
    ]
    folder = Path(results) / "birds"
    strangers = [net(8, 0.99, 0.9, 0.9, "ckpt/of-no-result/x"), {**entries[0], "readout": "pooled"}]
    (folder / "label_free.json").write_text(json.dumps([*entries, *strangers]))
    for file in folder.glob("*-seed-*"):
        file.unlink()
    for run, net_of_run in zip(paths, entries[1:]):
        (folder / f"{run}.json").write_text(json.dumps([net_of_run]))
    judged = study.judged_nets(study_results.collect(results)["birds"]["judged"])
    assert [net.method for net in judged] == ["", "ours", "ours", "other", "supervised"]
    lines = study_judged.judged_table({"birds": judged}).splitlines()
    assert lines[2:] == [
        "| | birds: all nets | within a method | chosen, R@1 |",
        "|---|---|---|---|",
        "| good | 1.00 | 1.00 | 80.00 |",
        "| bad | -0.90 | -1.00 | 60.00 |",
        "| flat |  |  | 60.00 |",
        "| to choose from | | | 60.00 to 80.00 |",
    ]
    assert len(study_judged.judged_tables({"birds": judged})) == 1  # these scores are of an earlier version
    mixed = [*judged, judged[0]._replace(scores={"good": 1.0})]
    assert [row[:6] for row in study_judged.judged_table({"birds": judged, "cars": mixed}).splitlines()[4:]] == [
        "| good",
        "| to c",
    ]


def judged_nets(*nets):
    """Return judged nets from (method, R@1, overlap); the first is the net before training."""
    return [study_judged.Judged(net[0], bool(place), net[1], {"overlap": net[2]}) for place, net in enumerate(nets)]


def test_each_judged_net_and_the_directions():
    birds = judged_nets(("", 80, 0.5), ("a", 82, 0.6), ("a", 78, 0.55), ("b", 80.9, 0.4), ("b", 60, 0))
    cars = judged_nets(("", 60, 0.5), ("b", 58, 0.4))
    assert study_judged.judged_tables({"birds": birds, "cars": cars})[1].splitlines()[2:] == [
        "| | birds | cars |",
        "|---|---|---|",
        "| no training | 80.0 / 0.500 | 60.0 / 0.500 |",
        "| a | 82.0 / 0.600; 78.0 / 0.550 |  |",
        "| b | 80.9 / 0.400; 60.0 / 0.000 | 58.0 / 0.400 |",
        "| direction right | 2 of 3 | 1 of 1 |",
    ]


def test_results_of_other_machines_stay_in_the_tables(results, tmp_path, capsys):
    """Their file has no path of a machine. A run that was made again replaces the old one, with its judged nets."""
    out, birds = tmp_path / "out", Path(results) / "birds"
    first = {**entry(8, "closed_form", 0.7), "checkpoint": "/home/me/ckpt/ours/ckp_ep8.pth.tar", "seconds": 9, "queries": 3}
    (birds / "ours-seed-0.json").write_text(json.dumps([first]))
    (birds / "ours-seed-1.json").unlink()
    (birds / "supervised,LOSS=Triplet-seed-0.json").unlink()
    scored = [{"epoch": 0, "readout": "closed_form", "recall": {"1": 0.6}, "label_free": {"overlap": 0.25}}]
    scored.append({**scored[0], "epoch": 8, "checkpoint": first["checkpoint"], "recall": {"1": 0.7}})
    (birds / "label_free.json").write_text(json.dumps(scored))
    study.main(results, str(out))
    capsys.readouterr()
    kept = json.loads((out / "results.json").read_text())
    assert kept["birds"]["ours-seed-0"] == [entry(8, "closed_form", 0.7)]
    assert [(net["run"], net["recall"]) for net in kept["birds"]["judged"]] == [
        ("", {"1": 0.6}),
        ("ours-seed-0", {"1": 0.7}),
    ]

    other = tmp_path / "other machine"
    (other / "birds").mkdir(parents=True)
    again = {**entry(8, "closed_form", 0.8), "checkpoint": "elsewhere"}
    (other / "birds" / "ours-seed-0.json").write_text(json.dumps([again]))
    (other / "birds" / "ours-seed-1.json").write_text(json.dumps([{**entry(8, "closed_form", 0.9), "checkpoint": "third"}]))
    scored[1] |= {"checkpoint": "third", "recall": {"1": 0.9}}
    (other / "birds" / "label_free.json").write_text(json.dumps(scored))
    (other / "cars").mkdir()
    (other / "cars" / "stml-seed-0.json").write_text(json.dumps([entry(3, "embedding", 0.4)]))
    study.main(str(other), str(out))
    page = capsys.readouterr().out
    assert "| closed form, no training | 1 | 60.00 |" in page and "| ours, closed form | 2 | 85.00 ± 7.07 |" in page
    assert "**cars**" in page and "| stml | 1 | 40.00 |" in page
    kept = json.loads((out / "results.json").read_text())
    assert [net["run"] for net in kept["birds"]["judged"]] == ["", "ours-seed-1"]

    study.main(str(tmp_path / "nowhere"), str(out))
    assert capsys.readouterr().out == page


def test_a_set_with_other_k_has_other_columns(tmp_path):
    large = [{**entry(1, "embedding", 0.5), "recall": {"1": 0.5, "10": 0.75, "100": 0.9}}]
    lines = study.table("products", study.gather({"ours-seed-0": large})).splitlines()
    assert lines[2:] == [
        "| | seeds | R@1 | R@10 | MAP@R | NMI | gap closed, % | minutes |",
        "|---|---|---|---|---|---|---|---|",
        "| ours | 1 | 50.00 | 75.00 | 20.00 | 60.00 |  |  |",
    ]


def test_nets_are_judged_once_and_again_when_they_change(tmp_path):
    """This also holds for an older net that had no result when others were judged, and for a folder with spaces."""
    root = tmp_path / "my root"

    def judged(*seeds):
        done = run_study(tmp_path, *seeds, METHODS="supervised", JUDGE="1", ROOT=str(root), real=True)
        assert done.returncode == 0, done.stderr
        return [line.split("]")[0] + "]" for line in done.stdout.splitlines() if line.startswith("judged")]

    root.mkdir()
    early = root / "net udml_ss 0"
    early.touch()
    os.utime(early, (1, 1))
    assert judged("0") == ["judged ['net supervised 0']"]  # the frozen net is judged each time
    assert judged("0") == []
    later = root / "study" / "birds" / "udml_ss-seed-0.json"
    later.write_text(json.dumps([{**entry(1, "embedding", 0.5), "checkpoint": str(early)}]))
    assert judged("0", "1") == ["judged ['net supervised 1', 'net udml_ss 0']"]
    file = root / "study" / "birds" / "label_free.json"
    assert len(json.loads(file.read_text())) == 4
    os.utime(root / "net supervised 1", (file.stat().st_mtime + 9,) * 2)
    assert judged("0") == ["judged ['net supervised 1']"] and len(json.loads(file.read_text())) == 4

    os.utime(root / "net supervised 1", (1, 1))
    entries = json.loads(file.read_text())
    entries[-1]["label_free"] = {"evidence": 0.5}  # judged by an earlier version
    file.write_text(json.dumps(entries))
    assert judged("0") == ["judged ['net supervised 1']"] and judged("0") == []
    for change in ("NET=ResNet18", "WIDTH=64", "ORIGIN_WIDTH=80"):  # they start from another net
        (root / change).touch()
        other = root / "study" / "birds" / f"udml_ss,{change}-seed-0.json"
        other.write_text(json.dumps([{**entry(1, "embedding", 0.5), "checkpoint": str(root / change)}]))
    assert judged("0") == []

    later.write_text(json.dumps([entry(1, "embedding", 0.5)]))
    done = run_study(tmp_path, "0", METHODS="supervised", JUDGE="1", ROOT=str(root), real=True)
    assert done.returncode == 2 and "udml_ss-seed-0.json: does not name its checkpoints" in done.stderr


def test_the_plot_has_methods_and_what_changes_the_time_of_a_step():
    names = ["closed_form", "udml_ss", "udml_ss,LOSS=NCA", "udml_ss,TRAIN_FROM=top", "stml,NUM_CLUSTERS=3"]
    assert [study.drawn(name) for name in names] == [False, True, False, True, False]


def test_without_results_it_says_so(tmp_path):
    done = subprocess.run([sys.executable, SCRIPTS / "study.py", tmp_path, tmp_path], text=True, capture_output=True)
    assert done.returncode == 2 and done.stderr == f"{tmp_path}: no results here; scripts/study.sh makes them\n"


def run_study(tmp_path, *seeds, real=False, **environment):
    """Run scripts/study.sh on birds/ (50 + 3 classes) in a copy where run_train_test.sh only notes its settings.

    real: use the real study.py. The current folder is `tmp_path`.
    """
    copy = tmp_path / "scripts"
    if not copy.exists():
        copy.mkdir()
        for needed in ("data", "evaluations", "models", "utils"):
            (tmp_path / needed).symlink_to(SCRIPTS.parent / needed)
        make_image_folder(tmp_path / "birds", train_classes=50, per_class=1)
        for name in ("study.sh", "setup_env.sh", *(path.name for path in SCRIPTS.glob("study*.py"))):
            shutil.copy(SCRIPTS / name, copy)
        (copy / "run_train_test.sh").write_text(STAND_IN)
        (copy / "run_train_test.sh").chmod(0o755)
        (tmp_path / "test.py").write_text(TEST_STAND_IN)
    if not real:
        (copy / "study.py").write_text("import sys; print(*sys.argv[1:])")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    defaults = {"PYTHON": sys.executable, "ROOT": str(tmp_path / "root"), "JUDGE": "0", "SETS": "birds"}
    return subprocess.run(
        [copy / "study.sh", *seeds], text=True, capture_output=True, cwd=tmp_path, env={**kept, **defaults, **environment}
    )


def test_the_script_runs_what_is_not_there_yet(tmp_path):
    methods = "closed_form udml_ss,LOSS=Triplet,NUM_CLUSTERS=12 cluster_contrast,EPOCHS=6,UP_STEP=2"
    stopped = run_study(tmp_path, "0", "1", METHODS=methods, FAILS="cluster_contrast")
    asked, birds = tmp_path / "root" / "asked", tmp_path / "birds"
    metrics = "--metrics recall map_at_r nmi"
    assert stopped.returncode == 7 and asked.read_text().splitlines() == [
        f"closed_form {birds} seed 0 loss  clusters 50 epochs 1 every 1 ||{metrics}|-study",
        f"udml_ss {birds} seed 0 loss Triplet clusters 12 epochs 50 every 25 pca||{metrics} --pretrained False"
        "|-study-LOSS=Triplet-NUM_CLUSTERS=12",
        f"cluster_contrast {birds} seed 0 loss  clusters 50 epochs 6 every 3"
        f" |--init pca --eps 0.5 --up_step 5 --up_step 2|{metrics} --pretrained False|-study-EPOCHS=6-UP_STEP=2",
    ]

    asked.unlink()
    done = run_study(tmp_path, "0", "1", METHODS=methods)
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[:4]) for line in asked.read_text().splitlines()] == [
        f"cluster_contrast {birds} seed 0",
        f"udml_ss {birds} seed 1",  # no closed form, because no seed changes it
        f"cluster_contrast {birds} seed 1",
    ]
    assert sorted(path.name for path in (tmp_path / "root" / "study" / "birds").glob("*.*")) == [
        "closed_form-seed-0.json",
        "cluster_contrast,EPOCHS=6,UP_STEP=2-seed-0.json",
        "cluster_contrast,EPOCHS=6,UP_STEP=2-seed-1.json",
        "udml_ss,LOSS=Triplet,NUM_CLUSTERS=12-seed-0.json",
        "udml_ss,LOSS=Triplet,NUM_CLUSTERS=12-seed-1.json",
    ]
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'root' / 'study'} scripts/out/study"


def test_settings_are_chosen_on_half_of_the_training_classes(tmp_path):
    done = run_study(tmp_path, "0", METHODS="udml_ss,UP_STEP=7", HELD_OUT="1")
    root = tmp_path / "root"
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{root / 'study_held_out'} scripts/out/study_held_out"
    assert f"udml_ss {root}/data/birds-held_out seed 0 loss 7 clusters 25 epochs 75" in (root / "asked").read_text()
    assert len((root / "data" / "birds-held_out" / "test.txt").read_text().splitlines()) == 25
    assert [path.name for path in (root / "study_held_out" / "birds").glob("*.*")] == ["udml_ss,UP_STEP=7-seed-0.json"]


def asked_epochs(tmp_path):
    """Return {method: epochs} of the runs since the last call, and the lines of dry runs."""
    asked = tmp_path / "root" / "asked"
    lines = asked.read_text().splitlines()
    asked.unlink()
    runs = {line.split()[0]: int(re.search(r"epochs (\d+)", line)[1]) for line in lines if not line.startswith("dry run")}
    return runs, [line for line in lines if line.startswith("dry run")]


def test_epochs_fill_the_budget_and_stay(tmp_path):
    """150 steps of udml_ss are 50 epochs with 10 looks: 150 x 2 s + 10 x 3 s = 330 s. 4 epochs of 80 s fit."""
    root = tmp_path / "root"
    root.mkdir()
    output = "dry run of 50 images, 100 epochs; nothing is kept\n  start-up   1 x 1.00 s\n"
    output += "  a look    {} x   {} s\n  a step   {} x  {} s\n"
    (root / "udml_ss.dry_run").write_text(output.format(20, "3.00", 300, "2.00"))
    (root / "stml.dry_run").write_text(output.format(100, "5.00", 2500, "3.00"))
    methods = {"METHODS": "stml shared_neighbours supervised"}
    done = run_study(tmp_path, "0", **methods)
    assert done.returncode == 0, done.stderr
    runs, tries = asked_epochs(tmp_path)
    assert runs == {"stml": 4, "shared_neighbours": 20, "supervised": 50}
    assert tries == ["dry run udml_ss clusters 50 ||embedding", "dry run stml clusters 50 --init pca|120|embedding"]
    kept = root / "study" / "birds" / "budget" / "stml"
    assert kept.read_text().splitlines() == [
        "4",
        "epochs fit into 330.0 s, the time of 150 steps of udml_ss",
        "udml_ss, dry run: 20 looks of 3.00 s and 300 steps of 2.00 s in 100 epochs",
        "stml, dry run: 100 looks of 5.00 s and 2500 steps of 3.00 s in 100 epochs",
    ]

    kept.write_text("9 \nby hand\n")
    (kept.parent / "stml.dry_run").unlink()
    assert run_study(tmp_path, "1", **methods).returncode == 0
    assert asked_epochs(tmp_path) == ({"stml": 9, "shared_neighbours": 20, "supervised": 50}, [])
    kept.write_text("many\n")
    done = run_study(tmp_path, "2", **methods)
    assert done.returncode == 2 and f"{kept}:1: many: must be the number of epochs" in done.stderr
    done = run_study(tmp_path, "2", **methods, STEPS="300")
    assert done.returncode == 2 and "begun with STEPS=150 K=50, not with STEPS=300 K=50" in done.stderr

    done = run_study(tmp_path, "0", METHODS="udml_ss stml", MINUTES="11.9", ROOT=str(root / "2"))
    assert done.returncode != 0  # the stand-in has no dry runs there
    for name in ("udml_ss", "stml"):
        shutil.copy(root / f"{name}.dry_run", root / "2")
    done = run_study(tmp_path, "0", METHODS="udml_ss stml", MINUTES="11.9", ROOT=str(root / "2"))
    asked = (root / "2" / "asked").read_text()  # 714 s: 108 epochs of 6.6 s, 8 of 80 s
    assert (
        done.returncode == 0 and "clusters 50 epochs 108 every 54 pca" in asked and "clusters 50 epochs 8 every 4" in asked
    )


def test_the_demo_has_its_own_budget(tmp_path):
    """64 steps; 40 clusters give 2 steps in an epoch. The last epoch may exceed the budget."""
    assert study_sets.budget("demo", "study", "", "") == "STEPS=64"
    study_budget.begin(str(tmp_path), "STEPS=64", "40")
    assert study_budget.epochs(str(tmp_path), "udml_ss") == study_budget.epochs(str(tmp_path), "supervised") == 32
    assert (tmp_path / "budget" / "supervised").read_text().startswith("32\n")
    for clusters, epochs in (("5", 7), ("32", 4)):
        study_budget.begin(str(tmp_path / clusters), "STEPS=7", clusters)
        assert study_budget.epochs(str(tmp_path / clusters), "udml_ss") == epochs
    assert study_budget.missing(str(tmp_path), "udml_ss") == []


def test_a_budget_reads_a_real_dry_run(tmp_path):
    """8 epochs with up_step 2 have 4 looks. 4 clusters, 4 in a step, give a step in an epoch."""
    make_image_folder(tmp_path / "birds")
    command = [sys.executable, "train.py", "--data", tmp_path / "birds", *TINY_TRAIN, "--epochs", "8", "--dry_run"]
    command += ["--save_dir", tmp_path / "run", "--init", "pca"]
    done = subprocess.run(command, cwd=SCRIPTS.parent, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    study_budget.begin(str(tmp_path), "STEPS=30", "auto")
    (tmp_path / "budget" / "udml_ss.dry_run").write_text(done.stdout)
    run = study_budget.read_dry_run(tmp_path / "budget" / "udml_ss.dry_run")
    assert (run.epochs, run.looks, run.steps) == (8, 4, 8) and run.step > 0
    assert study_budget.epochs(str(tmp_path), "udml_ss") == 30


def test_sets_are_names_and_paths(tmp_path, monkeypatch):
    for name in ("cars", "my=set", "home/mine"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = f"c.1=cars ./cars/ {tmp_path}/my=set/../cars/../home ~/mine demo"
    assert study_sets.parse(words, str(tmp_path), "/root") == {
        "c.1": f"{tmp_path}/cars",
        "cars": f"{tmp_path}/cars",
        "home": f"{tmp_path}/home",
        "mine": f"{tmp_path}/home/mine",
        "demo": "/root/data/demo",
    }


@pytest.mark.parametrize(
    "words, fault",
    [
        ("nowhere", "SETS: nowhere: no such folder"),
        ("a= b=.", "SETS: a=: no such folder"),
        ("a=. a=.", "two sets are called a"),
        ("demo=.", "`demo` is the built-in set; give another name, as NAME=."),
        ("/", "give a name of letters"),
        ("..", "give a name of letters"),
        ("  ", "names no set"),
    ],
)
def test_a_wrong_word_is_one_line(words, fault, tmp_path):
    with pytest.raises(InputError, match=re.escape(fault)):
        study_sets.parse(words, str(tmp_path), "/root")


def test_all_sets_are_checked_before_any_is_trained(tmp_path):
    make_image_folder(tmp_path / "untested", train_classes=2, per_class=1)
    (tmp_path / "untested" / "test.txt").unlink()
    (tmp_path / "unlabelled").mkdir()

    def fault(**environment):
        done = run_study(tmp_path, "0", METHODS="udml_ss", **environment)
        assert done.returncode == 2 and not (tmp_path / "root" / "asked").exists() and done.stderr.count("\n") == 1
        return done.stderr

    assert "error: unlabelled: " in (line := fault(SETS="birds unlabelled")) and "no train.txt; give it both lists" in line
    assert "untested: no test.txt or query.txt; give it both lists" in fault(SETS="birds untested")
    assert "error: K=1: must be a whole number, at least 2" in fault(K="1")
    assert "error: STEPS=0: must be a number above 0" in fault(STEPS="0")
    assert "STEPS and MINUTES are both given" in fault(STEPS="1", MINUTES="2")
    assert "give one of them" in fault(COMPARE="udml_ss", HELD_OUT="1")
    (tmp_path / "birds" / "train.txt").write_text("train/class 0/0.jpg\ntrain/class 1/0.jpg\n")
    assert "has lines without a label; put K=NUMBER in front of the command" in fault()
    assert run_study(tmp_path, "0", METHODS="udml_ss", K="33").returncode == 0
    assert "clusters 33 epochs 75" in (tmp_path / "root" / "asked").read_text()


def test_compare_needs_neither_lists_nor_labels(tmp_path):
    """The nets are judged on a list of the images, without a test list. Without K, a dry run counts the steps."""
    root = tmp_path / "root"
    root.mkdir()
    output = "dry run of 50 images, 100 epochs; nothing is kept\n  a look  20 x 3.00 s\n  a step   400 x  2.00 s\n"
    (root / "udml_ss.dry_run").write_text(output)
    run_study(tmp_path, METHODS="closed_form")
    (tmp_path / "birds" / "train.txt").unlink()
    (root / "asked").unlink()
    settings = {"COMPARE": "shared_neighbours udml_ss,ROT=0", "METHODS": "stml", "STEPS": "14"}
    done = run_study(tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    runs, tries = asked_epochs(tmp_path)
    assert runs == {"shared_neighbours": 20, "udml_ss": 4} and tries == ["dry run udml_ss clusters auto ||embedding"]
    nets = ["shared_neighbours-seed-0", "udml_ss,ROT=0-seed-0"]
    assert done.stdout.splitlines()[-1] == f"judged {nets} ['train.txt'] True"
    checkpoint = root / "compare" / "birds" / nets[0] / "ckp_ep20.pth.tar"
    assert checkpoint.read_text() == f"{tmp_path / 'birds'}\n"  # for the line that says how to search
    listed = (root / "data" / "birds-compare" / "train.txt").read_text().splitlines()
    assert sorted(listed) == sorted(str(path) for path in (tmp_path / "birds" / "train").rglob("*.jpg"))  # no test images

    done = run_study(tmp_path, "0", "3", **settings)
    assert done.returncode == 0 and asked_epochs(tmp_path) == ({"shared_neighbours": 20, "udml_ss": 4}, [])
    assert "'udml_ss,ROT=0-seed-3'] ['train.txt'] True" in done.stdout.splitlines()[-1]
    shutil.copy(tmp_path / "birds" / "train" / "class 0" / "0.jpg", tmp_path / "birds" / "new.jpg")
    done = run_study(tmp_path, **settings)
    assert done.returncode == 2 and "its images have changed since" in done.stderr
    done = run_study(tmp_path, **settings, K="32", ROOT=str(root / "K"))
    assert done.returncode == 0 and "clusters 32 epochs 7 every 4" in (root / "K" / "asked").read_text()
