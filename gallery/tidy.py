"""Tidies up duplicates: makes a script that moves chosen images away, and one that moves them back.

The project itself never touches photos. The script is POSIX sh; it asks first, deletes nothing, overwrites nothing and does
not leave the disk. A second script moves the files back, and removes folders that are empty then.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from data.lists import below, shown
from gallery.keep import Spare
from gallery.store import Gallery
from utils.errors import InputError, RunError

HEAD = rb"""#!/bin/sh
# Written by search.py. Read it before you run it: sh FILE
LC_ALL=C
export LC_ALL
from=%(source)s
to=%(target)s
what=%(what)s
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
is_there() { # path below both folders, its bytes: was it moved before?
    has "$to/$1" "$2" && [ ! -e "$from/$1" ] && [ ! -L "$from/$1" ]
}
leave() {
    left=$((left + 1))
    say "stays: $1 ($2)"
}
move() { # path below both folders, its bytes, and the file that stays with its bytes
    if is_there "$1" "$2"; then
        return
    elif ! has "$from/$1" "$2"; then
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
            [ $((moved %% 100)) -gt 0 ] || say "$moved moved so far"
        else
            leave "$1" "it cannot be moved"
        fi
    fi
}
see() { # counts what is there already
    is_there "$1" "$2" && there=$((there + 1))
}
prune() { # removes the folder of a file, and those above it, if nothing is in them any more
    folder=$from/$1
    while
        folder=${folder%%/*}
        [ "${#folder}" -ge "${#from}" ] && rmdir -- "$folder" 2>/dev/null
    do :; done
}

"""
ASK = rb"""
there=0
act=see
files
say "from $from"
say "to   $to"
say "$what"
if [ "$there" -eq %(count)d ]; then
    say %(done)s
    exit 0
fi
rest=
if [ "$there" -gt 0 ]; then
    rest=", $there were there already"
    say "$there of them are there already."
fi
printf 'Move %(them)s? [y/N] '
read -r answer || answer=
case $answer in y | Y | yes) ;; *)
    say "Nothing was moved."
    exit 1
    ;;
esac
say "Moving ..."
act=move
files
"""
PRUNE = b"act=prune\nfiles\n"
TAIL = b'say "$moved moved$rest, $left left where they are."\n[ "$left" -eq 0 ]\n'


class Scripts(NamedTuple):
    """Two scripts, and the folder that the first one moves files into."""

    move: bytes
    back: bytes
    folder: str


def scripts(gallery: Gallery, chosen: Sequence[Spare], undo: str, to: str | None = None) -> Scripts:
    """Make a script that moves the spare files into the folder `to`, and one, called `undo`, that moves them back.

    to: by default beside the folder of the images. Raises InputError for a folder among the images, and for one on another
    disk.
    """
    root = _root(gallery)
    if not to and os.path.dirname(root) == root:
        raise InputError("the images have no folder beside which there is room; give one with --to")
    if not os.path.isdir(root):
        raise InputError(f"{shown(root)}: the folder of the images is away; connect its disk")
    target = os.path.abspath(to) if to else _beside(root)
    if os.path.join(os.path.realpath(target), "").startswith(os.path.join(os.path.realpath(root), "")):
        raise InputError(f"{shown(target)}: lies among the images, and would be read as well; give another folder", "to")
    if os.stat(_existing(target)).st_dev != os.stat(root).st_dev:
        raise InputError(f"{shown(target)}: lies on another disk than the images; give a folder on theirs", "to")
    files, lines = gallery.files, list[Sequence[str | int]]()
    for row, kept in chosen:
        guard = () if kept is None else (files[kept].path, files[kept].size)
        lines.append((below(files[row].path, root), files[row].size, *guard))
    size = sum(files[spare.row].size for spare in chosen)
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
    facts, them = (f"{len(chosen):,} files, {amount}", "them") if len(chosen) != 1 else (f"1 file, {amount}", "it")
    what = f"{facts}. {_stays(chosen)}. Nothing is deleted; {undo} moves {them} back."
    done = f"All {len(chosen):,} are" if len(chosen) != 1 else "It is"
    back = f"{facts}, back to where {'they were' if len(chosen) != 1 else 'it was'}. You can also move single files by hand."
    undo_script = _script(target, root, back, f"{done} already back.", [line[:2] for line in lines], PRUNE)
    return Scripts(_script(root, target, what, f"{done} moved already.", lines), undo_script, target)


def write_scripts(gallery: Gallery, chosen: Sequence[Spare], script: str, to: str | None = None) -> tuple[str, str]:
    """Write the two `scripts`. Returns the path of the second one, and the folder.

    Raises InputError as `scripts` does, and if a file is there already.
    """
    name, ending = os.path.splitext(script)
    undo = f"{name}-undo{ending}"
    for file in (script, undo):
        if os.path.lexists(file):
            raise InputError(f"{shown(file)}: is there already, perhaps to move files back; give another name", "script")
    made = scripts(gallery, chosen, os.path.basename(undo), to)
    for file, content in ((script, made.move), (undo, made.back)):
        try:
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777), "wb") as opened:
                opened.write(content)
        except OSError as error:
            raise RunError(f"{shown(file)}: cannot be written ({error.strerror})") from None
    return undo, made.folder


def moved(gallery: Gallery, rows: Sequence[int]) -> set[int]:
    """Return the rows whose files lie where the scripts move them, unless another folder was given."""
    root = _root(gallery)
    target = _beside(root)
    return {row for row in rows if os.path.lexists(os.path.join(target, below(gallery.paths[row], root)))}


def _stays(chosen: Sequence[Spare]) -> str:
    alone = sum(spare.kept is None for spare in chosen)
    if not alone:
        return "One of each group of copies stays"
    if len(chosen) == 1:
        return "It has no copy that stays"
    return f"{alone:,} of them {'has' if alone == 1 else 'have'} no copy that stays"


def _root(gallery: Gallery) -> str:
    return gallery.root or os.path.commonpath([os.path.dirname(path) for path in gallery.paths])


def _beside(root: str) -> str:
    return f"{root.rstrip(os.sep)}-duplicates"


def _existing(folder: str) -> str:
    """Return the folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _script(
    source: str, target: str, what: str, done: str, lines: Sequence[Sequence[str | int]], last: bytes = b""
) -> bytes:
    head = HEAD % {b"source": _quoted(source), b"target": _quoted(target), b"what": _quoted(what)}
    files = b"".join(b"    $act " + b" ".join(map(_quoted, line)) + b"\n" for line in lines)
    ask = ASK % {b"count": len(lines), b"done": _quoted(done), b"them": b"it" if len(lines) == 1 else b"them"}
    return head + b"files() {\n" + (files or b"    :\n") + b"}\n" + ask + last + TAIL


def _quoted(text: str | int) -> bytes:
    """Return a text as one word of a shell, whatever it holds: between apostrophes all characters stand for themselves."""
    return b"'" + os.fsencode(str(text)).replace(b"'", rb"'\''") + b"'"
