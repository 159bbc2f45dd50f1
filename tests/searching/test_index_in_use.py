"""The index that search.py makes, keeps and renews."""

import json
import os
import re
import signal

import pytest

from data.pixels import PIXELS
from galleries import checkpoint_of, photo
from gallery import index as indexes
from gallery.store import Gallery
from utils.errors import InputError, RunError
from utils.lock import locked


def test_an_inverted_file_where_it_is_asked_for(search, made, folder):
    assert search("index", folder, "--exact_up_to", 0) == ""
    about = json.loads((folder / "index.json").read_text())
    line = rf"12 images, inverted file: {about['probes']} of {about['lists']} lists a query, recall@10 (\d\.\d+); \d+\.\d s"
    said = [re.fullmatch(line, text) for text in search.remarks.splitlines()]
    (found,) = filter(None, said)
    assert float(found[1]) == pytest.approx(about["recall"], abs=1e-3) and about["recall"] >= indexes.RECALL
    paths = [os.fsencode(made / "photos").decode() + "/000.jpg"]
    (result,) = json.loads(search("query", folder, *paths, "--json", "-k", 2))
    assert result["found"][0]["path"] == "same.jpg" and "row" in result["found"][0]
    assert json.loads((folder / "index.json").read_text()) == about  # the index was not built again
    search("index", folder)
    assert "12 images, exact" in search.remarks
    assert json.loads((folder / "index.json").read_text())["kind"] == "exact"


def test_an_older_index_is_made_anew_that_of_another_model_is_refused(search, refusal, made, photos_and_gallery, tmp_path):
    own, gallery, again = photos_and_gallery
    search("query", gallery, own / "000.jpg")
    photo(own / "new.jpg", 80)
    again("--checkpoint", made / "ckp_ep1.pth.tar")
    photo(tmp_path / "new.jpg", 80)
    assert search("query", gallery, tmp_path / "new.jpg", "-k", 1).splitlines()[1] == "  100 %   1.000  new.jpg"
    assert "13 images, exact" in search.remarks
    held = json.loads((gallery / "index.json").read_text())
    (gallery / "index.json").write_text(json.dumps({**held, "model": "0" * 32}))
    for command in (["query", gallery, own / "new.jpg"], ["duplicates", gallery]):
        message = refusal(*command)
        assert "index.json: made of another model's embeddings" in message and f"search.py index {gallery}" in message
    search("index", gallery)
    assert search("query", gallery, tmp_path / "new.jpg", "-k", 1).splitlines()[1] == "  100 %   1.000  new.jpg"


def test_a_model_that_embed_changes_takes_the_index_along(search, made, photos_and_gallery):
    """embed.py refits the model itself when the folder grows; then the index is rebuilt without a message."""
    own, gallery, again = photos_and_gallery
    search("query", gallery, own / "000.jpg")
    again("--checkpoint", checkpoint_of(own.parent, 2), "--again")
    assert search("query", gallery, own / "000.jpg", "-k", 1).splitlines()[1].startswith("  100 %   1.000  ")


def test_an_index_that_cannot_be_kept(search, refusal, folder, made, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexes, "save", full)
    assert search("query", folder, made / "photos" / "000.jpg", "-k", 1).splitlines()[1].startswith("  100 %   1.000  ")
    assert "the index cannot be saved (No space left on device)" in search.remarks
    assert "No space left on device" in refusal("index", folder, kind=(InputError, RunError))


def test_an_index_while_embed_works(refusal, folder):
    """The message must not name a flag that only embed.py or train.py has."""
    ready, held = os.pipe()
    if not (child := os.fork()):
        with locked(str(folder)):
            os.write(held, b"!")
            signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert refusal("index", folder).startswith(f"{folder}: in use by another run, pid {child} on host ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_gallery_of_older_pixels_is_read_and_that_is_said(search, folder):
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "pixels": 0}))
    assert "12 images" in search("query", folder, Gallery(folder).paths[0])
    assert f"its rows are of pixel version 0, queries are read as version {PIXELS}; run embed.py again" in search.remarks
