"""Searches the images that embed.py has embedded: queries, duplicates, clusters, and a page for all of these.

python search.py index DIR                         # DIR: the gallery that embed.py --out made
python search.py query DIR photo.jpg -k 10         # a table; --json, or --html FILE with pictures
python search.py duplicates DIR --turned           # identical files, copies, look-alikes
python search.py clusters DIR --out results/sheets # contact sheets
python search.py serve DIR [DIR2]                  # the page; shows galleries of the same images side by side
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np

from data.lists import shown
from gallery import derived, index as indexes, keep, tidy
from gallery.answers import as_json, as_lines, entry
from gallery.query_graph import QueryEmbedder
from gallery.search import look_alikes, open_gallery, queries_of_files
from gallery.smoothing import neighbours_of
from gallery.store import Gallery
from utils import flags, log
from utils.errors import InputError, Interrupted, RunError, exit_on_error
from utils.lock import locked

FILES = ("images", "not_duplicate", "reference", "script", "to")  # arguments that name photos, which may have any name


def parse_args() -> argparse.Namespace:
    parser = flags.Parser(description=__doc__.split("\n")[0], any_text=FILES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> Any:
        subparser = commands.add_parser(name, help=about, description=about, any_text=FILES)
        subparser.add_argument("gallery", help="the folder that embed.py --out made")
        return subparser.add_argument

    add = command("index", "prepare the embeddings for searching: exactly, or for many images with measured recall")
    add("--exact_up_to", type=flags.natural, default=indexes.EXACT, help="up to this number of images, search is exact")

    add = command("query", "find the images most similar to one image, or to several")
    add("images", nargs="+", metavar="IMAGE", help="image files")
    add("-k", type=flags.positive_int, default=10, help="number of results")
    about = "leave out results that are more similar than fewer per cent of neighbours: images and those nearest to them"
    add("--least", type=flags.number(int, 0, most=100), default=0, metavar="PERCENT", help=about)
    add("--together", action="store_true", help="search once, with the mean of all query images")
    add("--json", action="store_true", help="print JSON")
    add("--html", default=None, metavar="FILE", help="write a page with pictures, in one file")
    add("--device", default="cpu", help="device that embeds the query: cpu, cuda, mps, auto")
    flags.add_image_memory(add)

    add = command("duplicates", "find groups of identical files, of copies, and of look-alikes")
    add("--turned", action="store_true", help="find mirrored and turned copies too")
    about = "least similarity of look-alikes (default: a quarter of the images have a neighbour above it)"
    add("--threshold", type=flags.number(float, -1, most=1), default=None, help=about)
    add("--json", action="store_true", help="print JSON")
    add("--script", default=None, metavar="FILE", help="write a script that moves all but one of each group of copies")
    rules = "; ".join(f"{name}: {rule}" for name, rule in keep.KEEP.items())
    add("--keep", choices=tuple(keep.KEEP), default="best", help=f"which one stays, with --script. {rules}")
    about = "move only images with a copy in this folder, and none of this folder, with --script"
    add("--reference", default=None, metavar="FOLDER", help=about)
    about = "folder that the script moves them into (default: beside the folder of the images)"
    add("--to", default=None, metavar="FOLDER", help=about)
    about = "remember that these images are no duplicates of each other"
    add("--not_duplicate", nargs="+", default=None, metavar="IMAGE", help=about)

    add = command("clusters", "put similar images into groups")
    add("-k", default="auto", help="number of groups; auto chooses it")
    add("--out", default=None, metavar="FOLDER", help="write a contact sheet of each group into this folder")
    add("--json", action="store_true", help="print JSON")
    add("--seed", type=flags.natural, default=0, help="seed of the start of k-means")

    add = command("serve", "serve a page on this machine, to look, search and tidy up in")
    add("more", nargs="*", metavar="GALLERY", help="more galleries of the same images, to compare")
    add("--host", default="127.0.0.1", help="address to listen at; any but loopback shows your photos to the network")
    add("--password", action="store_true", help="let in only browsers that have opened the printed address")
    add("--port", type=flags.number(int, 0, most=65535), default=8420, help="port of the page; if taken, the next free one")
    add("--allowed_host", nargs="*", default=[], metavar="NAME", help="names of this machine that browsers may use")
    add("--open", action="store_true", help="open the page in a browser")
    add("--wait", action="store_true", help="begin before embed.py has made the galleries; the page fills while it works")
    add("--device", default="cpu", help="device that embeds uploads: cpu, cuda, mps, auto")
    flags.add_image_memory(add)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    log.listen()
    if sys.stdout:  # None where it was closed before the start
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    commands = {"index": index, "query": query, "duplicates": duplicates, "clusters": clusters, "serve": serve}
    try:
        commands[args.command](args)
        if sys.stdout:
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise Interrupted("by SIGINT", 130) from None
    except BrokenPipeError:  # the reader has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- index -----------------------------------------------------------------------------------------------------------


def index(args: argparse.Namespace) -> None:
    gallery = Gallery(args.gallery)
    with locked(gallery.folder, None):
        built = indexes.build(gallery.embeddings, args.exact_up_to)
        try:
            indexes.save(built, gallery.folder, gallery.about["model"], gallery.stamp)
        except OSError as error:
            raise RunError(f"{shown(gallery.folder)}: the index cannot be written ({error.strerror})") from None
    log.say(built.description)
    neighbours_of(gallery)


# ---- query -----------------------------------------------------------------------------------------------------------


def query(args: argparse.Namespace) -> None:
    gallery, opened_index = open_gallery(args.gallery)
    embed = QueryEmbedder(gallery, args.device, round(args.image_memory * 1e9))
    queries = queries_of_files(gallery, args.images, embed)
    named = [(" + ".join(args.images), args.images, queries)] if args.together else []
    named = named or [(path, [path], [query]) for path, query in zip(args.images, queries)]
    look_alikes(gallery, opened_index, queries[:1], 0, 1)  # the first search of a process is slower
    began = time.perf_counter()
    answers = [look_alikes(gallery, opened_index, several, 0, args.k) for *_, several in named]
    milliseconds = 1000 * (time.perf_counter() - began) / len(named)
    results = [as_json(gallery, name, answer, args.least) for (name, *_), answer in zip(named, answers)]
    if args.html:
        from gallery.page.html_export import write_results

        items = [[{**item, "file": gallery.paths[item["row"]]} for item in result["found"]] for result in results]
        pictures = [paths for _, paths, _ in named]
        write_results(args.html, [{**r, "pictures": p, "found": f} for r, p, f in zip(results, pictures, items)])
        log.say(f"written: {args.html}")
    if args.json:
        print(json.dumps(results, indent=1))
    elif not args.html:
        for result in results:
            print(*as_lines(result), sep="\n")
        scale = "%: more similar than so many per cent of neighbours; beside it the similarity, of 1"
        print(f"{len(gallery):,} images searched in {milliseconds:.1f} ms a query; {scale}")
    print(end="", flush=True)  # what follows may take long
    embed.prepare_next()


# ---- duplicates ------------------------------------------------------------------------------------------------------


def duplicates(args: argparse.Namespace) -> None:
    if args.not_duplicate is not None:
        gallery = Gallery(args.gallery)
        gallery.set_apart([row_of(gallery, path) for path in args.not_duplicate])
        log.say(f"remembered: {len(args.not_duplicate)} images are not duplicates of each other")
        return
    gallery, opened_index = open_gallery(args.gallery)
    if args.script is not None:
        reference = keep.below(gallery, args.reference)
        chosen = keep.spares(gallery, opened_index, args.turned, args.keep, reference)
        if not chosen:
            log.say("nothing to move: there are no identical files and no copies")
            return
        undo, folder = tidy.write_scripts(gallery, chosen, args.script, args.to)
        log.say(f"sh {shown(args.script)} moves {len(chosen):,} files to {shown(folder)}; sh {shown(undo)} moves them back")
        return
    threshold = args.threshold
    if threshold is None:
        threshold = derived.usual_threshold(gallery, opened_index)
        log.say(f"look-alikes have a similarity of {threshold} or more")
    by_class = {name: derived.duplicates(gallery, opened_index, name, threshold, args.turned) for name in derived.KINDS}
    groups = {name: list(zip(d.similarities.tolist(), map(np.ndarray.tolist, d.rows))) for name, d in by_class.items()}
    if args.json:
        as_json = {
            name: [{"similarity": round(s, 4), "images": [entry(gallery, row) for row in rows]} for s, rows in each]
            for name, each in groups.items()
        }
        print(json.dumps(as_json, indent=1))
        return
    for name, title in TITLES.items():
        images, count = sum(len(rows) for _, rows in groups[name]), len(groups[name])
        print(f"{title}: {images} images in {count} group{'' if count == 1 else 's'}")
        for similarity, rows in groups[name]:
            print(f"  {similarity:6.3f}  " + "  ".join(shown(gallery.shown(row)) for row in rows))


TITLES = {"identical": "the same bytes", "near": "copies (resized, recompressed, cropped)"}
TITLES |= {"burst": "bursts (one camera within seconds, or something moved)", "alike": "look-alikes"}


def row_of(gallery: Gallery, path: str) -> int:
    """Return the row of an image. path: as the user names it, from the working folder or below a folder of the images."""
    for whole in (os.path.abspath(path), *(os.path.join(root, path) for root in gallery.roots)):
        if (row := gallery.row_of_path.get(whole)) is not None:
            return row
    raise InputError(f"{shown(path)}: not an image of {shown(gallery.folder)}")


# ---- clusters --------------------------------------------------------------------------------------------------------


def clusters(args: argparse.Namespace) -> None:
    gallery = Gallery(args.gallery)
    if args.k != "auto" and not (args.k.isdecimal() and 1 <= int(args.k) <= len(gallery)):
        raise InputError(f"-k {args.k}: give auto, or 1 to {len(gallery)} for {len(gallery)} images", setting=None)
    named = derived.named_groups(gallery, None if args.k == "auto" else int(args.k), args.seed)
    groups = [rows for _, rows in named]
    if args.out:
        from gallery.sheets import write_sheets

        files = write_sheets(args.out, gallery.paths, groups, gallery.roots)
        log.say(f"{len(files)} contact sheets written into {shown(args.out)}")
    if args.json:
        print(json.dumps([[gallery.shown(row) for row in rows.tolist()] for rows in groups], indent=1))
    elif not args.out:
        for name, rows in named:
            print(f"{len(rows):6}  {shown(name):30}  {shown(gallery.shown(int(rows[0])))}")


# ---- serve -----------------------------------------------------------------------------------------------------------


def serve(args: argparse.Namespace) -> None:
    from gallery.page.start import start

    start(
        [args.gallery, *args.more],
        (args.host, args.port),
        args.allowed_host,
        device=args.device,
        memory=round(args.image_memory * 1e9),
        with_password=args.password,
        in_browser=args.open,
        wait=args.wait,
    )


if __name__ == "__main__":
    exit_on_error(main)
