"""Reading archives without trusting them: one view of tar, zip, folder and file, an index pass, an extraction pass.

The index pass reads every archive to its end and looks at every member before the first image is written, so an unsafe
or truncated tar leaves nothing behind. Extraction never uses a member's own path: a member is looked up in the table
of wanted images, and the table says where it goes.
"""

import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

from tqdm import tqdm

from utils.errors import InputError

CHUNK = 1 << 20
PLAIN_FILES = (".mat", ".txt")  # index files that are handed over outside any archive
TAR_KINDS = (("issym", "a symbolic link"), ("islnk", "a hard link"), ("isdev", "a device file"))
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class Member(NamedTuple):
    name: str  # path inside the archive, "/" between parts, no "." or empty parts
    size: int  # bytes
    chunks: Callable[[], Iterator[bytes]]  # its content; to be read before the next member is asked for


def members(path):
    """Every regular file of a tar, zip, folder or plain index file, in order. InputError for an unsafe member."""
    path = Path(path)
    if path.is_dir():
        return _folder_members(path)
    if path.suffix.lower() in PLAIN_FILES:
        return iter([_file_member(path, path.name)])
    return _zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path)


def unsafe(name):
    """Why a path must not be used below a folder, or None. Windows forms count too, wherever this runs."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    return "a path with .." if ".." in re.split(r"[/\\]", name) else None


def read_index(paths, names):
    """The pass that looks at everything: {file name: bytes} of the index files in `names` that the archives hold."""
    found, depths = {}, {}
    for path in paths:
        for member in tqdm(members(path), desc=f"reading {Path(path).name}", unit=" files", disable=None):
            *parents, name = member.name.split("/")
            if name in names and len(parents) < depths.get(name, 99):  # the outermost one, if there are several
                found[name], depths[name] = b"".join(member.chunks()), len(parents)
    return found


def extract(paths, targets):
    """Write each wanted image to its place; the set of those that the archives hold.

    `targets`: {end of the member's path: destination}. The end may be preceded by any folders, so a repacked archive or
    the parent of an extracted folder will do. A file that is there with the right size is left alone, and every other
    one is written under a temporary name and then renamed: what has its final name is whole.
    """
    found = set()
    with tqdm(total=len(targets), desc="extracting", unit=" images", disable=None) as bar:
        for path in paths:
            for member in members(path):
                source = _wanted(member.name, targets)
                if source is None or source in found:
                    continue
                if not _has_size(targets[source], member.size):
                    _write(path, member, targets[source])
                found.add(source)
                bar.update()
    return found


def _wanted(name, targets):
    while name not in targets:
        _, slash, name = name.partition("/")
        if not slash:
            return None
    return name


def _has_size(target, size):
    return target.is_file() and target.stat().st_size == size


def _write(archive, member, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(f".{target.name}.part")
    try:
        with open(temp, "wb") as out:
            for chunk in member.chunks():
                out.write(chunk)
        if not _has_size(temp, member.size):
            raise InputError(f"{archive}: {member.name!r} ends early: the archive is truncated; fetch it again")
        os.replace(temp, target)
    finally:
        temp.unlink(missing_ok=True)


def _tar_members(path):
    with _reading(path), tarfile.open(path) as tar:
        for info in tar:
            for test, kind in TAR_KINDS:
                if getattr(info, test)():
                    raise _refusal(path, info.name, kind)
            name = _clean(path, info.name)
            if info.isreg():
                yield Member(name, info.size, lambda info=info: _chunks(path, lambda: tar.extractfile(info)))
        while tar.fileobj.read(CHUNK):  # the checksum of a compressed tar is only compared at its very end
            pass


def _zip_members(path):
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(path, info.filename, "a symbolic link" if kind == stat.S_IFLNK else "a special file")
            name = _clean(path, info.filename)
            if info.flag_bits & 1:
                raise InputError(f"{path}: encrypted: unpack it with its password, and give the folder with --archive")
            if not info.is_dir():
                yield Member(name, info.file_size, lambda info=info: _chunks(path, lambda: archive.open(info)))


def _folder_members(path):
    """Names begin with the folder's own: `car_ims/` itself and its parent both have members `.../car_ims/1.jpg`."""
    found = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in found:
        if file.is_file():
            yield _file_member(file, "/".join((path.resolve().name, *file.relative_to(path).parts)))


def _file_member(path, name):
    return Member(name, path.stat().st_size, lambda: _chunks(path, lambda: open(path, "rb")))


def _chunks(path, opener):
    with _reading(path), opener() as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _clean(path, name):
    if reason := unsafe(name):
        raise _refusal(path, name, reason)
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _refusal(path, name, reason):
    return InputError(f"{path}: refused, because its member {name!r} is {reason}; fetch the official archive")


@contextmanager
def _reading(path):
    try:
        yield
    except (*CORRUPT, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise InputError(f"{path}: not a whole archive ({reason}); delete it and fetch it again") from error
