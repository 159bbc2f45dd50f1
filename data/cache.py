"""--cache: the images of a list decoded once, at the size from which crops are made, and kept in memory or in a file.

The file: a line of JSON (which images, at which size), padded to HEADER bytes; a record for each image, int64 (N, 5): bytes
and mtime in ns of its file, offset, height and width of its pixels (height 0: it cannot be decoded); then the pixels, uint8
(height, width, 3) each.
"""

import errno
import glob
import json
import os
import platform
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch

from data.images import Images, decoded_size
from utils import log
from utils.errors import InputError
from utils.progress import bar

VERSION = 2  # raise it when the format or the decoding changes: older files are then made anew
HEADER = 4096
BLOCK = 64  # images that one task of the thread pool decodes
SMALL = 4e9  # bytes of pixels that `auto` keeps in memory, if they are no more than a quarter of what is free


class Cached(Images):
    """Images whose pixels are already decoded: the same as decoding gives, bit by bit."""

    def __init__(self, paths, transforms, records, pixels, file=None, header=None):
        super().__init__(paths, transforms)
        self.records, self.pixels, self.file, self.header = records, pixels, file, header

    def __getitem__(self, index):
        offset, height, width = self.records[index, 2:].tolist()
        if not height:
            return super().__getitem__(index)  # the error that says what is wrong with it
        return self.pixels[offset:offset + 3 * height * width].view(height, width, 3).permute(2, 0, 1)

    def __getstate__(self):  # a spawned worker maps the file itself; pickling would copy it
        return self.__dict__ | ({"pixels": None} if self.file else {})

    def __setstate__(self, state):
        self.__dict__ = state
        if self.file:
            header, _, self.pixels = _read(self.file, len(self))
            if header != self.header:
                raise InputError(f"{self.file}: replaced by another run since this one started; start it again")


def open_images(images, transforms, kind="none", folder=None):
    """The images of an ImageList, by `kind` of --cache: decoded when asked for (none), or all now, at most once.

    ram: kept in memory that worker processes share. disk: in a file in `folder` (None: .cache beside the list), where later
    runs find it as long as list, `origin_width`, and size and mtime of every image are the same; it is written under
    another name and renamed when whole, so that runs may build it at the same time. auto: as ram for a set whose pixels are
    few (SMALL), else as none. InputError: no room, or a folder that cannot be written.
    """
    free = _free_memory()
    few = min(SMALL, free / 4)
    if kind == "none" or kind == "auto" and 3 * transforms.origin_width**2 * len(images) > few:  # the least they can be
        return Images(images.paths, transforms)
    if kind in ("auto", "ram"):
        records, total = _survey(images.paths, transforms)
        if kind == "auto" and total > few:
            return Images(images.paths, transforms)
        if total > free:
            raise InputError(f"--cache ram needs {total / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free; "
                             "take --cache disk or none")
        pixels = torch.empty(total, dtype=torch.uint8)
        _fill(images.paths, transforms, records, lambda offset, data: pixels[offset:offset + len(data)].copy_(data))
        return Cached(images.paths, transforms, torch.from_numpy(records), pixels)

    beside, name = os.path.split(os.path.abspath(images.source))
    name = f"{os.path.splitext(name)[0]}-{transforms.origin_width}.cache"
    file = os.path.join(folder or os.path.join(beside, ".cache"), name)
    settings = {"version": VERSION, "origin_width": transforms.origin_width, "list": images.digest}
    if os.path.exists(file):
        stale = _stale(file, settings, images.paths)
        log.say(f"{file}: {stale}; making it anew" if stale else f"{file}: {len(images)} decoded images, up to date")
    else:
        stale = "missing"
    if stale:
        _build(file, settings, images.paths, transforms)
    header, records, pixels = _read(file, len(images))
    return Cached(images.paths, transforms, records, pixels, file, header)


def _read(file, count):
    """(header, records int64 (N, 5), pixels uint8 (bytes,), mapped) of a cache file of `count` images."""
    with open(file, "rb") as opened:
        header = json.loads(opened.read(HEADER))
        records = torch.frombuffer(bytearray(opened.read(40 * count)), dtype=torch.int64).view(count, 5)
    whole = torch.from_numpy(np.memmap(file, np.uint8, mode="c"))
    return header, records, whole[HEADER + 40 * count:]


def _stale(file, settings, paths):
    """Why a cache file is not the one that is wanted, or None."""
    try:
        with open(file, "rb") as opened:
            header = json.loads(opened.read(HEADER))
        if {name: header.get(name) for name in settings} != settings:
            return "of other images or settings"
        changed = (_stat(paths) != _read(file, len(paths))[1][:, :2].numpy()).any(1).sum()
    except (OSError, ValueError, RuntimeError, AttributeError):
        return "not readable as a cache"
    return f"{changed} of {len(paths)} images have changed" if changed else None


def _build(file, settings, paths, transforms):
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        records, total = _survey(paths, transforms)
        begin = HEADER + records.nbytes
        free = shutil.disk_usage(os.path.dirname(file)).free
        if begin + total > free:
            raise OSError(errno.ENOSPC, f"the cache needs {(begin + total) / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        _remove_left_over(file)
        temporary = f"{file}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            with open(temporary, "xb") as opened:
                def write(offset, data):
                    if os.pwrite(opened.fileno(), data.numpy(), begin + offset) < len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                os.truncate(opened.fileno(), begin + total)  # an image that cannot be decoded leaves its place empty
                _fill(paths, transforms, records, write)
                opened.write(json.dumps(settings | {"id": secrets.token_hex(8)}).encode().ljust(HEADER) + records.tobytes())
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(temporary, file)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); name another folder with --cache_dir, "
                         "make room, or take --cache none") from None


def _remove_left_over(file):
    """What runs of this host that were killed while they built `file` have left."""
    for left in glob.glob(f"{glob.escape(file)}.{glob.escape(platform.node())}-*.tmp"):
        try:
            os.kill(int(left.split("-")[-2]), 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another run that starts now was faster
                os.remove(left)
        except (ValueError, PermissionError):
            pass


def _stat(paths):
    """Bytes and mtime in ns of each file, int64 (N, 2); -1 for one that is not there."""
    def stat(path):
        try:
            status = os.stat(path)
            return status.st_size, status.st_mtime_ns
        except OSError:
            return -1, -1
    return np.array([stat(path) for path in paths], dtype=np.int64)


def _survey(paths, transforms):
    """(records of images that are yet to be decoded, the bytes of all their pixels), from the files' headers."""
    def size(path):
        try:
            return decoded_size(path, transforms.origin_width)
        except InputError:
            return 0, 0
    stats = _stat(paths)  # before anything is read: a file that changes meanwhile is found to have changed later
    sizes = np.array([size(path) for path in bar(paths, desc="measuring images", unit="img", leave=False)],
                     dtype=np.int64)
    ends = np.cumsum(3 * sizes.prod(1))
    return np.column_stack([stats, np.concatenate([[0], ends[:-1]]), sizes]), int(ends[-1])


def _fill(paths, transforms, records, write):
    """Decode every image and call write(offset, uint8 (3 H W,)), in threads; records of those that fail get height 0."""
    def decode(begin):
        for index in range(begin, min(begin + BLOCK, len(paths))):
            _, _, offset, height, width = records[index].tolist()
            if height:
                try:
                    image = transforms.load(paths[index])
                    if image.shape[1:] == (height, width):
                        write(offset, image.permute(1, 2, 0).contiguous().flatten())
                    else:  # the file was replaced since it was measured
                        records[index, 3] = 0
                except InputError:
                    records[index, 3] = 0
            progress.update()

    began, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # of each thread of the pool
    try:
        with (bar(total=len(paths), desc="decoding images", unit="img", leave=False) as progress,
              ThreadPoolExecutor(threads) as pool):
            try:
                list(pool.map(decode, range(0, len(paths), BLOCK)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
    size = 3 * records[:, 3].dot(records[:, 4]) / 1e9
    log.say(f"decoded {len(paths)} images for --cache, {size:.2f} GB, in {time.perf_counter() - began:.1f} s")


def _free_memory():
    """Bytes of memory that can be had; without /proc/meminfo, no bound is known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")
