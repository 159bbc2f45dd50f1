"""Runs train.py and kills it at a chosen moment.

A function (`module:name` or `module:class.name`) is watched. `seconds` after its call number `call` has begun, the process
kills itself. From outside, this moment could not be chosen; the SIGKILL is the same.
"""

import importlib
import os
import signal
import threading
import time
from functools import reduce

from forked import train


def watch(function, call, delay):
    """Replace `function` with one that does the same, and that kills the process `delay` seconds after its call number
    `call`."""
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
    """Run train.py with these arguments until the moment (function, call, seconds)."""
    watch(*moment)
    train(*arguments)
