"""Facts and thumbnails by the hash of a file: what is written is read, by several processes, while others write."""

import io
import os
import sqlite3
import threading

import numpy as np
from PIL import Image

from data.pictures import KEPT, WIDEST, thumbnail_of
from data.pixels import Facts
from gallery.contents import Contents, Entry
from gallery.table import Content

FACTS = Facts(640, 480, "JPEG", "2024-05-01 12:30:00", "Camera ü", 6, None)


def entry(number, notes=(), thumbnail=b"jpeg"):
    return Entry(bytes([number]) * 16, Content(FACTS._replace(width=number), notes), thumbnail)


def test_what_is_put_is_read(tmp_path):
    contents = Contents(tmp_path / "odd ?#%\udce9 name.sqlite")
    assert contents.thumbnail(bytes(16)) is None and list(contents.of([bytes(16)])) == [None]
    assert not os.listdir(tmp_path)  # reading makes no file
    contents.put([entry(1), entry(2, ("incomplete", "bits")), entry(3, thumbnail=None)])
    contents.put([entry(1, thumbnail=b"newer")])
    digests = [bytes([number]) * 16 for number in (3, 2, 9, 1)]
    assert list(contents.of(digests)) == [entry(3).content, entry(2, ("incomplete", "bits")).content, None, entry(1).content]
    assert [contents.thumbnail(digest) for digest in digests] == [None, b"jpeg", None, b"newer"]


def test_contents_of_deleted_photos_are_forgotten(tmp_path):
    contents = Contents(tmp_path / "contents.sqlite")
    contents.keep_only([bytes(16)])
    assert not os.listdir(tmp_path)
    contents.put([entry(number, thumbnail=f"thumbnail {number}".encode() * 100) for number in range(5)])
    contents.keep_only([bytes([3]) * 16, bytes([4]) * 16])
    assert [contents.thumbnail(bytes([number]) * 16) is not None for number in range(5)] == [False] * 3 + [True] * 2
    assert b"thumbnail 1" not in (tmp_path / "contents.sqlite").read_bytes()  # nor are they left in free pages


def test_a_damaged_file_is_as_none(tmp_path):
    contents = Contents(tmp_path / "contents.sqlite")
    (tmp_path / "contents.sqlite").write_bytes(b"no database" * 99)
    assert contents.thumbnail(bytes(16)) is None and list(contents.of([bytes(16)])) == [None]
    contents.keep_only([bytes(16)])
    contents.put([entry(1)])
    assert contents.thumbnail(bytes([1]) * 16) == b"jpeg"
    whole = (tmp_path / "contents.sqlite").read_bytes()
    (tmp_path / "contents.sqlite").write_bytes(whole[:4096] + b"x" * (len(whole) - 4096))  # the header is good
    contents.put([entry(2)])
    assert contents.thumbnail(bytes([2]) * 16) == b"jpeg"


def test_many_write_and_read_at_once(tmp_path):
    contents, faults = Contents(tmp_path / "contents.sqlite"), []
    contents.put([entry(255)])

    def work(first):
        try:
            for number in range(first, first + 10):
                Contents(tmp_path / "contents.sqlite").put([entry(number)])
                assert contents.thumbnail(bytes([number]) * 16) in (b"jpeg", None)  # None while another one writes
        except (AssertionError, sqlite3.Error) as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 60, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and all(content is not None for content in contents.of(bytes([n]) * 16 for n in range(60)))


def test_thumbnails_are_small_and_never_enlarged():
    rng = np.random.default_rng(0)
    for size in ((1200, 900), (300, 300), (100, 40), (5000, 260), (1, 1), (90, 4000)):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        image = Image.open(io.BytesIO(thumbnail_of(pixels)))
        assert image.format == "JPEG" and min(image.size) == min(KEPT, *size)
        assert max(image.size) <= WIDEST * min(image.size)
        if max(size) <= WIDEST * min(size):
            assert abs(image.width / image.height - size[0] / size[1]) < 0.02
