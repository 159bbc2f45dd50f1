"""Writes the results of a query as one HTML file with its pictures inside, to keep or send on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.pictures import data_url
from utils.errors import InputError


def write_results(file: str, results: Sequence[dict[str, Any]]) -> None:
    """Write the page.

    results: for each query a dict of `query`, its name; `pictures`, the paths of its images; `nothing_like_it`; and `found`,
    a list of dicts of path, similarity, closer_than and file (the absolute path). Raises InputError if the file cannot be
    written.
    """
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("results.html").render(results=results, picture=data_url)
    try:
        Path(file).write_text(html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})", setting="html") from None
