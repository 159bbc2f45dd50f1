"""Reads and checks the parameters of a request, and refuses wrong ones with a sentence."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

QUERIES = 32  # images and uploads of one query, at most
MOST = 500  # images or groups in one answer
SHOWN = 100  # images of a group of duplicates or of a mark, at most
CHOSEN = 200_000  # images that one script moves, at most
DEPTH = 1_000_000  # the last place in a list that a request can reach
BODY_SECONDS = 60  # within which the whole body of a request must arrive
PIECE_SECONDS = 10  # within which the next piece of it must arrive


T = TypeVar("T")


class Choice(NamedTuple):
    """Images that the user has chosen."""

    keys: list[str]
    stamp: str  # of the gallery in which they were chosen


class Refusal(HTTPException):
    """The request cannot be answered. Its `detail`, a sentence, goes to the browser."""


def whole(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return the whole number `name` of a query string. Raises Refusal unless it is from `least` to `most`."""
    given = query.get(name, "")
    if not given:
        return default
    # int() also takes 1_000 and the digits of other scripts, and fails on thousands of digits.
    if not re.fullmatch(r"[0-9]{1,12}", given) or not least <= int(given) <= most:
        raise Refusal(400, f"`{name}` has to be a whole number from {least:,} to {most:,}.")
    return int(given)


def share(query: Mapping[str, str], name: str, default: float) -> float:
    """Return the number `name` of a query string, to 2 digits. Raises Refusal unless it is from 0 to 1."""
    given = query.get(name, "")
    if not given:
        return default
    if not re.fullmatch(r"[0-9]{0,3}(\.[0-9]{0,20})?", given) or given == "." or float(given) > 1:
        raise Refusal(400, f"`{name}` has to be a number from 0 to 1.")
    return round(float(given), 2)


def one_word(query: Mapping[str, str], name: str, words: Iterable[str]) -> str:
    """Return the word `name` of a query string. Raises Refusal unless it is one of `words`; the first is the default."""
    words = list(words)
    given = query.get(name, "") or words[0]
    if given not in words:
        raise Refusal(400, f"`{name}` has to be {', '.join(words[:-1])} or {words[-1]}.")
    return given


def stretch(query: Mapping[str, str], count: int) -> tuple[int, int]:
    """Return `start` and `count` of a query string. count: the default."""
    return whole(query, "start", 0, 0, DEPTH), whole(query, "count", count, 1, MOST)


def number_in(text: str, count: int, otherwise: str) -> int:
    """Return the number in an address. Raises Refusal with the text `otherwise` unless it is from 0 to `count` - 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) >= count:
        raise Refusal(404, otherwise)
    return int(text)


def one_of(views: Sequence[T], request: Request) -> T:
    """Return the view whose number is in the address."""
    return views[number_in(request.path_params["g"], len(views), "There is no such gallery.")]


def is_local(request: Request) -> bool:
    """Tell whether a browser on this machine asks. Only this machine learns where the folder lies."""
    return request.client is not None and request.client.host in ("127.0.0.1", "::1")


async def body(request: Request, limit: int) -> bytes:
    """Read the body of a request. Raises Refusal, and stops reading, if it is longer than `limit` bytes."""
    size = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 1000} kB"
    too_large = Refusal(413, f"This is larger than {size}, the most that can be sent. Make it smaller and try again.")
    declared = request.headers.get("content-length", "")
    if declared and (not re.fullmatch(r"[0-9]{1,18}", declared) or int(declared) > limit):
        raise too_large
    received = bytearray()
    try:
        pieces = request.stream()
        with anyio.fail_after(BODY_SECONDS):
            while True:
                with anyio.fail_after(PIECE_SECONDS):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                if len(received) + len(piece) > limit:
                    raise too_large
                received += piece
    except ClientDisconnect:
        raise Refusal(400, "The connection ended.") from None
    except TimeoutError:
        raise Refusal(408, "This arrived too slowly. Try again.") from None
    return bytes(received)


async def keys(request: Request, most: int, least: int = 2) -> list[str]:
    """Return the list of texts `keys` of a JSON body. Raises Refusal for anything else."""
    texts = (await _json(request, 40 * most + 1000)).get("keys")
    if not isinstance(texts, list) or not least <= len(texts) <= most or not all(isinstance(key, str) for key in texts):
        raise Refusal(400, f'Send {{"keys": [...]}} with the keys of {least} to {most:,} images.')
    return texts


async def choice(request: Request) -> Choice:
    """Return `keys`, a list of texts, and `stamp` of a JSON body. Raises Refusal for anything else."""
    sent = await _json(request, 20 * CHOSEN + 1000)
    keys, stamp = sent.get("keys"), sent.get("stamp")
    if not isinstance(keys, list) or not 1 <= len(keys) <= CHOSEN or not all(isinstance(key, str) for key in keys):
        raise Refusal(400, f'Send {{"keys": [...]}} with the keys of 1 to {CHOSEN:,} images.')
    if not isinstance(stamp, str):
        raise Refusal(400, 'Send {"stamp": "..."} of the gallery in which the images were chosen.')
    return Choice(list(dict.fromkeys(keys)), stamp)


async def mark(request: Request) -> str:
    """Return the id `mark` of a JSON body. Raises Refusal for anything else."""
    sent = (await _json(request, 1000)).get("mark")
    if not isinstance(sent, str) or not re.fullmatch("[0-9a-f]{16}", sent):
        raise Refusal(400, 'Send {"mark": "..."} with the id of a mark.')
    return sent


async def _json(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON object in a body; {} if it holds anything else."""
    try:
        sent = json.loads(await body(request, limit))
    except (ValueError, RecursionError):
        return {}
    return sent if isinstance(sent, dict) else {}
