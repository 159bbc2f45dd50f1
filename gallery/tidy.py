"""Tidies up duplicates: chooses the image of each group that stays, and writes a script that moves the others away.

The project itself never touches photos. The script is POSIX sh; it asks first, deletes nothing, overwrites nothing and does
not leave the disk. A second script moves the files back.
"""

import os
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data.lists import below, shown
from gallery import derived
from gallery.index import Index
from gallery.store import Gallery
from utils.errors import InputError, RunError

KEEP = {
    "best": "the most pixels, then the most bytes, then the oldest; cut-off files last",
    "oldest": "the oldest, then the most pixels, then the most bytes; cut-off files last",
}

HEAD = rb"""#!/bin/sh
# Written by search.py duplicates. Read it before you run it: sh FILE
LC_ALL=C
export LC_ALL
from=%(source)s
to=%(target)s
moved=0
left=0

say() { # a name may hold anything, so control characters are not printed
    printf '%%s' "$*" | tr -d '\000-\037\177'
    printf '\n'
}
device() { # GNU and BusyBox, else BSD and macOS
    stat -L -c %%d -- "$1" 2>/dev/null || stat -L -f %%d -- "$1"
}
has() { # is this a plain file of that many bytes?
    [ -f "$1" ] && [ ! -L "$1" ] && [ "$(($(wc -c <"$1")))" -eq "$2" ]
}
leave() {
    left=$((left + 1))
    say "stays: $1 ($2)"
}
move() { # path below both folders, its bytes, and the file that stays with its bytes
    if ! has "$from/$1" "$2"; then
        leave "$1" "it is gone or has changed"
    elif [ $# -gt 2 ] && ! has "$3" "$4"; then
        leave "$1" "the one to keep is gone or has changed"
    elif [ -e "$to/$1" ] || [ -L "$to/$1" ]; then
        leave "$1" "the other place is taken"
    else
        folder=$to/$1
        folder=${folder%%/*}
        if ! mkdir -p -- "$folder"; then
            leave "$1" "no folder can be made for it"
        elif [ "$(device "$from/$1")" != "$(device "$folder")" ]; then
            leave "$1" "it would have to be copied to another disk"
        elif mv -n -- "$from/$1" "$to/$1" && [ ! -e "$from/$1" ]; then
            moved=$((moved + 1))
        else
            leave "$1" "it cannot be moved"
        fi
    fi
}

say "from $from"
say "to   $to"
"""
ASK = rb"""printf 'Move them? [y/N] '
read -r answer || answer=
case $answer in y | Y | yes) ;; *)
    say "Nothing was moved."
    exit 1
    ;;
esac
"""
TAIL = b'say "$moved moved, $left left where they are."\n[ "$left" -eq 0 ]\n'


class Spare(NamedTuple):
    """A duplicate that may go, and the image of its group that stays."""

    row: int
    kept: int


def spares(gallery: Gallery, index: Index, turned: bool, keep: str) -> list[Spare]:
    """Choose the image that stays of each group of identical files and copies. Look-alikes are different pictures: all stay.

    keep: a name of KEEP. Files that are gone, or changed their size since the gallery was made, take no part.
    """
    group_of: dict[int, list[int]] = {}  # row -> the rows of its group; a group of copies takes in the identical files
    for kind in ("identical", "near"):
        for rows in derived.duplicates(gallery, index, kind, 0, turned).rows:
            group = list(dict.fromkeys(row for each in rows.tolist() for row in group_of.get(each, [each])))
            group_of |= dict.fromkeys(group, group)
    chosen = []
    for group in {id(group): group for group in group_of.values()}.values():
        present = sorted((row for row in group if _is_as_before(gallery, row)), key=lambda row: _rank(gallery, row, keep))
        chosen += [Spare(row, present[0]) for row in present[1:]]
    return sorted(chosen)


def write_scripts(gallery: Gallery, chosen: Sequence[Spare], script: str, to: str | None = None) -> tuple[str, str]:
    """Write a script that moves the spare files into the folder `to`, and one that moves them back.

    to: by default beside the folder of the images. Returns the path of the second script and the folder. Raises InputError
    if a script is there already, for a folder among the images, and for one on another disk.
    """
    name, ending = os.path.splitext(script)
    undo = f"{name}-undo{ending}"
    for file in (script, undo):
        if os.path.lexists(file):
            raise InputError(f"{shown(file)}: is there already, perhaps to move files back; give another name", "script")
    root = gallery.root or os.path.commonpath([os.path.dirname(path) for path in gallery.paths])
    if not to and os.path.dirname(root) == root:
        raise InputError("the images have no folder beside which there is room; give one with --to")
    target = os.path.abspath(to) if to else f"{root.rstrip(os.sep)}-duplicates"
    if os.path.join(os.path.realpath(target), "").startswith(os.path.join(os.path.realpath(root), "")):
        raise InputError(f"{shown(target)}: lies among the images, and would be read as well; give another folder", "to")
    if os.stat(_existing(target)).st_dev != os.stat(root).st_dev:
        raise InputError(f"{shown(target)}: lies on another disk than the images; give a folder on theirs", "to")
    files, size = gallery.files, sum(gallery.files[spare.row].size for spare in chosen)
    lines = [(below(files[s.row].path, root), files[s.row].size, files[s.kept].path, files[s.kept].size) for s in chosen]
    facts = f"{len(chosen):,} files, {size / 1e6:,.1f} MB"
    what = f"{facts}. One of each group of copies stays. Nothing is deleted; {os.path.basename(undo)} moves them back."
    _write(script, root, target, what, lines)
    _write(undo, target, root, f"{facts}, back to where they were.", [line[:2] for line in lines])
    return undo, target


def _is_as_before(gallery: Gallery, row: int) -> bool:
    file = gallery.files[row]
    try:
        return os.lstat(file.path).st_size == file.size and not os.path.islink(file.path)
    except OSError:
        return False


def _rank(gallery: Gallery, row: int, keep: str) -> tuple:
    """Return what sorts the image that stays to the front."""
    content, file = gallery.content(row), gallery.files[row]
    pixels = content.facts.width * content.facts.height if content else 0
    cut = content is not None and "incomplete" in content.notes
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(file.mtime_ns / 1e9))
    age, size = (content and content.facts.taken) or written, (-pixels, -file.size)
    return (cut, *((age, *size) if keep == "oldest" else (*size, age)), written, file.path)


def _existing(folder: str) -> str:
    """Return the folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _write(file: str, source: str, target: str, what: str, lines: Iterable[Sequence]) -> None:
    head = HEAD % {b"source": _quoted(source), b"target": _quoted(target)}
    moves = b"".join(b"move " + b" ".join(map(_quoted, line)) + b"\n" for line in lines)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777), "wb") as script:
            script.write(head + b"say " + _quoted(what) + b"\n" + ASK + moves + TAIL)
    except OSError as error:
        raise RunError(f"{shown(file)}: cannot be written ({error.strerror})") from None


def _quoted(text: str | int) -> bytes:
    """Return a text as one word of a shell, whatever it holds: between apostrophes all characters stand for themselves."""
    return b"'" + os.fsencode(str(text)).replace(b"'", rb"'\''") + b"'"
