"""Duplicates on the page: the groups, which image of each should stay, and scripts that move chosen images away.

The page itself changes nothing in the folder of photos. It hands out a script, which the user reads and runs.
"""

import base64
import io
import os
import time
import zipfile
from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from gallery import derived, keep, not_duplicates, tidy
from gallery.derived import Duplicates
from gallery.page import request_params as params
from gallery.page.arrange import Arranged, folders_of, wish_of
from gallery.page.background import Workshop
from gallery.page.gallery_view import GalleryView, text
from gallery.page.guard import Json
from gallery.page.request_params import Refusal
from gallery.page.shelf import Shelf

KINDS = {
    "copies": "copies",
    "identical": "the same files",
    "near": "resized copies",
    "burst": "bursts",
    "alike": "look-alikes",
}
AWAY = "Only a browser on the machine with the photos gets this, because it says where they lie."
RENEWED = "The folder was embedded again since you chose these. Look at what is selected, then try again."


class Tidying:
    """Answers requests about duplicates."""

    def __init__(self, shelf: Shelf, workshop: Workshop) -> None:
        self.shelf, self.workshop = shelf, workshop

    async def duplicates(self, request: Request) -> Response:
        g, query = params.one_of(self.shelf.views, request), request.query_params
        start, count = params.stretch(query, 20)
        wish = wish_of(query)
        arranged = await run_in_threadpool(Arranged, g, await self._groups(g, query), wish)
        groups = await run_in_threadpool(described, arranged, start, count)
        total, images = len(arranged.groups), sum(len(rows) for rows, _ in arranged.groups)
        rules = keep.KEEP_BESIDE if wish.reference else keep.KEEP
        marks = len(await run_in_threadpool(self.shelf.marks, g))
        about = {"stamp": g.stamp, "rule": rules[wish.keep], "folders": folders_of([*arranged.paths.values()])}
        return Json({"total": total, "images": images, "groups": groups, "marks": marks, **about})

    async def spares(self, request: Request) -> Response:
        """List all but the best of each group, and the best ones."""
        g, query = params.one_of(self.shelf.views, request), request.query_params
        wish = wish_of(query)
        arranged = await run_in_threadpool(Arranged, g, await self._groups(g, query), wish)
        return Json({"stamp": g.stamp} | await run_in_threadpool(all_but_the_best, arranged))

    async def present(self, request: Request) -> Response:
        """Tell which of the chosen images are still there. "lost": which are neither there nor where a script puts them."""
        g, choice = params.one_of(self.shelf.views, request), await params.choice(request)
        there = [g.gallery.keys[row] for row in g.rows(choice.keys)]
        lost = await run_in_threadpool(lost_among, g, choice.keys) if params.is_local(request) else []
        return Json({"keys": there, "lost": lost, "stamp": g.stamp})

    async def weigh(self, request: Request) -> Response:
        """Tell which of the chosen images leave no copy behind: "alone". "unlisted": which are in no group of the query."""
        g, query = params.one_of(self.shelf.views, request), request.query_params
        choice, wish = await params.choice(request), wish_of(query)
        copies = await self._groups(g, {"kind": "copies", "turned": query.get("copies_turned", "")})
        listed = await self._groups(g, query)
        return await run_in_threadpool(lambda: weighed(Arranged(g, listed, wish), copies, g.rows(choice.keys)))

    async def items(self, request: Request) -> Response:
        """Describe images that are still there, by their keys: a few that the map names, or many that are selected."""
        g = params.one_of(self.shelf.views, request)
        keys = await params.keys(request, params.CHOSEN, least=1)
        return await run_in_threadpool(lambda: Json({"items": g.chosen(g.rows(keys)), "stamp": g.stamp}))

    async def as_list(self, request: Request) -> Response:
        """Make a text file with a path a line, as the names are in bytes. A name with a line break is left out."""
        g, rows = await self._chosen(request)
        paths = [g.gallery.paths[row] for row in rows]
        lines = [path for path in paths if not any(end in path for end in "\n\r")]
        name = f"selected-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        return _file(name, os.fsencode("".join(f"{path}\n" for path in lines)), left=len(paths) - len(lines))

    async def script(self, request: Request) -> Response:
        """Make the scripts of `gallery.tidy` in one archive, so that nobody has the first without the second."""
        g, rows = await self._chosen(request)
        query = request.query_params
        copies = await self._groups(g, {"kind": "copies", "turned": query.get("turned", "")})
        arranged = await run_in_threadpool(Arranged, g, copies, wish_of(query), True)
        return await run_in_threadpool(scripts, arranged, rows)

    async def _groups(self, g: GalleryView, query: Any) -> Duplicates:
        """Return the groups of the class `kind`, without images that are gone or marked as "not duplicates"."""
        kind = params.one_word({"kind": "identical", **query}, "kind", KINDS)
        threshold = params.share(query, "threshold", g.alike) if kind == "alike" else 0
        turned = bool(params.whole(query, "turned", 0, 0, 1)) and kind in ("near", "copies")
        make = lambda: derived.found_duplicates(g.gallery, g.index, kind, threshold, turned, self.workshop.tell)
        name = g, "duplicates", kind, threshold, turned, self.shelf.unmarked
        result = await self.workshop.result(name, f"looking for {KINDS[kind]} among {g.count:,} images", make)
        apart = await run_in_threadpool(lambda: not_duplicates.apart(self.shelf.marks(g)))
        return await run_in_threadpool(derived.split, result, apart, g.gone)

    async def _chosen(self, request: Request) -> tuple[GalleryView, list[int]]:
        """Return the rows of the images in a body, which go to files with whole paths."""
        g = params.one_of(self.shelf.views, request)
        if not params.is_local(request):
            raise Refusal(403, AWAY)
        choice = await params.choice(request)
        if choice.stamp != g.stamp:
            raise Refusal(409, RENEWED)
        rows = sorted(g.row(key) for key in choice.keys)
        return g, [row for row in rows if not g.gone[row]]


def described(arranged: Arranged, start: int, count: int) -> list[dict[str, Any]]:
    """Describe some of the groups, and of a large one only a part."""
    g, some = arranged.g, arranged.groups[start : start + count]
    by_row, by_rank = arranged.ranked([row for rows, _ in some for row in rows])
    groups = []
    for rows, similarity in some:
        ranked = sorted(rows, key=by_rank.__getitem__)
        group = g.group(ranked, similarity, {row: by_row[row] for row in ranked[: params.SHOWN]}, arranged.reference)
        groups.append(group | g.sameness(rows))
    return groups


def all_but_the_best(arranged: Arranged) -> dict[str, Any]:
    g, lists = arranged.g, [rows for rows, _ in arranged.groups]
    everything = [row for rows in lists for row in rows]
    spares = keep.all_but_the_best(lists, arranged.ranked(everything)[1], arranged.reference)
    going = {row for row, _ in spares}
    return {
        "items": [g.to_select(row) for row, _ in spares],
        "kept": [g.gallery.keys[row] for row in sorted(set(everything) - going)],
    }


def weighed(arranged: Arranged, copies: Duplicates, rows: Sequence[int]) -> Response:
    keys = arranged.g.gallery.keys
    alone = keep.alone_among(rows, [group.tolist() for group in copies.rows])
    listed = {row for group, _ in arranged.groups for row in group}
    return Json({"alone": [keys[row] for row in alone], "unlisted": [keys[row] for row in rows if row not in listed]})


def lost_among(g: GalleryView, keys: Sequence[str]) -> list[str]:
    """Return the keys of images that are gone, and that no script has moved away."""
    rows = [row for row in map(g.gallery.row_of, keys) if row is not None and g.gone[row]]
    moved = tidy.moved(g.gallery, rows)
    return [g.gallery.keys[row] for row in rows if row not in moved and not os.path.lexists(g.gallery.paths[row])]


def scripts(arranged: Arranged, rows: Sequence[int]) -> Response:
    g, chosen = arranged.g, set(rows)
    lists = [group for group, _ in arranged.groups if not chosen.isdisjoint(group)]
    by_rank = arranged.ranked([*chosen.union(*lists)])[1]
    spares = keep.spares_among(rows, lists, by_rank)
    made = tidy.scripts(g.gallery, spares, "tidy-undo.sh")
    folder, archive = f"tidy-{time.strftime('%Y%m%d-%H%M%S')}", io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, script in (("tidy.sh", made.move), ("tidy-undo.sh", made.back)):
            entry = zipfile.ZipInfo(f"{folder}/{name}", time.localtime()[:6])
            entry.external_attr, entry.compress_type = 0o100755 << 16, zipfile.ZIP_DEFLATED
            zipped.writestr(entry, script)
    alone = [g.gallery.keys[spare.row] for spare in spares if spare.kept is None]
    facts = {"folder": folder, "to": text(made.folder), "files": len(spares), "alone": alone}
    return _file(f"{folder}.zip", archive.getvalue(), **facts)


def _file(name: str, content: bytes, **facts: Any) -> Response:
    return Json({"name": name, "content": base64.b64encode(content).decode(), **facts})
