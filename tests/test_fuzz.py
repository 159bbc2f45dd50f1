"""No input may end in a traceback: lists, images, weights and command lines, random and damaged.

There are FUZZ_CASES cases of each, 100 by default. scripts/fuzz.sh runs 2,000 cases of each, different ones every
time.
"""

import io
import logging
import os
import pickle
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image

import models
import test as test_program
import train as train_program
from data.dataset import locate, read_test, read_train
from data.images import decode, decoded_size
from data.lists import read_list
from models import weights
from models.load_tensors import as_tensors
from thumbnails import TINY, TINY_TRAIN, make_image_folder
from utils import checkpoint, flags
from utils.errors import InputError

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", 100)),
    derandomize="FUZZ_CASES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def ends_well(call, *arguments):
    """Return the call's result, or None for an InputError of one line. Anything else fails the test."""
    try:
        return call(*arguments)
    except InputError as error:
        assert str(error).strip() and len(str(error).splitlines()) == 1, repr(str(error))
        return None


# ---- list files -----------------------------------------------------------------------------------------------------

NAMES = ["a.jpg", "b c.jpg", "-1", "7 8.png", "ü.jpg", "x\x0by\x1cz.jpg", "u\u2028v\x85.jpg", "\xa0.jpg", b"caf\xe9.jpg"]
PIECES = [
    *map(os.fsencode, NAMES),
    b"loop.jpg",
    b"folder.jpg",
    b"missing.jpg",
    b"a\0.jpg",
    b"n" * 5000,
    b"../a.jpg",
    b"/",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b" ",
    b"\t",
    b"0",
    b" 1",
    b" -2",
    b" +3",
    b" 1_0",
    b" 1.5",
    " ٣".encode(),
    b" 9223372036854775808",
    b" " + b"9" * 5000,
]
good_lines = st.builds(
    lambda name, label, end: os.fsencode(name) + label + end,
    st.sampled_from(NAMES),
    st.sampled_from([b" 0", b" -2", b"\t+3 "]),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
)
any_bytes = good_lines | st.sampled_from(PIECES + 4 * [b"\n", b" 0\r\n", b" 1\n"]) | st.binary(max_size=6)
contents = (st.lists(good_lines, max_size=5) | st.lists(any_bytes, max_size=9)).map(b"".join)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A folder with the files NAMES, and with other things whose names look like files."""
    folder = tmp_path_factory.mktemp("lists")
    for name in NAMES:
        open(os.path.join(os.fsencode(folder), os.fsencode(name)), "w").close()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "folder.jpg").mkdir()
    return folder


@fuzz
@given(content=contents, labels_required=st.booleans())
def test_list_files(listed, content, labels_required):
    (listed / "list.txt").write_bytes(content)
    images = ends_well(read_list, str(listed / "list.txt"), labels_required)
    if images is not None:
        lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\r")]
        assert len(images) == len(lines) and all(map(os.path.isfile, images.paths))
        for path, line in zip(images.paths, lines):
            assert os.fsencode(os.path.basename(path)) in line
        if images.labels is not None:
            assert images.labels.dtype == np.int64
            assert [int(line.split()[-1]) for line in lines] == images.labels.tolist()


@fuzz
@given(
    names=st.sets(st.sampled_from(["train.txt", "test.txt", "query.txt", "gallery.txt"])),
    one=contents,
    other=contents,
    data=st.sampled_from(["cub", "demo", "", ".", "lists", "../lists", "\0", "\n", "a" * 5000]) | st.text(),
    root=st.sampled_from([None, "", ".", "..", "nowhere", "a\nb", "\0"]),
    gallery_eq_query=st.sampled_from([None, True, False]),
)
def test_folders_of_lists(listed, monkeypatch, names, one, other, data, root, gallery_eq_query):
    monkeypatch.chdir(listed)
    for name in ("train.txt", "test.txt", "query.txt", "gallery.txt"):
        Path(name).unlink(missing_ok=True)
    for name in names:
        Path(name).write_bytes(one if name in ("train.txt", "gallery.txt") else other)
    for folder in (str(listed), ends_well(locate, data, root)):
        if folder is not None:
            ends_well(read_train, folder)
            ends_well(read_test, folder, gallery_eq_query)


# ---- damaged files --------------------------------------------------------------------------------------------------

damages = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert"]), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=6,
)


def damaged(content, damages):
    """Change, remove and insert bytes. Positions are shares of the content's length."""
    content = bytearray(content)
    for kind, place, data in damages:
        at = int(place * len(content))
        content[at : at + (0 if kind == "insert" else len(data))] = b"" if kind == "cut" else data
    return bytes(content)


@pytest.fixture(scope="module")
def pictures():
    """A small valid file of each format, as bytes."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(256, size=(20, 30, 3), dtype=np.uint8))
    deep = rng.integers(2**16, size=(20, 30), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for image, kind, options in [
        (picture, "JPEG", {"exif": exif}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {"exif": exif}),
        (picture.convert("RGBA"), "PNG", {}),
        (Image.fromarray(deep), "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": 0}),
        (picture.convert("P"), "GIF", {"transparency": 3}),
        (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(180)]}),
        (picture, "WEBP", {"exif": exif}),
        (picture, "WEBP", {"save_all": True, "append_images": [picture.rotate(180)], "lossless": True}),
        (picture, "TIFF", {"exif": exif}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture.convert("F"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (picture, "BMP", {}),
        (picture, "PPM", {}),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return made


@pytest.mark.filterwarnings("ignore")  # warnings of Pillow, which tests/data/test_images.py tests
@fuzz
@given(which=st.integers(0, 15), damages=damages)
def test_images(pictures, tmp_path_factory, which, damages):
    path = tmp_path_factory.getbasetemp() / "image"
    path.write_bytes(damaged(pictures[which], damages))
    image, size = ends_well(decode, str(path), 16), ends_well(decoded_size, str(path), 16)
    if image is not None:
        assert image.dtype == torch.uint8 and image.shape == (3, *size) and min(size) == 16


@pytest.fixture(scope="module")
def checkpoints():
    """A checkpoint in each format of torch.save, and a plain pickle, as bytes."""
    content, made = {"state_dict": {"a.b": torch.arange(6.0)}, "epoch": 1, "settings": {"net": "ResNet18"}}, []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        made.append(buffer.getvalue())
    return [*made, pickle.dumps({"state_dict": {"a": 1}, "epoch": 1}, protocol=2)]


@pytest.mark.filterwarnings("ignore")
@fuzz
@given(which=st.integers(0, 2), damages=damages)
def test_checkpoints_and_weights(checkpoints, tmp_path_factory, which, damages):
    path = tmp_path_factory.getbasetemp() / "ckp_ep1.pth.tar"
    path.write_bytes(damaged(checkpoints[which], damages))
    ends_well(checkpoint.load, str(path))
    ends_well(lambda: as_tensors(weights.read(path), path))


# ---- command lines --------------------------------------------------------------------------------------------------


class Reached(Exception):
    """Raised when a program creates its model, after all its checks."""


PROGRAMS = {
    "train": (train_program, (*TINY_TRAIN, "--save_dir", "run")),
    "test": (test_program, (*TINY, "--pretrained", "True")),
}
# Some of these values are names of files that `sandbox` makes. No value may be a path that leads out of it.
HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "-0",
    "1.5",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "2147483647",
    "9" * 20,
    "9" * 5000,
    "1_0",
    "٣",
    "0x1",
    "True",
    "no",
    "None",
    "cpu",
    "cuda:99",
    "meta",
    "hpu",
    "cpu:-1",
    "a\0b",
    "a\nb",
    "\x1b[2J",
    "\u2028",
    "ü",
    "\udce9\udcff",
    "n" * 5000,
    "~no-such-user/x",
    "-",
    "--",
    "-x",
    "%s%d{}",
    "*",
    "timm/",
    "timm/\udce9",
    "demo",
    "folder",
    "folder/new/deep",
    "loop",
    "loop/x",
    "image.jpg",
    "image.jpg/x",
    "list.txt",
    "ckp_ep1.pth.tar",
    "missing",
    "/dev/null",
    "/dev/null/x",
]


def actions(program):
    """Return the flags of the program's parser."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", *next(base for module, base in PROGRAMS.values() if module is program)])
        parse_args = flags.Parser.parse_args
        patch.setattr(flags.Parser, "parse_args", lambda self: found.append(self._actions) or parse_args(self))
        program.parse_args()
    return [action for action in found[0] if action.option_strings]


def arguments(program):
    """Draw command lines of a few flags. Most flags get the right number of values, and most values are valid."""
    text = st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/") | st.sampled_from("\udc80\udcff"), max_size=12
    ).filter(lambda text: text != "..")
    hostile = st.sampled_from(HOSTILE) | text | st.integers().map(str) | st.floats().map(str)
    good = {
        "int": st.integers(0, 2**31 - 101) | st.integers(0, 64),
        "float": st.floats(0, 2**31 - 101) | st.floats(0, 1),
        "boolean": st.booleans(),
    }

    def flag(action):
        name = st.sampled_from(action.option_strings)
        taken = good.get(getattr(action.type, "__name__", None), hostile)
        if action.choices:
            taken = st.sampled_from(tuple(action.choices))
        value = st.one_of(*3 * [taken.map(str)], hostile)
        least, most = {None: (1, 1), "*": (0, 3), "+": (0, 3)}.get(action.nargs, (0, 0))
        usual = st.tuples(name, st.lists(value, min_size=least, max_size=most)).map(lambda p: [p[0], *p[1]])
        glued = st.builds("{}={}".format, name, value).map(lambda token: [token])
        cut = st.tuples(name, st.integers(1, 12), value).map(lambda p: [p[0][: p[1]], p[2]])
        return st.one_of(*8 * [usual], glued, glued, cut)

    odd = hostile.map(lambda token: [token])
    some = st.lists(st.one_of([odd, *map(flag, actions(program))]), min_size=1, max_size=4)
    return some.map(lambda parts: [token for part in parts for token in part])


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp("set") / "images", 2, 2, 3)


def sandbox(folder, thumbnails):
    os.makedirs(os.path.join(folder, "folder"))
    os.symlink("loop", os.path.join(folder, "loop"))
    shutil.copy(thumbnails / "train/class 0/0.jpg", os.path.join(folder, "image.jpg"))
    shutil.copy(thumbnails / "train.txt", os.path.join(folder, "list.txt"))
    checkpoint.save(os.path.join(folder, "ckp_ep1.pth.tar"), {"state_dict": {}, "epoch": 1, "settings": {"dim": 16}})


def command_line(program, tokens, thumbnails):
    """Run the command line in a folder of its own. As on most terminals, the output must be UTF-8."""
    module, base = PROGRAMS[program]

    def reached(*args, **kwargs):
        raise Reached

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        sandbox(folder, thumbnails)
        patch.chdir(folder)
        patch.delenv("DATA_ROOT", raising=False)
        patch.setattr(models, "create", reached)
        patch.setattr(logging.getLogger("udml"), "propagate", False)  # pytest would keep all of the log
        patch.setattr(sys, "argv", [f"{program}.py", *base, "--data", str(thumbnails), *tokens])
        for stream, errors in (("stdout", "strict"), ("stderr", "backslashreplace")):
            patch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors))
        try:
            return ends_well(module.main)
        except Reached:
            return "reached"
        except SystemExit as end:
            assert end.code == 0 and any(token[:2] in ("-h", "--") for token in tokens)


@pytest.mark.parametrize("program", PROGRAMS)
def test_good_command_lines_reach_the_model(thumbnails, program):
    """If a good command line were refused, every case below would be refused for the same reason, and would test nothing."""
    assert command_line(program, ["--seed", "3"], thumbnails) == "reached"
    assert command_line(program, ["--seed", "-3"], thumbnails) is None


@fuzz
@given(tokens=arguments(train_program))
@example(tokens=["--amp=--"])  # argparse turns this value into []
@example(tokens=["--log_file", "folder"])
@example(tokens=["--save_dir", "\udce9"])
@example(tokens=["--loss_base", "nan"])
def test_train_command_lines(thumbnails, tokens):
    command_line("train", tokens, thumbnails)


@fuzz
@given(tokens=arguments(test_program))
def test_test_command_lines(thumbnails, tokens):
    command_line("test", tokens, thumbnails)
