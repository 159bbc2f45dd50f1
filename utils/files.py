"""Files that are written whole or not at all."""

import json
import os
from typing import Any


def write_json(path: str, value: Any) -> None:
    """Write a JSON file at once: after a crash there is the new one or the one before. Raises OSError."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
