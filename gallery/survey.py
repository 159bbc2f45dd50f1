"""Lists the image files to embed: the images of folders and lists, and single photos."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data import folders
from data.exclusions import Rules
from data.extensions import EXTENSIONS, GROUPS, INSTALL, why_not_read
from data.lists import first_few, read_names, shown
from gallery.table import Bad, Detail, File, LeftOut
from utils.errors import InputError

NAMES = 3  # names of a category that `summary` gives
ENDS = 5  # extensions of other files that it names


class Survey(NamedTuple):
    files: list[File]  # in order of their paths
    gone: list[Bad]  # missing files, most of them named by a list
    roots: list[str]  # the folders of the images, without folders inside them
    details: list[Detail]  # of the files
    left_out: list[LeftOut]

    @property
    def root(self) -> str | None:
        """The folder of the images, if it is one."""
        return self.roots[0] if len(self.roots) == 1 else None


def survey(images: Sequence[str], exclude: Sequence[str] = (), include_excluded: bool = False) -> Survey:
    """Find the image files of `images`: folders, list files, and single photos.

    exclude, include_excluded: see `data.exclusions.Rules`. Each file counts once, however many of `images` lead to it. The
    files of a list and single photos go by their real paths.
    Raises InputError if there is nothing to embed.
    """
    images = [images] if isinstance(images, str) else images
    roots = [os.path.abspath(path) for path in images if os.path.isdir(path)]
    named, others = list[str](), list[str]()
    for path in images:
        if not os.path.exists(path):
            raise InputError(f"{shown(path)}: no such folder or list", setting="images")
        if not os.path.isdir(path):
            named_here, others_here = _named_by(path)
            named += named_here
            others += others_here
    try:
        contents = folders.contents_of(roots, Rules(exclude, include_excluded), named)
    except InputError as error:
        raise InputError(str(error), setting="images") from None
    gone = [entry for entry in contents.left_out if entry.category == folders.GONE]
    left_out = {entry for entry in contents.left_out if entry.category != folders.GONE}
    left_out |= {LeftOut(path, folders.NOT_READ, str(why_not_read(path))) for path in others}
    if not contents.images and not gone:
        rows = "; ".join(f"{category} ({count}): {first_few(names)}" for category, count, names in summary(left_out))
        what = f"{first_few(images)}: no image in it ({', '.join(EXTENSIONS)})"
        raise InputError(f"{what}; left out: {rows}" if rows else what, setting="images")
    return Survey(
        [File(*image[:3]) for image in contents.images],
        [Bad(File(entry.path, 0, 0), f"{shown(entry.path)}: {entry.why}") for entry in gone],
        _outer(roots),
        [Detail(image.ctime_ns, image.inode, image.device, image.real) for image in contents.images],
        sorted(left_out),
    )


def _named_by(file: str) -> tuple[list[str], list[str]]:
    """Return the images and the other files that a file names: a list names its lines, a photo or a video itself."""
    reason, path = why_not_read(file), os.path.abspath(file)
    if reason is None:
        return [path], []
    return ([], [path]) if reason in GROUPS or INSTALL in reason else read_names(path)


def _outer(roots: Sequence[str]) -> list[str]:
    """Return the roots that do not lie in another root, each once."""
    real = {os.path.realpath(root): root for root in reversed(roots)}

    def is_outer(path: str) -> bool:
        parent = os.path.dirname(path)
        return parent == path or (parent not in real and is_outer(parent))

    outer = {root for path, root in real.items() if is_outer(path)}
    return [root for root in dict.fromkeys(roots) if root in outer]


def summary(left_out: Iterable[LeftOut]) -> list[tuple[str, int, list[str]]]:
    """Count what is left out by category: (category, number of files and folders, the first of their paths).

    What is not read is counted by its group (video, ...) or package, all other extensions together; what is excluded, by
    the rule.
    """
    rows: dict[str, list[str]] = {}
    others = Counter[str]()  # extensions that say nothing
    for entry in left_out:
        category = entry.category
        if category == folders.NOT_READ and entry.why not in GROUPS and INSTALL not in entry.why:
            others[entry.why] += 1
        elif category in (folders.NOT_READ, folders.EXCLUDED_BY):
            category = f"{category}: {entry.why}"
        rows.setdefault(category, []).append(entry.path)
    if folders.NOT_READ in rows:
        most = sorted(others, key=lambda end: (-others[end], end))
        more = ", ..." if len(most) > ENDS else ""
        rows[f"{folders.NOT_READ}: other files ({', '.join(most[:ENDS])}{more})"] = rows.pop(folders.NOT_READ)
    return [(category, len(rows[category]), sorted(rows[category])[:NAMES]) for category in sorted(rows)]
