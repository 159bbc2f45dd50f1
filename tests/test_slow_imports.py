"""Help and typical mistakes are answered before the slow imports. One process runs all cases, because each imports torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# jinja2 imports fast, but only search.py's page needs it.
SLOW = "torchvision timm sklearn scipy faiss starlette uvicorn jinja2 pytorch_metric_learning".split()
ASKED = {  # (code or command, exit code, part of the output); the order matters, because imported modules stay
    "thumbprints": ("import gallery.thumbprints, gallery.duplicates; assert 'torch' not in sys.modules", 0, ""),
    "data sets": ("import data.dataset", 0, ""),
    "losses": ("import losses; losses.names(); losses.create('Weight'); losses.create('Binomial')", 0, ""),
    "embed": (["embed.py", "--help"], 0, "--images"),
    "no images": (
        ["embed.py", "--images", "/nowhere", "--out", "/nowhere/new"],
        2,
        "error: --images /nowhere: no such folder or list\n",
    ),
    "search": (["search.py", "query", "--help"], 0, "usage"),
    "no gallery": (
        ["search.py", "query", "/no", "x.jpg"],
        2,
        "error: /no: no gallery; make it with embed.py --images FOLDER --out /no\n",
    ),
    "train": (["train.py", "--help"], 0, "--num_clusters"),
    "a method": (["train.py", "--method", "supervised", "--help"], 0, "--rot_batch"),
    "an unknown flag": (["train.py", "--save_dir", "run", "--no_such_flag"], 2, "unrecognized arguments"),
    "an unknown set": (["train.py", "--save_dir", "run", "--data", "/no/such/folder"], 2, "/no/such/folder: unknown"),
}
PROGRAM = """
import contextlib, io, json, os, runpy, sys
sys.path.insert(0, sys.argv[3])
answers, slow, root = {}, sys.argv[2].split(), sys.argv[3]
for name, (asked, *_) in json.loads(sys.argv[1]).items():
    (out, err), code = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if isinstance(asked, str):
                exec(asked)
            else:
                sys.argv = asked
                runpy.run_path(os.path.join(root, asked[0]), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except AssertionError as error:
            code = repr(error)
    for stream in (out, err):
        stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in (out, err))
    answers[name] = code, out, err, [module for module in slow if module in sys.modules]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    command = [sys.executable, "-c", PROGRAM, json.dumps(ASKED), " ".join(SLOW), ROOT]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("here"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ASKED)
def test_it_is_answered_before_the_slow_imports(answers, name):
    asked, code, text = ASKED[name]
    returned, out, err, slow = answers[name]
    allowed = {"jinja2"} if asked[0] == "train.py" else set()
    assert returned == code and (err == text if text.startswith("error") else text in out + err) and not {*slow} - allowed


def test_a_slow_import_would_be_seen():
    program = PROGRAM.replace("import contextlib", "import scipy, contextlib")
    asked = json.dumps({"nothing": ("pass",)})
    done = subprocess.run([sys.executable, "-c", program, asked, "scipy", ROOT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["nothing"][3] == ["scipy"]
