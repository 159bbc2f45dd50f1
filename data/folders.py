"""Walks folders: which files are images, and what else lies there, with the reason why it is left out.

Names and extensions decide. No file is opened, except photos beside which a raw file or a HEIC has the same name. The result
does not depend on the order in which the disk gives the names.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data.exclusions import Rules
from data.extensions import JPEG, extension, why_not_read
from data.formats import HEIF, RAW
from data.lists import real_paths, shown
from data.pixels import taken
from utils.errors import InputError

# A sub-folder that holds one of these files belongs to a training run; its images are no part of the data set.
RUN_FILES = re.compile(r"run\.lock|metrics\.jsonl|(latest|ckp_ep.*)\.pth\.tar")

# categories of what is left out
NOT_READ = "not read"
EXCLUDED_BY = "excluded"
HIDDEN = "hidden"
RUN = "folder of a training run"
CLOSED = "folder that may not be read"
DEAD = "link that leads nowhere"
LOOP = "link to a folder above it"
SPECIAL = "pipe, socket or device"
GONE = "gone"  # it had a name a moment ago, or has one in a list
COMPANION = "the same photo as a JPEG"
OTHER_NAME = "another name of the same file or folder"

_OTHERS = frozenset((*RAW, *HEIF))


class ImageFile(NamedTuple):
    """An image file at the time of the walk."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    real: str  # its path behind all links
    names: int  # how many names the file has: hard links
    is_linked: bool  # a link leads to it, from below the root


class LeftOut(NamedTuple):
    """A file or folder that is left out."""

    path: str
    category: str
    why: str


class Contents(NamedTuple):
    """The images and all other files of some folders, in order of the paths."""

    images: list[ImageFile]
    left_out: list[LeftOut]


def contents_of(roots: Sequence[str], rules: Rules = Rules(), named: Iterable[str] = ()) -> Contents:
    """Walk folders, and look up the images `named`; all are given by absolute paths.

    Hidden files and folders are left out, and so are folders of training runs; but not the roots. Links are followed. Each
    real folder is read once, and each file gives one image: a real name comes before a link, then the first name. Of the
    images `named`, only the user's globs exclude any.
    Raises InputError for a root that cannot be read, and for any other folder that cannot be read for another reason than
    its permissions: else a failing disk would just make the set of images smaller.
    """
    walk = _Walk(roots, rules)
    for path in real_paths(named):
        glob = rules.excluded_by_glob(os.path.basename(path), path)
        walk.add(LeftOut(path, EXCLUDED_BY, glob) if glob else _image(path, path, False))
    return _each_once(_without_companions(Contents(walk.images, walk.left_out)))


class _Walk:
    """Reads the roots, then the folders that links lead to."""

    def __init__(self, roots: Sequence[str], rules: Rules) -> None:
        self.rules = rules
        self.images: list[ImageFile] = []
        self.left_out: list[LeftOut] = []
        self.folders: dict[tuple[int, int], str] = {}  # (device, inode) -> path, of each folder that was read
        self.links: list[tuple[str, str, str]] = []  # (real path, path, root), of links to folders
        self.roots = {os.path.realpath(root): root for root in reversed(roots)}  # by their real paths
        for real, root in sorted(self.roots.items()):
            self._read_below(root, real, root)
        while self.links:  # outer folders first, so that an inner one keeps its real name in them
            links, self.links = sorted(self.links), []
            for real, path, root in links:
                self._follow(path, real, root)

    def add(self, entry: ImageFile | LeftOut) -> None:
        (self.images if isinstance(entry, ImageFile) else self.left_out).append(entry)  # type: ignore[arg-type]

    def leave(self, path: str, category: str, why: str) -> None:
        self.left_out.append(LeftOut(path, category, why))

    def _follow(self, path: str, real: str, root: str) -> None:
        """Read the folder that a link leads to."""
        # From a folder above, the walk would come to folders that nobody named.
        below_it = os.path.join(real, "")
        inside = os.path.join(os.path.realpath(os.path.dirname(path)), "")
        is_above_a_root = real not in self.roots and any(folder.startswith(below_it) for folder in self.roots)
        if is_above_a_root or inside.startswith(below_it):
            self.leave(path, LOOP, f"leads to {real}")
        else:
            self._read_below(path, real, root, is_linked=True)

    def _read_below(self, top: str, real_top: str, root: str, is_linked: bool = False) -> None:
        """Read a folder and the folders below it, but no links to folders, and no other root."""
        waiting = [(top, real_top)]
        while waiting:
            here, real = waiting.pop()
            try:
                if self._is_read(here):
                    continue
                with os.scandir(here) as scanned:  # tells files from folders without a system call for each
                    entries = sorted((entry.name, entry.path, _type_of(entry)) for entry in scanned)
            except OSError as error:
                if here == root or not isinstance(error, PermissionError):
                    raise InputError(f"{shown(here)}: cannot read this folder ({error.strerror})") from None
                self.leave(here, CLOSED, str(error.strerror))
                continue
            of_run = next((name for name, _, sort in entries if sort != "folder" and RUN_FILES.fullmatch(name)), None)
            if of_run and here != root:
                self.leave(here, RUN, f"holds {of_run}")
                continue
            for name, path, sort in reversed(entries):  # the last to wait is the first to be read
                real_path = path if here == real else os.path.join(real, name)
                if sort == "folder" and real_path in self.roots:
                    continue
                rule = self.rules.excluded_by(name, path, root)
                if rule:
                    self.leave(path, EXCLUDED_BY, rule)
                elif name[0] == ".":
                    self.leave(path, HIDDEN, "its name begins with a dot")
                elif sort == "folder":
                    waiting.append((path, real_path))
                elif sort == "file":
                    self._add_file(name, path, real_path, is_linked)
                else:
                    self._look_behind(path, root)

    def _is_read(self, folder: str) -> bool:
        """Return True if a folder has been read, by this name or another one. Otherwise note that it is read now."""
        status = os.stat(folder)
        # A file system that has no numbers gives 0 to all.
        first = self.folders.setdefault((status.st_dev, status.st_ino), folder) if status.st_ino else folder
        if first != folder:
            self.leave(folder, OTHER_NAME, f"of {first}")
        return first != folder

    def _look_behind(self, path: str, root: str) -> None:
        """Note what a link leads to, or what a name is that is no file, folder or link."""
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            self.leave(path, DEAD, str(error.strerror))
            return
        if stat.S_ISDIR(mode):
            self.links.append((os.path.realpath(path), path, root))
        elif stat.S_ISREG(mode):
            self._add_file(os.path.basename(path), path, os.path.realpath(path), True)
        else:
            sorts = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            self.leave(path, SPECIAL, sorts.get(stat.S_IFMT(mode), "a device"))

    def _add_file(self, name: str, path: str, real: str, is_linked: bool) -> None:
        reason = why_not_read(name)
        self.add(LeftOut(path, NOT_READ, reason) if reason else _image(path, real, is_linked))


def _type_of(entry: os.DirEntry) -> str:
    """Return folder, file, or other: a link, a pipe, ..."""
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _image(path: str, real: str, is_linked: bool) -> ImageFile | LeftOut:
    """Look up an image file, which may be gone by now."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe might never end
            raise OSError(0, "not a file")
    except OSError as error:
        return LeftOut(path, GONE, str(error.strerror))
    # A wrong clock can give a year after 2262, whose nanoseconds do not fit in the 64 bits of a gallery's table.
    times = min(status.st_mtime_ns, 2**63 - 1), min(status.st_ctime_ns, 2**63 - 1)
    return ImageFile(path, status.st_size, *times, status.st_ino, status.st_dev, real, status.st_nlink, is_linked)


# ---- one photo, one image --------------------------------------------------------------------------------------------


def _without_companions(contents: Contents) -> Contents:
    """Leave out raw files and HEICs that a JPEG stands for.

    A JPEG stands for a raw file or HEIC in its folder if the names differ in the extension alone, and both were taken at the
    same second. Without a date in either, both stay. Raw files count too if the package that reads them is missing.
    """
    images, left_out = contents
    unread = [entry.path for entry in left_out if entry.category == NOT_READ]
    others = [path for path in (*(image.path for image in images), *unread) if extension(path) in _OTHERS]
    stems = set(map(_stem, others))
    jpegs: dict[tuple[str, str], list[str]] = {}
    for image in images if stems else ():
        if extension(image.path) in JPEG and _stem(image.path) in stems:
            jpegs.setdefault(_stem(image.path), []).append(image.path)
    stands_for = {path: jpeg for path in others if (jpeg := _same_photo(path, jpegs.get(_stem(path), [])))}
    companions = [LeftOut(path, COMPANION, f"as {jpeg}") for path, jpeg in stands_for.items()]
    return Contents(
        [image for image in images if image.path not in stands_for],
        [*(entry for entry in left_out if entry.path not in stands_for), *companions],
    )


def _same_photo(path: str, jpegs: Sequence[str]) -> str | None:
    """Return the first of these JPEGs that was taken when another file was, or None."""
    date = taken(path) if jpegs else None
    return next((jpeg for jpeg in sorted(jpegs) if date and taken(jpeg) == date), None)


def _stem(path: str) -> tuple[str, str]:
    """Return the folder of a file, and its name without the extension in lower case."""
    folder, name = os.path.split(path)
    return folder, os.path.splitext(name)[0].lower()


def _each_once(contents: Contents) -> Contents:
    """Keep one name of each file, and sort by path."""
    first: dict[str | tuple[int, int], str] = {}  # real path, or (device, inode) of a file with several names -> its image
    images, left_out = [], set(contents.left_out)
    for image in sorted(contents.images, key=lambda image: (image.is_linked, image.path)):
        # A file system without numbers gives 0 to all.
        number = (image.device, image.inode) if image.names > 1 and image.inode else image.real
        kept = first.get(image.real) or first.get(number)
        if kept is None:
            images.append(image)
        elif kept != image.path:
            left_out.add(LeftOut(image.path, OTHER_NAME, f"of {kept}"))
        first[image.real] = first[number] = kept or image.path
    # A list may name a file that a rule leaves out of its folder.
    return Contents(sorted(images), sorted(entry for entry in left_out if first.get(entry.path) != entry.path))
