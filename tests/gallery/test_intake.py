"""What `take_in` takes from each image file, against the same steps by hand."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import decode
from data.pictures import KEPT
from data.pixels import Facts
from data.transforms import Transforms
from galleries import photo, photos
from gallery.intake import collate, take_in
from gallery.table import hash_of
from gallery.thumbprints import SIDE, thumbprint
from utils.errors import InputError

CROPS = Transforms(32, 36)


@pytest.fixture
def folder(tmp_path):
    """Seven good images of various shapes, and five unreadable ones, three of them in a row."""
    shapes = [(48, 40), (40, 48), (300, 90), (36, 36), (33, 70), (90, 90), (41, 40)]
    for i, size in enumerate(shapes):
        photo(tmp_path / f"{i}.jpg", i, size)
    (tmp_path / "0 bad.jpg").write_text("no image")
    for i in range(3):
        (tmp_path / f"3 bad {i}.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:200])
    (tmp_path / "5 gone.jpg").symlink_to("nowhere")
    return tmp_path


def taken_whole(batches):
    """Check the batches of take_in and join them: indices, prints, hashes, crops, bad."""
    batches = list(batches)
    for taken in batches:
        count = len(taken.indices)
        assert taken.indices.dtype == np.int64 and taken.prints.dtype == taken.hashes.dtype == np.uint8
        assert (taken.crops is None) if count == 0 else (taken.crops.shape == (count, 3, 32, 32))
        assert taken.prints.shape == (count, SIDE, SIDE) and taken.hashes.shape == (count, 16)  # also without any image
    crops = [taken.crops for taken in batches if taken.crops is not None]
    arrays = (np.concatenate([getattr(taken, name) for taken in batches]) for name in ("indices", "prints", "hashes"))
    return *arrays, torch.cat(crops), [bad for taken in batches for bad in taken.bad]


@pytest.mark.parametrize("batch_size, workers", [(1, 0), (2, 0), (64, 0), (3, 1)])
def test_every_file_by_hand(folder, batch_size, workers):
    """Some batches have no readable image."""
    paths = sorted(map(str, folder.iterdir()))
    wanted = [i for i in range(len(paths)) if i != 2]  # image 2 is known already
    indices, prints, hashes, crops, bad = taken_whole(take_in(paths, wanted, CROPS, batch_size, workers))
    good = [i for i in wanted if "bad" not in paths[i] and "gone" not in paths[i]]
    assert indices.tolist() == good and [item.index for item in bad] == [i for i in wanted if i not in good]
    for row, index in enumerate(good):
        image = decode(paths[index], 36)
        assert torch.equal(crops[row], CROPS.centre_crop(image))
        assert np.array_equal(prints[row], thumbprint(image))
        assert hashes[row].tobytes() == hashlib.blake2b(Path(paths[index]).read_bytes(), digest_size=16).digest()
    for item in bad:
        assert item.message.startswith(f"{paths[item.index]}: cannot be read") and "\n" not in item.message


def test_no_image_is_wanted(folder):
    assert list(take_in(sorted(map(str, folder.iterdir())), [], CROPS, 4)) == []


def test_a_batch_of_bad_images_fits_where_rows_go():
    """Then `array[taken.indices] = taken.prints` is allowed, and does nothing."""
    taken = collate([])
    for array, rows in ((np.ones((4, SIDE, SIDE), np.uint8), taken.prints), (np.ones((4, 16), np.uint8), taken.hashes)):
        array[taken.indices] = rows
        assert (array == 1).all()


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_hashes_of_files_of_any_size(tmp_path, size):
    held = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(held)
    assert hash_of(str(tmp_path / "file")) == hashlib.blake2b(held, digest_size=16).digest()


def test_names_of_any_bytes(tmp_path):
    for name in (b"caf\xe9.jpg", b"new\nline.jpg"):
        path = os.path.join(tmp_path, os.fsdecode(name))
        os.rename(photos(tmp_path / "some", 1)[0], path)
        ((taken),) = take_in([path], [0], CROPS, 4)
        assert taken.indices.tolist() == [0] and not taken.bad
        os.remove(path)
        ((taken),) = take_in([path], [0], CROPS, 4)  # the file disappeared after the survey
        assert "No such file" in taken.bad[0].message
        assert taken.bad[0].message.isprintable()  # the message is one line, without control characters


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="gone.jpg: cannot be read .No such file or directory"):
        hash_of(str(tmp_path / "gone.jpg"))


def test_facts_and_thumbnails_come_from_the_same_reading(tmp_path):
    """Width and height upright, date, camera and orientation as the camera wrote them; never a place."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Maker X100", 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    y, x = np.mgrid[0:500, 0:700]
    pixels = np.stack([x * 255 // 700, y * 255 // 500, (x // 100 + y // 100) % 2 * 200], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=90)
    transforms = Transforms(32, 36)
    transforms.detail = KEPT
    (taken,) = take_in([str(tmp_path / "a.jpg")], [0], transforms, 4)
    (entry,) = taken.entries
    assert entry.content.facts == Facts(500, 700, "JPEG", "2024-05-01 12:30:00", "Maker X100", 6, None)
    thumbnail = Image.open(io.BytesIO(entry.thumbnail))
    assert thumbnail.size == (256, 358) and not thumbnail.getexif()
    upright = Image.fromarray(np.rot90(pixels, -1)).resize((256, 358), Image.Resampling.BOX)
    assert np.abs(np.asarray(thumbnail, int) - np.asarray(upright, int)).mean() < 12
    (without,) = take_in([str(tmp_path / "a.jpg")], [0], transforms, 4, thumbnails=False)
    assert without.entries[0].thumbnail is None and torch.equal(without.crops, taken.crops)
