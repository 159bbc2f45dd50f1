"""export.py and embed_onnx.py in use: the files they write, reading these back, and refusals.

test_embed_onnx.py tests the crops of embed_onnx.py.
"""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import embed_onnx
import models
from data.creatures import recipe, snapshot as picture_of
from galleries import photo, snapshot
from gallery.store import Gallery
from models import export_files, exported, readout
from payloads import Payload, read_carelessly, write as write_payload
from thumbnails import TINY, make_image_folder
from utils import checkpoint, onnx_file
from utils.errors import InputError, Interrupted, RunError
from utils.files import file_digest

ROOT = Path(__file__).parents[1]
KINDS = ("embedding", "closed_form")
NET = (*TINY, "--net", "timm/test_resnet", "--pretrained", "False", "--width", "64", "--origin_width", "70")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_once):
    """The checkpoint of a closed form, made by train.py. It uses few channels, because the last maps have 2 x 2
    positions."""
    folder = tmp_path_factory.mktemp("trained")
    images = make_image_folder(folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout, "REDUCED", 2)
        run_once("train", *NET, "--method", "closed_form", "--data", images, "--save_dir", folder / "run")
    return checkpoint.path_of(str(folder / "run"), 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five JPEGs of creatures. Large ones are decoded at 1/2 and 1/4 of their size, and one is turned by its EXIF."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate([(90, 70), (200, 150), (301, 517), (640, 480), (112, 112)]):
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 3 else 1
        picture = picture_of(recipe(0, 0, i), np.random.default_rng(i)).resize(size)
        picture.save(folder / f"{i}.jpg", quality=90, exif=exif)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module", params=KINDS)
def export(request, tmp_path_factory, run_once, trained, pictures):
    """(readout, folder of an export with that readout), after export.py compared it on the pictures."""
    out = tmp_path_factory.mktemp("export") / "deep" / "model"
    flags = ("--readout", request.param, "--images", Path(pictures[0]).parent)
    run_once("export", "--checkpoint", trained, "--out", out, *flags)
    return request.param, out


@pytest.fixture
def copy(export, tmp_path):
    """A copy of the export, which a test may damage."""
    return Path(shutil.copytree(export[1], tmp_path / "copy"))


# ---- writing and reading back ----------------------------------------------------------------------------------------


def test_the_files_and_what_the_json_says(export, trained):
    kind, out = export
    modules = [f"data/{name}.py" for name in ("__init__", "colours", "crops", "formats", "pixels")]
    program = ["embed_onnx.py", *modules]
    net = ["model.onnx", "model.safetensors"]
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == sorted([*program, *net, "model.json"])
    assert all((out / name).read_bytes() == (ROOT / name).read_bytes() for name in program)
    assert not [path for path in out.parent.iterdir() if path != out]
    about = json.loads((out / "model.json").read_text())
    expected = {"net": "timm/test_resnet", "dim": 16, "width": 64, "origin_width": 70, "epoch": 1, "readout": kind}
    assert expected.items() <= about.items()
    assert 0 <= about["largest_difference"] <= 1e-4 and about["seconds"] == models.load(trained).origin.seconds
    assert about["sha256"] == {name: file_digest(out / name) for name in (*program, *net)}
    assert about["versions"]["torch"] == torch.__version__.split("+")[0]


def test_safetensors_give_the_same_embedder_back(export, trained, pictures):
    """With each readout, the embedder is the same, bit by bit."""
    kind, out = export
    path = out / "model.safetensors"
    before, after = models.load(trained, readout=kind), models.load(path)
    assert after.kind == kind and after.origin[1:3] == before.origin[1:3]
    assert after.settings == before.settings and after.origin.path == str(path)
    assert before.state_dict().keys() == after.state_dict().keys()
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())
    assert before.embed(pictures).tobytes() == after.embed(pictures).tobytes()
    for other in KINDS:
        expected = models.load(trained, readout=other).embed(pictures)
        assert expected.tobytes() == models.load(path, readout=other).embed(pictures).tobytes()


def test_the_graph_takes_batches_of_any_size(export, pictures):
    import onnxruntime

    kind, out = export
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [3, 64, 64])
    assert (got.name, got.type, got.shape[1:]) == ("embeddings", "tensor(float)", [16])
    assert given.shape[0] == got.shape[0] == "N"
    embedder = models.load(out / "model.safetensors")
    crops = np.stack([embed_onnx.crop_of(path, 70, 64) for path in pictures])
    expected = embedder.embed(pictures)
    for count in (1, 5):
        (rows,) = session.run(None, {"images": crops[:count]})
        np.testing.assert_allclose(rows, expected[:count], rtol=0, atol=1e-4)
    print(f"{kind}: largest difference {abs(rows - expected).max():.1e}")


def test_the_other_programs_take_it_for_a_checkpoint(export, trained, run, tmp_path, capsys):
    kind, out = export
    found = []
    images = Path(trained).parents[1] / "images"
    for name, path in (("before", trained), ("after", out / "model.safetensors")):
        run(
            "embed",
            "--images",
            images / "test",
            "--out",
            tmp_path / name,
            "--checkpoint",
            path,
            "--head",
            kind,
            "--amp",
            "off",
        )
        capsys.readouterr()
        run("test", "--resume", path, "--data", images, "--device", "cpu", "--readout", kind)
        table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1")]
        found.append((Gallery(tmp_path / name).embeddings.tobytes(), table))
    assert found[0] == found[1] and found[0][1]


def test_drawn_pictures_stand_in_for_images(run, trained, tmp_path, capsys):
    run("export", "--checkpoint", trained, "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{tmp_path}/out: timm/test_resnet, closed_form, 16 numbers, " in said
    assert "largest difference between ONNX and PyTorch on 8 images: " in said
    before = (tmp_path / "out" / "model.json").read_bytes()
    mine = [tmp_path / "out" / "mine.txt", tmp_path / "out" / "data" / "mine.txt"]
    for path in mine:
        path.write_text("stays")
    run("export", "--checkpoint", trained, "--out", tmp_path / "out", "--readout", "embedding")  # replaces the earlier one
    assert [path.read_text() for path in mine] == ["stays", "stays"]
    assert len(list((tmp_path / "out").iterdir())) == 6 and len(list((tmp_path / "out" / "data").iterdir())) == 6
    assert models.load(tmp_path / "out" / "model.safetensors").kind == "embedding"
    assert (tmp_path / "out" / "model.json").read_bytes() != before


# ---- files that cannot be read ---------------------------------------------------------------------------------------


def says(**changes):
    """Return a function that changes fields of an export's model.json; None removes one."""

    def change(folder):
        about = json.loads((folder / "model.json").read_text())
        about.update(changes)
        (folder / "model.json").write_text(json.dumps({key: value for key, value in about.items() if value is not None}))

    return change


def cut(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])


def other_weights(folder):
    """Replace the weights by those of another export: an intact file with one other bit."""
    whole = bytearray((folder / "model.safetensors").read_bytes())
    whole[-5] ^= 1
    (folder / "model.safetensors").write_bytes(whole)


def no_safetensors(folder):
    """Replace the weights by noise, and correct the hash."""
    (folder / "model.safetensors").write_bytes(b"noise" * 100)
    says(sha256={"model.safetensors": file_digest(folder / "model.safetensors")})(folder)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda f: (f / "model.json").unlink(),
            r"model\.json: no such file; it belongs beside model\.safetensors: copy both",
        ),
        (
            lambda f: (f / "model.json").write_text("{"),
            r"model\.json: damaged \(Expecting .*\); copy it anew, or run export",
        ),
        (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), r"model\.json: damaged \("),
        (lambda f: (f / "model.json").write_text("[" * 100_000), r"model\.json: damaged \("),
        (lambda f: (f / "model.json").write_text("[1]"), r"model\.json: not written by export\.py"),
        (lambda f: (f / "model.json").write_text('{"net": "ResNet50"}'), r"model\.json: not written by export\.py"),
        (says(version=2), r"model\.json: of version 2, not 1; run export\.py again"),
        (says(sha256=None), r"model\.json: damaged \(no hashes\)"),
        (says(dim=None, epoch=None), r"model\.json: damaged \(no epoch, dim\)"),
        (says(dim="16"), r"its settings are not those of a net"),
        (says(epoch="1"), r"`state_dict` or `epoch` is missing"),
        (says(dim=8), r"does not fit this net \(.*; its embedding has 16 numbers, not 8"),
        (says(net="timm/test_vit"), r"model\.safetensors: .*(does not fit this net|closed form is of another net)"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors: no such checkpoint"),
        (cut, r"model\.safetensors: damaged, or not of the same export as the model\.json beside it"),
        (other_weights, r"model\.safetensors: damaged, or not of the same export"),
        (no_safetensors, r"model\.safetensors: not a readable \.safetensors file \(.*\); run export\.py again"),
    ],
)
def test_what_is_damaged_or_of_others_is_one_line(copy, damage, message):
    damage(copy)
    with pytest.raises(InputError, match=message) as caught:
        models.load(copy / "model.safetensors")
    assert "\n" not in str(caught.value)


def test_a_pickle_under_that_name_is_not_run(copy, tmp_path):
    marker = tmp_path / "marker"
    write_payload("pickle", Payload(marker), copy / "model.safetensors")
    says(sha256={"model.safetensors": file_digest(copy / "model.safetensors")})(copy)
    with pytest.raises(InputError, match="not a readable .safetensors file"):
        models.load(copy / "model.safetensors")
    assert not marker.exists()
    read_carelessly("pickle", copy / "model.safetensors")
    assert marker.exists()


# ---- nets that are not exported --------------------------------------------------------------------------------------


def wrong_by(amount):
    """Return a replacement of `open_graph` whose numbers are wrong by `amount`."""
    right = onnx_file.open_graph
    return lambda path: lambda images: [rows + np.float32(amount) for rows in right(path)(images)]


@pytest.mark.parametrize("amount", [2e-4, np.nan])
def test_a_graph_that_differs_is_refused(run, trained, export, tmp_path, monkeypatch, amount):
    kind, folder = export
    monkeypatch.setattr(exported, "write_graph", lambda embedder, path: shutil.copy(folder / "model.onnx", path))
    monkeypatch.setattr(onnx_file, "open_graph", wrong_by(amount))
    with pytest.raises(
        RunError, match=r"^ONNX and PyTorch differ by (2\.0e-04|nan) on 8 images, more than 1e-04; nothing is "
    ):
        run("export", "--checkpoint", trained, "--out", tmp_path / "new" / "out", "--readout", kind)
    assert not list(tmp_path.iterdir())


ENDS = {
    "a signal": (Interrupted("by SIGTERM", 143), Interrupted),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), RunError),
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", ["write_graph", "largest_difference", "put_in_place"])
def test_an_interrupted_export_leaves_nothing(run, export, trained, tmp_path, monkeypatch, step, end, there):
    """Nothing is left in a new folder. In a folder with an earlier export, that export stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    out = kept / "out"
    if there:
        shutil.copytree(export[1], out)
    shutil.copytree(kept, tmp_path / "before")
    raised, seen = ENDS[end]

    def graph(embedder, path):
        Path(path).write_bytes(b"half")

    def fail(*_):
        raise raised

    monkeypatch.setattr(exported, "write_graph", graph)
    monkeypatch.setattr(onnx_file, "open_graph", lambda path: None)
    monkeypatch.setattr(exported, "largest_difference", lambda *_: 0.0)
    monkeypatch.setattr(export_files if step == "put_in_place" else exported, step, fail)
    with pytest.raises(seen):
        run("export", "--checkpoint", trained, "--out", out)
    compared = [{os.path.relpath(p, f): seen[3] for p, seen in snapshot(f).items()} for f in (kept, tmp_path / "before")]
    assert compared[0] == compared[1]


def before_the_program(folder):
    """Make an export like those of earlier versions, which wrote three files."""
    shutil.rmtree(folder / "data")
    (folder / "embed_onnx.py").unlink()
    hashes = json.loads((folder / "model.json").read_text())["sha256"]
    says(sha256={name: hashes[name] for name in ("model.onnx", "model.safetensors")})(folder)


@pytest.mark.parametrize("earlier", ["three files", "all files"])
@pytest.mark.parametrize("moved", range(1, len(export_files.FILES)))
def test_a_crash_between_the_moves_is_seen_and_mended(export, tmp_path, monkeypatch, moved, earlier):
    """As by the power: the first files are new, the others those of an earlier export, or none."""
    kind, folder = export
    out = Path(shutil.copytree(folder, tmp_path / "out"))
    if earlier == "three files":
        before_the_program(out)
    for path in [path for path in out.rglob("*") if path.is_file() and path.name != "model.json"]:
        path.write_bytes(b"earlier")
    says(sha256={**json.loads((out / "model.json").read_text())["sha256"], "model.safetensors": "earlier"})(out)
    replace, left = os.replace, [moved]

    def crash(*paths):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(*paths)

    other = tmp_path / "other"
    export_files.refuse_foreign(str(out))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            export_files.put_in_place(str(shutil.copytree(folder, other)), str(out))
    with pytest.raises(InputError, match="not of the same export"):
        models.load(out / "model.safetensors")
    hashes = json.loads((out / "model.json").read_text())["sha256"]
    new = {name for name, digest in hashes.items() if (out / name).exists() and file_digest(out / name) == digest}
    assert "model.onnx" not in new or {"embed_onnx.py", *export_files.MODULES} <= new
    export_files.refuse_foreign(str(out))  # it is known as an export, so that another may replace it
    shutil.rmtree(other)
    export_files.put_in_place(str(shutil.copytree(folder, other)), str(out))
    assert models.load(out / "model.safetensors").kind == kind
    assert all(file_digest(out / name) == digest for name, digest in hashes.items())


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "model.json", "embed_onnx.py", "data"])
def test_files_of_others_are_not_overwritten(refused, trained, tmp_path, name):
    (tmp_path / name).write_text("{}")
    before = snapshot(tmp_path)
    message = refused("export", "--checkpoint", trained, "--out", tmp_path)
    assert message == f"--out {tmp_path}: its {name} is not from an earlier export; give another folder"
    assert snapshot(tmp_path) == before


def test_a_folder_of_others_is_left_alone(refused, trained, tmp_path):
    photo(tmp_path / "data" / "mine.jpg")
    before = snapshot(tmp_path)
    message = refused("export", "--checkpoint", trained, "--out", tmp_path)
    assert message == f"--out {tmp_path}: its data is not from an earlier export; give another folder"
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["embed_onnx.py", "data/mine.jpg"])
def test_files_of_others_beside_an_export_without_a_program(copy, name):
    before_the_program(copy)
    export_files.refuse_foreign(str(copy))
    photo(copy / name)
    with pytest.raises(InputError, match=f"its {name.split('/')[0]} is not from an earlier export"):
        export_files.refuse_foreign(str(copy))


def test_a_link_in_place_of_our_folder_is_not_followed(copy, tmp_path):
    shutil.move(copy / "data", tmp_path / "elsewhere")
    (copy / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="its data is not from an earlier export"):
        export_files.refuse_foreign(str(copy))


def test_a_gallery_of_pooled_features_has_no_embedding_to_export(run, refused, tmp_path):
    """The net is untrained, so its embedding head is random."""
    photo(tmp_path / "photos" / "a.jpg")
    run("embed", *TINY, "--net", "EfficientNet-Lite0", "--images", tmp_path / "photos", "--out", tmp_path / "gallery")
    message = refused("export", "--checkpoint", tmp_path / "gallery" / "model.pth.tar", "--out", tmp_path / "out")
    assert "model.pth.tar: gives pooled features of an untrained net, no embedding; " in message
    assert sorted(os.listdir(tmp_path)) == ["gallery", "photos"]


def test_other_refusals(refused, trained, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused("export", "--checkpoint", trained, "--out", tmp_path / "file").endswith("file: is a file; give a folder")
    assert "no such checkpoint" in refused("export", "--checkpoint", tmp_path / "none", "--out", tmp_path / "out")
    flags = ("export", "--checkpoint", trained, "--out", tmp_path / "out", "--images")
    assert "--images " in refused(*flags, tmp_path / "nowhere")
    (tmp_path / "bad.jpg").write_text("no image")
    assert "bad.jpg: cannot be read as an image" in refused(*flags, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["bad.jpg", "file"]


def test_without_the_packages_it_is_one_line_and_code_2(trained, tmp_path):
    """Here, a process cannot import onnxruntime."""
    code = "import sys; sys.modules['onnxruntime'] = None; import export; export.exit_on_error(export.main)"
    command = [sys.executable, "-c", code, "--checkpoint", trained, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == "error: an export needs onnxruntime; run pip install onnx onnxscript onnxruntime\n"
    assert not list(tmp_path.iterdir())


# ---- embed_onnx.py ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """bare_python("onnxruntime==...") returns the Python of a new environment with this package, numpy and Pillow."""

    @functools.cache
    def made(runtime):
        folder = tmp_path_factory.mktemp("bare")
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", runtime, "numpy", "Pillow"]
        done = subprocess.run(command, text=True, capture_output=True)
        if done.returncode:
            pytest.skip(f"pip cannot install {runtime}, numpy and Pillow: {(done.stderr.splitlines() or [''])[-1]}")
        assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 1
        return python

    return made


BARE = """
import runpy, sys
class Refuse:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse)
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0] or "."  # as `python PROGRAM` does
runpy.run_path(sys.argv[0], run_name="__main__")
for name, module in sys.modules.items():
    if name.partition(".")[0] == "data":
        print(module.__file__, file=sys.stderr)
"""
# What this environment has and a bare one has not: the project and its requirements. The export has a `data` of its own.
REFUSED = "torch torchvision timm faiss sklearn scipy onnx onnxscript safetensors"
REFUSED += " models utils gallery losses evaluations"


@pytest.mark.parametrize(
    "runtime", ["here", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("onnxruntime", "onnxruntime==1.20.1"))]
)
def test_it_runs_without_the_project(export, pictures, request, tmp_path, runtime):
    """A copy of the export without the weights, where nothing else can be imported."""
    kind, out = export
    shutil.copytree(out, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    if runtime == "here":
        python = [sys.executable, "-c", BARE % REFUSED.split()]
        (tmp_path / "slip.py").write_text("import torch")
        assert b"ModuleNotFoundError: torch" in subprocess.run([*python, tmp_path / "slip.py"], capture_output=True).stderr
    else:
        python = [request.getfixturevalue("bare_python")(runtime)]
    command = [*python, "model/embed_onnx.py", "model", *pictures, "--out", "embeddings.npy"]
    project = {"PYTHONPATH": str(ROOT)} if runtime == "here" else {}  # its `data` is found after the one of the export
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **project}, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    if runtime == "here":
        opening = {os.path.relpath(tmp_path / path, tmp_path) for path in done.stderr.splitlines() if path.endswith(".py")}
        assert opening == {f"model/{name}" for name in export_files.MODULES}
    rows, expected = np.load(tmp_path / "embeddings.npy"), models.load(out / "model.safetensors").embed(pictures)
    print(f"{kind}, {runtime}: largest difference {abs(rows - expected).max():.1e}")
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-4)
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [path for _, path in lines] == pictures[1:]
    np.testing.assert_allclose([float(cosine) for cosine, _ in lines], expected[1:] @ expected[0], atol=2e-4)


def test_what_embed_onnx_says(export, pictures, tmp_path, monkeypatch, capsys):
    _, out = export

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["embed_onnx.py", *map(str, arguments)])
        embed_onnx.main()
        return capsys.readouterr().out

    def refuses(*arguments):
        with pytest.raises(SystemExit) as caught:
            call(*arguments)
        assert caught.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    row = json.loads(call(out, pictures[0]))
    np.testing.assert_allclose(row, models.load(out / "model.safetensors").embed(pictures[0])[0], rtol=0, atol=1e-4)
    photo(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(photo(tmp_path / "whole.png").read_bytes()[:-100])
    Image.new("RGB", (9, 9)).save(tmp_path / "a.eps")
    assert "not the folder of an export" in refuses(tmp_path, pictures[0])
    about = json.loads((out / "model.json").read_text())
    for change, said in (({"sha256": {"model.onnx": "0"}}, "of another export"), ({"width": None}, "folder of an export")):
        damaged = shutil.copytree(out, tmp_path / "damaged", dirs_exist_ok=True)
        (damaged / "model.json").write_text(json.dumps({**about, **change}))
        assert said in refuses(damaged, pictures[0])
    reasons = {
        "bad.jpg": "no picture, or of a format that is not read",
        "cut.png": "the file is cut off",
        "a.eps": "PostScript is not decoded",
        "none.jpg": "No such file or directory",
    }
    for name, reason in reasons.items():
        said = refuses(out, pictures[0], tmp_path / name)
        assert said == f"embed_onnx.py: error: {tmp_path / name}: cannot be read as an image ({reason})"
    assert "cannot be written" in refuses(out, pictures[0], "--out", tmp_path / "none" / "a.npy")
