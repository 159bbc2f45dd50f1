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

from thumbnails import make_image_folder  # noqa: E402

# The stand-in for run_train_test.sh has the real settings, which study.sh reads, and prints the requested ones.
SETTINGS = "".join(re.findall(r"^[A-Z_]+=.*\n", (SCRIPTS / "run_train_test.sh").read_text(), re.MULTILINE))
STAND_IN = """#!/usr/bin/env bash
if false; then
SETTINGS
fi
echo "$METHOD $DATA seed $SEED loss ${LOSS:-}${UP_STEP:-} clusters $NUM_CLUSTERS epochs $EPOCHS every $SAVE_STEP" \
    "${INIT:-}|${TRAIN_FLAGS:-}|$TEST_FLAGS|$RUN_SUFFIX" >> "$ROOT/asked"
[ "$METHOD" != "${FAILS:-}" ] || exit 7
touch "$ROOT/net $METHOD $SEED"
echo '[{"epoch": 1, "readout": "embedding", "recall": {"1": 0.5, "8": 0.75}, "map_at_r": 0.25, "nmi": 0.5, "seconds": 90,' \
    '"checkpoint": "'"$ROOT/net $METHOD $SEED"'"}]' > "$RESULT"
""".replace("SETTINGS", SETTINGS)
TEST_STAND_IN = """
import json, os, sys
paths = sys.argv[sys.argv.index("--resume") + 1 : sys.argv.index("--save_json")]
scores = {"readout": "closed_form", "recall": {"1": 0.5}, "label_free": {"evidence": 0.5}}
nets = [{"epoch": 0, **scores}, *({"epoch": 1, "checkpoint": path, **scores} for path in paths)]
json.dump(nets, open(sys.argv[sys.argv.index("--save_json") + 1], "w"))
print("judged", sorted(map(os.path.basename, paths)))
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


def test_a_table_has_the_last_point_of_each_method(results):
    lines = study.table("birds", study.gather(results)["birds"]).splitlines()
    assert lines[0] == "**birds**" and len({line.count("|") for line in lines[2:]}) == 1
    assert lines[4:] == [
        "| frozen | 1 | 50.00 | 90.00 | 20.00 | 60.00 | 0 |  |",
        "| closed form, no training | 1 | 60.00 | 90.00 | 20.00 | 60.00 | 25 | 0.5 |",
        "| ours | 2 | 73.00 ± 1.41 | 90.00 ± 0.00 | 20.00 ± 0.00 | 60.00 ± 0.00 | 58 | 3.0 |",
        "| ours, closed form | 2 | 82.00 ± 2.83 | 90.00 ± 0.00 | 20.00 ± 0.00 | 60.00 ± 0.00 | 80 | 3.0 |",
        "| supervised,LOSS=Triplet | 1 | 90.00 | 90.00 | 20.00 | 60.00 | 100 | 10.0 |",
    ]


def test_a_curve_takes_the_better_readout_of_each_point(results):
    first, second = several = study.gather(results)["birds"]["ours"]
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
    def net(epoch, recall, good, bad, path="ckpt/ours-seed-1-study/ckp_ep1.pth.tar"):
        scores = {"label_free": {"good": good, "bad": bad, "flat": 1.0}}
        path = {"checkpoint": path} if epoch else {}
        return {"epoch": epoch, "readout": "closed_form", "recall": {"1": recall}, **scores, **path}

    entries = [
        net(0, 0.6, 0.1, 0.5),
        net(4, 0.7, 0.2, 0.4),
        net(8, 0.8, 0.4, 0.3),
        net(8, 0.75, 0.3, 0.2, "ckpt/other-study/x"),
        net(8, 0.9, 0.5, 0.1, "ckpt/supervised-study/x"),
    ]
    folder = Path(results) / "birds"
    strangers = [net(8, 0.99, 0.9, 0.9, "ckpt/of-no-result/x"), {**entries[0], "readout": "pooled"}]
    (folder / "label_free.json").write_text(json.dumps([*entries, *strangers]))
    for file in folder.glob("*-seed-*"):
        file.unlink()
    (folder / "all-seed-0.json").write_text(json.dumps(entries))
    judged = study.load_judged(str(folder))
    assert [found.method for found in judged] == ["", "ours-study", "ours-study", "other-study", "supervised-study"]
    lines = study.judged_table({"birds": judged}).splitlines()
    assert lines[2:] == [
        "| | birds: all nets | within a method | chosen, R@1 |",
        "|---|---|---|---|",
        "| good | 1.00 | 1.00 | 80.00 |",
        "| bad | -0.90 | -1.00 | 60.00 |",
        "| flat |  |  | 60.00 |",
        "| to choose from | | | 60.00 to 80.00 |",
    ]


def test_nets_are_judged_once_and_again_when_they_change(tmp_path):
    """This also holds for an older net that had no result when others were judged, and for a folder with spaces."""
    for needed in ("data", "evaluations", "models", "utils"):
        (tmp_path / needed).symlink_to(SCRIPTS.parent / needed)
    (tmp_path / "test.py").write_text(TEST_STAND_IN)
    root = tmp_path / "my root"

    def judged(*seeds):
        done = run_study(tmp_path, *seeds, METHODS="supervised", JUDGE="1", ROOT=str(root), real=True)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("judged")]

    root.mkdir()
    early = root / "net udml_ss 0"
    early.touch()
    os.utime(early, (1, 1))
    assert judged("0") == ["judged ['net supervised 0']"]  # the frozen net is judged each time
    assert judged("0") == []
    later = root / "study" / "CUB100" / "udml_ss-seed-0.json"
    later.write_text(json.dumps([{**entry(1, "embedding", 0.5), "checkpoint": str(early)}]))
    assert judged("0", "1") == ["judged ['net supervised 1', 'net udml_ss 0']"]
    file = root / "study" / "CUB100" / "label_free.json"
    assert len(json.loads(file.read_text())) == 4
    os.utime(root / "net supervised 1", (file.stat().st_mtime + 9,) * 2)
    assert judged("0") == ["judged ['net supervised 1']"] and len(json.loads(file.read_text())) == 4

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
    """Run scripts/study.sh in a copy where run_train_test.sh only notes its settings. real: use the real study.py."""
    copy = tmp_path / "scripts"
    copy.mkdir(exist_ok=True)
    for name in ("study.sh", "setup_env.sh"):
        shutil.copy(SCRIPTS / name, copy)
    if real:
        for name in ("study.py", "study_judged.py"):
            shutil.copy(SCRIPTS / name, copy)
    else:
        (copy / "study.py").write_text("import sys; print(*sys.argv[1:])")
    (copy / "run_train_test.sh").write_text(STAND_IN)
    (copy / "run_train_test.sh").chmod(0o755)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        [copy / "study.sh", *seeds],
        text=True,
        capture_output=True,
        env={
            **kept,
            "PYTHON": sys.executable,
            "ROOT": str(tmp_path / "root"),
            "CUB100": "/birds",
            "JUDGE": "0",
            "SETS": "CUB100",
            **environment,
        },
    )


def test_the_script_runs_what_is_not_there_yet(tmp_path):
    methods = "closed_form udml_ss,LOSS=Triplet,NUM_CLUSTERS=12 cluster_contrast,EPOCHS=6,UP_STEP=2"
    stopped = run_study(tmp_path, "0", "1", METHODS=methods, FAILS="cluster_contrast")
    asked = tmp_path / "root" / "asked"
    metrics = "--metrics recall map_at_r nmi"
    assert stopped.returncode == 7 and asked.read_text().splitlines() == [
        f"closed_form /birds seed 0 loss  clusters 50 epochs 1 every 1 ||{metrics}|-study",
        f"udml_ss /birds seed 0 loss Triplet clusters 12 epochs 50 every 25 pca||{metrics} --pretrained False"
        "|-study-LOSS=Triplet-NUM_CLUSTERS=12",
        "cluster_contrast /birds seed 0 loss  clusters 50 epochs 6 every 3"
        f" |--init pca --eps 0.5 --up_step 5 --up_step 2|{metrics} --pretrained False|-study-EPOCHS=6-UP_STEP=2",
    ]

    asked.unlink()
    done = run_study(tmp_path, "0", "1", METHODS=methods)
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[:4]) for line in asked.read_text().splitlines()] == [
        "cluster_contrast /birds seed 0",
        "udml_ss /birds seed 1",  # no closed form, because no seed changes it
        "cluster_contrast /birds seed 1",
    ]
    assert sorted(os.listdir(tmp_path / "root" / "study" / "CUB100")) == [
        "closed_form-seed-0.json",
        "cluster_contrast,EPOCHS=6,UP_STEP=2-seed-0.json",
        "cluster_contrast,EPOCHS=6,UP_STEP=2-seed-1.json",
        "udml_ss,LOSS=Triplet,NUM_CLUSTERS=12-seed-0.json",
        "udml_ss,LOSS=Triplet,NUM_CLUSTERS=12-seed-1.json",
    ]
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'root' / 'study'} scripts/out/study"


def test_settings_are_chosen_on_half_of_the_training_classes(tmp_path):
    make_image_folder(tmp_path / "birds", train_classes=4, per_class=1)
    for needed in ("data", "utils"):
        (tmp_path / needed).symlink_to(SCRIPTS.parent / needed)
    done = run_study(tmp_path, "0", METHODS="udml_ss,UP_STEP=7", HELD_OUT="1", CUB100=str(tmp_path / "birds"))
    root = tmp_path / "root"
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{root / 'study_held_out'} scripts/out/study_held_out"
    assert f"udml_ss {root}/data/CUB100-held_out seed 0 loss 7 clusters 25 epochs 50" in (root / "asked").read_text()
    assert len((root / "data" / "CUB100-held_out" / "test.txt").read_text().splitlines()) == 2
    assert os.listdir(root / "study_held_out" / "CUB100") == ["udml_ss,UP_STEP=7-seed-0.json"]


def test_the_script_asks_where_a_set_is(tmp_path):
    done = run_study(tmp_path, "0", SETS="GroceryStore", METHODS="udml_ss")
    assert done.returncode != 0 and "where is GroceryStore? Set CUB100 or GROCERY" in done.stderr
