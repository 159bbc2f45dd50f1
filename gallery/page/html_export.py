"""Results of a query as one HTML file that holds its pictures, to be kept or sent on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.pictures import data_url
from utils.errors import InputError


def write_results(file: str, results: Sequence[dict[str, Any]]) -> None:
    """Write the page.

    results: of each query `query`, its name; `pictures`, the paths of its images; `found`, a list of dicts of path,
    similarity and file, which is the absolute path. Raises InputError where the file cannot be written.
    """
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("results.html").render(results=results, picture=data_url)
    try:
        Path(file).write_text(html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})", setting="html") from None
