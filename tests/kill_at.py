"""Runs train.py and kills it at a chosen moment: python tests/kill_at.py FUNCTION CALL DELAY train.py's arguments...

FUNCTION (`module:name` or `module:class.name`) is watched: DELAY seconds after its call number CALL has begun, the process
kills itself. SIGKILL is the same whoever sends it; only from here the moment can be chosen.
"""

import importlib
import os
import runpy
import signal
import sys
import threading
import time
from functools import reduce

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def watch(function, call, delay):
    """Put a function in the place of `function` that does the same, and kills at its call."""
    module, name = function.split(":")
    *parents, name = name.split(".")
    owner = reduce(getattr, parents, importlib.import_module(module))
    original, calls = getattr(owner, name), []

    def watched(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()
        return original(*args, **kwargs)

    setattr(owner, name, watched)


if __name__ == "__main__":
    sys.path.insert(0, ROOT)
    watch(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    sys.argv[:4] = [os.path.join(ROOT, "train.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")
