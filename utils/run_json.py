"""Writes run.json, the facts about a run for its report."""

import argparse
import os
import shlex
import sys
from typing import Any

from utils import log
from utils.files import write_json


def write(args: argparse.Namespace, images: Any, seconds: dict[str, float], before: float) -> None:
    """Write run.json into the run's folder. A failure is only a warning, because the checkpoint has all that matters.

    images: the data.lists.ImageList of the training. seconds: by part. before: seconds of wall time before the resumption.
    """
    about = {
        "method": args.method,
        "source": os.path.basename(images.folder),
        "images": len(images),
        "command": shlex.join(["python", *sys.argv]),
        "versions": log.versions(),
        "settings": vars(args),
        "seconds": {**({"before it was resumed": before} if before else {}), **seconds},
    }
    path = os.path.join(args.save_dir, "run.json")
    try:
        write_json(path, about)
    except OSError as error:
        log.warn(f"{path}: cannot be written ({error.strerror})")
