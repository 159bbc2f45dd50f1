"""Writes the layout that training reads: images below train/ and test/, and lists of `path label` lines beside them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.prepare.archives import unsafe
from utils.errors import InputError
from utils.files import written_whole

Counts = dict[str, tuple[int, int]]  # list: (images, classes)


class Image(NamedTuple):
    source: str  # end of its path inside the archives: images/001.Albatross/a.jpg
    target: str  # its path below the data set's folder: train/001.Albatross/a.jpg
    split: str  # the list that names it: train, test, query, gallery
    category: int | str  # its class in the official files


Rows = Iterator[tuple[int, list[Any]]]  # (line number, fields); a field is a str, or None where the line is too short


def table(files: dict[str, bytes], name: str, columns: int, hint: str, path_last: bool = True) -> Rows:
    """Yield the text file `name` among the index `files` in rows of `columns` fields, without blank lines.

    Only the last field may hold spaces, or with `path_last=False` the first one.
    """
    need(files, [name], hint)
    for number, line in enumerate(files[name].decode("utf-8-sig", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split(None, columns - 1) if path_last else line.strip().rsplit(None, columns - 1)
        yield number, fields + [None] * (columns - len(fields))


def integer(text: Any, name: str, number: int) -> int:
    """Return a field as an int. InputError names the file and the line of another text."""
    try:
        return int(text)
    except (TypeError, ValueError):
        raise InputError(f"{name}:{number}: expected a whole number, found {text!r}; fetch the file again") from None


def need(files: dict[str, bytes], names: Iterable[str], hint: str) -> None:
    """Raise InputError unless `files` has all index files in `names`. hint: the flags that the error advises."""
    missing = [name for name in names if name not in files]
    if missing:
        raise InputError(f"{' and '.join(missing)} not found in the archives given; give {hint}")


def check_paths(images: Sequence[Image]) -> None:
    """Raise InputError where a path of an index file leads out of the folder or would break a line of a list."""
    targets: dict[str, str] = {}
    sources: dict[str, str] = {}
    for image in images:
        reason = unsafe(image.source) or unsafe(image.target)
        if reason or not image.target.isprintable():
            raise InputError(f"the index lists {image.source!r}: refused ({reason or 'unprintable characters'})")
        target, source = targets.setdefault(image.source, image.target), sources.setdefault(image.target, image.source)
        if (target, source) != (image.target, image.source):
            raise InputError(f"the index lists {image.source!r} for two places; fetch the official archive")


def describe(counts: Counts) -> str:
    return ", ".join(f"{split} {images:,} images of {classes:,} classes" for split, (images, classes) in counts.items())


def check_counts(name: str, images: Sequence[Image], official: Counts | None) -> Counts:
    """Count images and classes of each list. InputError without a train image, or for counts that are not `official`."""
    classes: dict[str, list] = {}
    for image in images:
        classes.setdefault(image.split, []).append(image.category)
    counts = {split: (len(members), len(set(members))) for split, members in classes.items()}
    if "train" not in counts:
        raise InputError(f"{name}: the index lists no train image; fetch the official archive")
    for split, expected in (official or {}).items():
        if (actual := counts.get(split, (0, 0))) != expected:
            what = f"found {describe({split: actual})}, the official set has {describe({split: expected})}"
            raise InputError(f"{name}: {what}; use the official archives, or --no_check for a subset")
    return counts


def write_lists(folder: Path, images: Sequence[Image], splits: Iterable[str]) -> None:
    """Write `<split>.txt` for each split. train.txt comes last: a folder with a train.txt is complete.

    Labels are 0, 1, 2, ... over the sorted train classes, then over the sorted other classes.
    """
    train = {image.category for image in images if image.split == "train"}
    others = {image.category for image in images} - train
    labels = {category: label for label, category in enumerate(sorted(train) + sorted(others))}
    for split in sorted(splits, key=lambda split: split == "train"):
        lines = [f"{image.target} {labels[image.category]}\n" for image in images if image.split == split]
        with written_whole(folder / f"{split}.txt") as file:
            file.write("".join(lines).encode())


def counts_in_place(folder: Path, splits: Iterable[str]) -> Counts | None:
    """Return the counts of the lists in `folder`, or None if a list or a listed image is missing."""
    counts = {}
    for split in splits:
        try:
            lines = (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()
            rows = [line.rsplit(None, 1) for line in lines]
            if not all((folder / path).is_file() for path, _ in rows):
                return None
        except (OSError, ValueError):  # no list, or a list that we did not write
            return None
        counts[split] = (len(rows), len({label for _, label in rows}))
    return counts
