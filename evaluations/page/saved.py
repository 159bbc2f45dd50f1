"""Results of a query as one HTML file that holds its pictures, to be kept or sent on."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.images import decode
from evaluations.page import pictures
from utils.errors import InputError


def write_results(file: str, results: Sequence[dict[str, Any]]) -> None:
    """Write the page.

    results: of each query `query`, its name; `pictures`, the paths of its images; `found`, a list of dicts of path,
    similarity and file, which is the absolute path. Raises InputError where the file cannot be written.
    """
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("results.html").render(results=results, picture=picture)
    try:
        with open(file, "w", encoding="utf-8", errors="replace") as opened:
            opened.write(html)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})", setting="html") from None


def picture(path: str | os.PathLike, side: int = pictures.THUMB) -> str:
    """The address of a JPEG, `side` pixels high at most, that holds its own bytes; empty for a file that can no longer be
    read."""
    try:
        image = pictures.picture(decode(path, side))
    except InputError:
        return ""
    image.thumbnail((2 * side, side))
    return "data:image/jpeg;base64," + base64.b64encode(pictures.as_jpeg(image)).decode()
