"""search.py and mistakes, damaged galleries, and readers who leave."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from galleries import TINY, checkpoint_of, photo
from gallery import index as indexes
from gallery.folder import PLACES
from utils.errors import Interrupted

ROOT = Path(__file__).parents[2]


def test_no_gallery(refusal, tmp_path, made):
    for command in (["index", tmp_path], ["query", tmp_path, "x.jpg"], ["duplicates", tmp_path], ["clusters", tmp_path]):
        assert f"{tmp_path}: no gallery; make it with embed.py" in refusal(*command)


@pytest.mark.parametrize("part", PLACES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_gallery_is_named_with_a_remedy(refusal, folder, tmp_path, part, damage):
    held = (folder / part).read_bytes()
    (folder / part).unlink()
    if damage != "missing":
        (folder / part).write_bytes(held[: len(held) // 2] if damage == "cut" else b"")
    message = refusal("query", folder, photo(tmp_path / "elsewhere.jpg", 77))
    assert str(folder) in message and "embed.py" in message and (part in message or "no gallery" in message)


def test_a_gallery_between_old_and_new(refusal, search, made, folder, tmp_path):
    """embed.py was stopped after moving two of its new files: old and new files are mixed, with equal row counts."""
    own = made / "gallery"
    (folder / "making").mkdir()
    for name in PLACES[2:]:
        shutil.copy(own / name, folder / "making")
    about = json.loads((own / "about.json").read_text())
    (folder / "making" / "about.json").write_text(json.dumps({**about, "stamp": "another"}))
    for command in (["query", folder, made / "photos" / "000.jpg"], ["index", folder], ["duplicates", folder]):
        message = refusal(*command)
        assert message.startswith(f"{folder}: embed.py was stopped while it wrote this") and "run it again" in message


def test_the_model_of_another_gallery(refusal, folder, made, tmp_path, run):
    other = checkpoint_of(tmp_path, 2)
    run("embed", "--images", made / "photos", "--checkpoint", other, *TINY, "--out", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.pth.tar", folder)
    elsewhere = photo(tmp_path / "elsewhere.jpg", 77)
    assert "not the model that made the embeddings beside it" in refusal("query", folder, elsewhere)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "the following arguments are required: COMMAND"),
        (["find"], "invalid choice: 'find'"),
        (["query", "FOLDER"], "IMAGE"),
        (["query", "FOLDER", "x.jpg", "-k", "0"], "0 is not at least 1"),
        (["query", "FOLDER", "PHOTO", "--device", "tpu"], "tpu"),
        (["query", "FOLDER", "PHOTO", "--html", "/nowhere/x.html"], "/nowhere/x.html: cannot be written"),
        (["duplicates", "FOLDER", "--threshold", "1.1"], "1.1 is above 1"),
        (["serve", "FOLDER", "--port", "70000"], "70000 is above 65535"),
    ],
)
def test_slips_are_one_line(refusal, folder, made, arguments, text):
    named = {"FOLDER": folder, "PHOTO": made / "photos" / "000.jpg"}
    assert text in refusal(*(named.get(word, word) for word in arguments))


def test_nobody_reads_on(folder, search):
    """With `| head -1`, the program ends without a traceback or a complaint."""
    search("index", folder)
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "search.py", "duplicates", folder]
    done = subprocess.run(command, cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writes)
    assert not re.search("Traceback|Exception|Error|rror:", done.stderr) and done.returncode in (0, 141), done.stderr


def test_ctrl_c(run, folder, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(indexes, "build", stopped)
    with pytest.raises(Interrupted, match="by SIGINT") as caught:
        run("search", "index", folder)
    assert caught.value.code == 130


def test_without_a_stdout(run, folder, monkeypatch):
    """stdout was closed before the start (`>&-`)."""
    monkeypatch.setattr(sys, "stdout", None)
    run("search", "index", folder)
    assert (folder / "index.json").exists()
