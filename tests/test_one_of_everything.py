"""The table that docs/search.md shows, for a folder with one of everything."""

from pathlib import Path

import numpy as np
import pytest

from data.formats import installed
from gallery.store import Gallery
from one_of_everything import make

PAGE = Path(__file__).parents[1] / "docs" / "search.md"


def test_the_table_of_the_docs(run, tmp_path, capsys):
    pytest.importorskip("pillow_heif")
    if not installed("rawpy"):
        pytest.skip("rawpy is not installed")
    make(tmp_path / "photos")
    run("embed", "--images", tmp_path / "photos", "--out", tmp_path / "gallery", "--width", 64)
    said = capsys.readouterr().out
    table = said[said.index("embedded ") : said.rindex("18 images are embedded")]
    assert f"```\n{table}```\n" in PAGE.read_text(encoding="utf-8"), table
    gallery = Gallery(tmp_path / "gallery")
    formats = [gallery.content(row).facts.format for row in range(len(gallery))]
    assert sorted({*formats}) == "AVIF BMP GIF HEIF JPEG JPEG2000 PNG PPM RAW TGA TIFF WEBP".split()
    near = gallery.embeddings @ gallery.embeddings.T
    alike = {tuple(gallery.shown(row) for row in pair) for pair in np.argwhere(np.triu(near, 1) > 0.98).tolist()}
    assert alike == {("nearly whole.jpg", "picture.jpg")}
