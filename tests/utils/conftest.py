"""A fixture that the tests of checkpoints share."""

import pytest

from utils import checkpoint


@pytest.fixture
def lines(monkeypatch):
    """What is said and warned of."""
    lines = []
    for level in ("say", "warn"):
        monkeypatch.setattr(checkpoint.log, level, lines.append)
    return lines
