"""Excludes files and folders by their names: those of other programs beside the photos, and those that the user gives."""

import fnmatch
import re
from collections.abc import Sequence

from data.lists import below

# Other programs keep thumbnails, deleted files and copies of the file system under these names.
EXCLUDED = tuple("@eaDir #recycle #snapshot $RECYCLE.BIN .Trash* .thumbnails lost+found ._* Thumbs.db".split())
EXCLUDED += ("System Volume Information",)


class Rules:
    """The names that exclude a file or folder."""

    def __init__(self, globs: Sequence[str] = (), include_excluded: bool = False) -> None:
        """globs: the user's, each compared with a name and with a path below the root.

        include_excluded: drop the rules EXCLUDED, which are compared with names in upper or lower case.
        """
        self.globs = [glob.rstrip("/") or glob for glob in globs]
        self.defaults = () if include_excluded else EXCLUDED
        # One pattern for all: each name is compared with it.
        self._defaults = re.compile("|".join(map(fnmatch.translate, self.defaults)) or "(?!)", re.IGNORECASE)

    def excluded_by(self, name: str, path: str, root: str) -> str | None:
        """Return the rule that excludes a file or folder below a root, or None."""
        if self._defaults.fullmatch(name):
            return next(rule for rule in self.defaults if fnmatch.fnmatchcase(name.lower(), rule.lower()))
        return self.excluded_by_glob(name, below(path, root)) if self.globs else None

    def excluded_by_glob(self, *names: str) -> str | None:
        """Return the glob of the user that fits one of these names, or None."""
        return next((glob for glob in self.globs if any(fnmatch.fnmatchcase(name, glob) for name in names)), None)
