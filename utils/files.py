"""Files that are written whole or not at all."""

import json
import os
from contextlib import suppress
from typing import Any


def write_json(path: str, value: Any) -> None:
    """Write a JSON file at once: after a crash there is the new one or the one before. Raises OSError."""
    temporary, text = f"{path}.tmp", json.dumps(value, indent=1)
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.remove(temporary)
        raise
