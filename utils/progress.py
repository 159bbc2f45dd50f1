"""Progress bars: on a terminal only, and of several processes only the first one's."""

import os
from typing import Any

from tqdm import tqdm


def bar(*args: Any, **settings: Any) -> tqdm:
    """tqdm, quiet when the output is no terminal."""
    return tqdm(*args, disable=True if int(os.environ.get("RANK", 0)) else None, **settings)
