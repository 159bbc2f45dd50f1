"""Reads archives without trusting them. Tar, zip, folder and plain file look the same; an index pass precedes extraction.

The index pass reads every archive to its end and checks every member before the first image is written. So an unsafe or
truncated tar leaves nothing behind. Extraction never uses a member's own path: the table of wanted images gives its place.
The standard library's own extraction is no substitute. It repairs absolute and Windows paths in silence, accepts links that
stay inside, and writes before it has seen the last member.
"""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from tqdm import tqdm

from utils.errors import InputError
from utils.files import written_whole

CHUNK = 1 << 20
PLAIN_FILES = (".mat", ".txt")  # index files that come without an archive
TAR_KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}
TAR_KINDS |= dict.fromkeys((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE), "a device file")
ZIP_KINDS = {0: None, stat.S_IFREG: None, stat.S_IFDIR: None, stat.S_IFLNK: "a symbolic link"}
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class Member(NamedTuple):
    name: str  # path inside the archive, "/" between parts, no "." or empty parts
    size: int  # bytes
    open: Callable[[], Any]  # returns a stream of the content; read it before you go to the next member


def members(path: str | Path) -> Iterator[Member]:
    """Yield every regular file of a tar, zip, folder or plain index file, in order. InputError for an unsafe member."""
    path = Path(path)
    if path.is_dir():
        return _folder_members(path)
    if path.suffix.lower() in PLAIN_FILES:
        return iter([_file_member(path, path.name)])
    return _zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path)


def unsafe(name: str) -> str | None:
    """Return why a path must not be used below a folder, or None if it may be. Windows paths count on every system."""
    path = PureWindowsPath(name)  # splits at both slashes
    return "an absolute path" if path.anchor else "a path with .." if ".." in path.parts else None


def read_index(paths: Iterable[str | Path], names: Collection[str]) -> dict[str, bytes]:
    """Check every member of the archives, and return {file name: bytes} for the index files in `names` that they hold."""
    index: dict[str, bytes] = {}
    depths: dict[str, int] = {}
    for path in paths:
        with _reading(path):
            for member in tqdm(members(path), desc=f"reading {Path(path).name}", unit=" files", disable=None):
                *parents, name = member.name.split("/")
                if name in names and len(parents) < depths.get(name, 99):  # of several files with this name, the outermost
                    depths[name] = len(parents)
                    with member.open() as stream:
                        index[name] = stream.read()
    return index


def extract(paths: Iterable[str | Path], targets: Mapping[str, Path]) -> set[str]:
    """Write each wanted image to its place. Returns the keys of `targets` that the archives hold.

    `targets`: {end of the member's path: destination}. Any folders may come before the end, so a repacked archive or the
    parent of an extracted folder will do. An existing file of the right size is left alone. Every other file is written
    under a temporary name and then renamed, so a file with its final name is whole.
    """
    extracted: set[str] = set()
    with tqdm(total=len(targets), desc="extracting", unit=" images", disable=None) as bar:
        for path in paths:
            with _reading(path):
                for member in members(path):
                    source = _wanted(member.name, targets)
                    if source is None or source in extracted:
                        continue
                    target = targets[source]
                    if not (target.is_file() and target.stat().st_size == member.size):
                        _write(path, member, target)
                    extracted.add(source)
                    bar.update()
    return extracted


def _wanted(name: str, targets: Mapping[str, Path]) -> str | None:
    """Return the key of `targets` that ends a member's path, None without one."""
    while name not in targets:
        _, slash, name = name.partition("/")
        if not slash:
            return None
    return name


def _write(archive: str | Path, member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as stream, written_whole(target, sync=False, alone=True) as out:
        shutil.copyfileobj(stream, out, CHUNK)
        if out.tell() != member.size:
            raise InputError(f"{archive}: {member.name!r} ends early: the archive is truncated; fetch it again")


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as tar:
        for info in tar:
            name = _safe(path, info.name, TAR_KINDS.get(info.type))
            if info.isreg():
                yield Member(name, info.size, partial(tar.extractfile, info))
        while tar.fileobj and tar.fileobj.read(CHUNK):  # a compressed tar's checksum is compared only at its very end
            pass


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _safe(path, info.filename, ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16), "a special file"))
            if info.flag_bits & 1:
                raise InputError(f"{path}: encrypted: unpack it with its password, and give the folder with --archive")
            if not info.is_dir():
                yield Member(name, info.file_size, partial(archive.open, info))


def _folder_members(path: Path) -> Iterator[Member]:
    """Yield the files below a folder. Names begin with the folder's own: `car_ims/` and its parent give `car_ims/1.jpg`."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield _file_member(file, "/".join((path.resolve().name, *file.relative_to(path).parts)))


def _file_member(path: Path, name: str) -> Member:
    return Member(name, path.stat().st_size, partial(open, path, "rb"))


def _safe(path: Path, name: str, special: str | None) -> str:
    """Return a member's name in plain form. InputError for an unsafe name or a `special` member, such as "a hard link"."""
    if reason := special or unsafe(name):
        raise InputError(f"{path}: refused, because its member {name!r} is {reason}; fetch the official archive")
    return str(PurePosixPath(name))


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turn an error in the block that shows a damaged archive into an InputError."""
    try:
        yield
    except (*CORRUPT, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise InputError(f"{path}: not a whole archive ({reason}); delete it and fetch it again") from error
