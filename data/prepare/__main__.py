"""The command. It finds the archives, reads their index, extracts the images, checks the counts and writes the lists."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from data.prepare import archives, car, cub, download, layout, product, shop
from utils.errors import InputError, exit_on_error

# A format file holds FOLDER, URLS, PAGE, COUNTS {list: (images, classes)}, INDEX_FILES and index(files) -> [Image].
FORMATS = {"cub": cub, "car": car, "product": product, "shop": shop}


def prepare(name: str, data_root: str | Path, archive_paths: Sequence[str] = (), check: bool = True) -> None:
    """Make `<data_root>/<folder>` for the data set `name`. Raises InputError. After an error or a stop, call it again.

    archive_paths: local archives, index files or extracted folders; without any, the archives are downloaded. check: False
    accepts any counts, and leaves out listed images that the archives lack.
    """
    form = FORMATS[name]
    folder = Path(data_root) / form.FOLDER
    official = form.COUNTS if check else None
    counts = layout.counts_in_place(folder, list(form.COUNTS))
    if counts is not None and (official is None or counts == official):
        print(f"{name}: already prepared in {folder} ({layout.describe(counts)}); to do it again, delete its train.txt")
        return

    sources = find_archives(form, Path(data_root), archive_paths)
    images = form.index(archives.read_index(sources, form.INDEX_FILES))
    layout.check_paths(images)
    layout.check_counts(name, images, official)  # a wrong archive shows here, before gigabytes are written

    extracted = archives.extract(sources, {image.source: folder / image.target for image in images})
    missing = [image.source for image in images if image.source not in extracted]
    if missing:
        what = f"{name}: {len(missing):,} of {len(images):,} listed images are not in the archives given"
        what += f", the first is {missing[0]!r}"
        if check or not extracted:
            raise InputError(f"{what}; add the archive that holds them with --archive")
        print(f"{what}: left out of the lists")
    images = [image for image in images if image.source in extracted]
    counts = layout.check_counts(name, images, official)
    layout.write_lists(folder, images, list(form.COUNTS))
    print(f"{name}: {layout.describe(counts)} in {folder}")


def find_archives(form: ModuleType, data_root: Path, archive_paths: Sequence[str]) -> list[Path]:
    """Return the given paths; without any, download the official archives into `<data_root>/downloads`."""
    if archive_paths:
        for path in archive_paths:
            if not os.path.exists(path):
                raise InputError(f"{os.path.abspath(path)}: no such file or folder", setting="archive")
        return [Path(path) for path in archive_paths]
    if not form.URLS:
        remedy = f"accept the terms at {form.PAGE}, then give the files with {form.ARCHIVE_HINT}"
        raise InputError(f"{form.FOLDER} has no direct download: {remedy}")
    return [download.fetch(url, data_root / "downloads", form.ARCHIVE_HINT) for url in form.URLS]


def main(argv: Sequence[str] | None = None) -> None:
    about = "Turn the official archives of a data set into lists and image folders. After a stop, run it again to go on."
    parser = argparse.ArgumentParser(prog="prepare_data.sh", description=about)
    add = parser.add_argument
    add("data", choices=list(FORMATS), help="the data set")
    text = "the folder of all data sets (default: the environment variable DATA_ROOT)"
    add("--data_root", default=os.environ.get("DATA_ROOT"), metavar="DIR", help=text)
    text = "official archives and index files, or a folder they were extracted to (default: download into DIR/downloads)"
    add("--archive", nargs="+", action="extend", default=[], metavar="FILE", help=text)
    text = "for a subset: print the counts, and do not compare them with the official ones"
    add("--no_check", action="store_true", help=text)
    args = parser.parse_args(argv)
    if not args.data_root:
        raise InputError("no place for the data: give --data_root DIR or set DATA_ROOT")
    try:
        prepare(args.data, args.data_root, args.archive, check=not args.no_check)
    except OSError as error:  # no permission, disk full, a file where a folder should be
        raise InputError(f"{error.filename or args.data_root}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    exit_on_error(main)
