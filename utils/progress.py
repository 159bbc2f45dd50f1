"""Progress bars, shown on a terminal only, and only by the first of several processes."""

import os
from typing import Any

from tqdm import tqdm


def bar(*args: Any, **settings: Any) -> tqdm:
    """Return a tqdm bar, which is quiet when the output is no terminal."""
    return tqdm(*args, disable=True if int(os.environ.get("RANK", 0)) else None, **settings)
