"""JSON files, whole or not at all."""

import json

import pytest

from utils.files import write_json


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    write_json(str(path), {"a": [1, "ü"]})
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    with pytest.raises(TypeError):
        write_json(str(path), {"a": [2], "b": object()})
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(OSError):
        write_json(str(tmp_path / "none" / "a.json"), {})
