"""The answer to a query as the shell gives it: as a JSON object, and as lines of text."""

from collections.abc import Iterator
from typing import Any

from data.lists import shown
from gallery.search import LookAlikes
from gallery.store import Gallery

NOTHING = "nothing in the gallery seems to be like it; the nearest:"


def entry(gallery: Gallery, row: int, similarity: float | None = None, closer_than: int | None = None) -> dict[str, Any]:
    """Return an image's entry for JSON output. closer_than: the place of its similarity on the gallery's scale."""
    of_result = {} if similarity is None else {"similarity": round(similarity, 4), "closer_than": closer_than}
    return {"path": gallery.shown(row), "row": row, **of_result}


def as_json(gallery: Gallery, name: str, answer: LookAlikes, least: int) -> dict[str, Any]:
    """Return the answer to the query `name`, without results below `least` on the gallery's scale."""
    triples = zip(answer.rows.tolist(), answer.similarities.tolist(), answer.closer_than)
    found = [entry(gallery, *triple) for triple in triples if triple[2] is None or triple[2] >= least]
    return {"query": shown(name), "nothing_like_it": answer.nothing_like_it, "found": found}


def as_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of an answer that `as_json` returned."""
    yield result["query"]
    if not result["found"]:
        yield "  nothing is that similar"
    elif result["nothing_like_it"]:
        yield f"  {NOTHING}"
    for item in result["found"]:
        percent = "" if item["closer_than"] is None else f"{item['closer_than']} %"
        yield f"  {percent:>5}  {item['similarity']:6.3f}  {shown(item['path'])}"
