"""train.py that kills itself at a chosen moment.

A function (`module:name` or `module:class.name`) is watched: so many seconds after its call number `call` has begun, the
process kills itself. SIGKILL is the same whoever sends it; only from here the moment can be chosen.
"""

import importlib
import os
import signal
import threading
import time
from functools import reduce

from forked import train


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


def train_until(moment, *arguments):
    """moment: (function, call, seconds)."""
    watch(*moment)
    train(*arguments)
