"""A fixture that the tests of checkpoints share."""

import pytest

from utils import checkpoint


@pytest.fixture
def lines(monkeypatch):
    """All lines of the log, warnings included."""
    lines = []
    for level in ("say", "warn"):
        monkeypatch.setattr(checkpoint.log, level, lines.append)
    return lines
