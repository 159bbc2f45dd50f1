"""List files, good and bad."""

import copy
import os
import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from data.images import decode
from data.lists import ImageList, Paths, _split, below, read_list, read_names, real_paths, refuse_overlap
from utils.errors import InputError


def write(folder, text, *images):
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / "list.txt")


def message(file, labels_required=True):
    with pytest.raises(InputError) as caught:
        read_list(file, labels_required)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 2000
    return str(caught.value)


def test_spaces_absolute_paths_and_blank_lines(tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.touch()
    file = write(tmp_path, f"a dir/b  c.jpg 3\n\n{elsewhere} 7\r\n", "a dir/b  c.jpg")
    images = read_list(file, labels_required=True)
    assert list(images.paths) == [str(tmp_path / "a dir/b  c.jpg"), str(elsewhere)]
    assert images.labels.dtype == np.int64 and images.labels.tolist() == [3, 7]


def test_labels_are_optional_in_training_lists(tmp_path):
    file = write(tmp_path, "a b.jpg\nc.JPG\nd.avif\n", "a b.jpg", "c.JPG", "d.avif")
    assert read_list(file, labels_required=False).labels is None
    assert "list.txt:1" in message(file) and "label" in message(file)


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.jpg",
        "cafe\u0301 ☕.jpg".encode(),
        b"a  b.jpg",
        b"a\x0bb\x0cc\x1cd\re.jpg",
        "a\x85b\u2028c\u2029d.jpg".encode(),
        "\xa0.jpg\u3000".encode(),
        b"a 7.jpg",
        b"-1",
        b"#.jpg",
    ],
)
def test_odd_names_are_decoded(tmp_path, name):
    """Names may be other bytes than UTF-8, and may hold characters that end a line in Unicode."""
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", os.path.join(os.fsencode(tmp_path), name))
    images = read_list(write(tmp_path, name + b" 1\n" + name + b" 2\r\n" + name + b" \t3"), labels_required=True)
    assert images.labels.tolist() == [1, 2, 3]
    assert all(os.fsencode(path) == os.path.join(os.fsencode(tmp_path), name) for path in images.paths)
    assert (decode(images.paths[1], 8)[0] == 200).all()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.binary(min_size=1, max_size=255)
    .map(lambda name: name.translate(None, b"\0\n/").strip(b" \t"))
    .filter(lambda name: name not in (b"", b".", b"..")),
    end=st.sampled_from([b"", b"\n", b"\r\n"]),
)
def test_any_name_that_a_file_can_have(tmp_path, name, end):
    (tmp_path / "any").mkdir(exist_ok=True)
    file = os.path.join(os.fsencode(tmp_path / "any"), name)
    open(file, "w").close()
    images = read_list(write(tmp_path, b"any/" + name + b" 5" + end), labels_required=True)
    assert os.fsencode(images.paths[0]) == file and images.labels.tolist() == [5]
    os.remove(file)


def test_a_name_with_a_newline_is_refused_as_the_line_it_becomes(tmp_path):
    text = message(write(tmp_path, "b.jpg 0\nnew\nline.jpg 1\n", "b.jpg", "new\nline.jpg"))
    assert "list.txt:2: the label `new` is not an integer" in text


@pytest.mark.parametrize(
    "line, shown",
    [
        (b"a\0.jpg 0", "list.txt:1: the line holds a NUL byte"),
        ("a.jpg 0\n".encode("utf-16"), "is the list saved as UTF-8?"),
        (b"n" * 300 + b".jpg 0", "1 of 1 listed files do not exist"),
        (b"n" * 10**6 + b" 0", "1 of 1 listed files do not exist"),
        (b"a.jpg " + b"9" * 10**6, "list.txt:1: the label `999"),
        (b"a.jpg 1_0", "the label `1_0`"),
        ("a.jpg ٣".encode(), "the label `٣`"),
        (b"x\x1b[2J\xe9.jpg 0", "x\\x1b[2J\\udce9.jpg"),
        (b"\xff\xfe\r 0", "\\udcff\\udcfe"),
        (b"loop.jpg 0", "loop.jpg; correct the list"),
        (b"folder.jpg 0", "do not exist"),
        (b"loop.jpg/a.jpg 0", "do not exist"),
        (b"pipe.jpg 0", "do not exist"),
    ],
)
def test_hostile_lines(tmp_path, line, shown):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert shown in message(write(tmp_path, line, "a.jpg"))


def test_a_list_that_is_no_file(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(tmp_path / "pipe.txt")  # opening the pipe would wait forever
    for name in ("folder.txt", "loop.txt", "pipe.txt", "n" * 300, "nowhere.txt/list.txt"):
        assert "cannot read the list file" in message(str(tmp_path / name))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("a.jpg 0\n5\n", "list.txt:2: the line `5` has no path"),
        ("a.jpg cat\n", "list.txt:1: the label `cat` is not an integer"),
        ("a.jpg 1.5\n", "list.txt:1: the label `1.5`"),
        ("a.jpg 99999999999999999999\n", "is not an integer"),
    ],
)
def test_bad_lines(tmp_path, text, expected):
    assert expected in message(write(tmp_path, text, "a.jpg"))


def test_a_label_that_is_no_integer_is_refused_in_training_lists_too(tmp_path):
    assert "`cat` is not an integer" in message(write(tmp_path, "a.jpg cat\n", "a.jpg"), labels_required=False)


def test_bare_lines_of_any_image_format(tmp_path, monkeypatch):
    names = [f"{i}.{end}" for i, end in enumerate(("jfif", "HEIC", "psd", "j2k", "pgm"))]
    assert read_list(write(tmp_path, "\n".join(names), *names), labels_required=False).labels is None
    monkeypatch.setattr("data.extensions.installed", lambda package: package != "rawpy")
    text = message(write(tmp_path, "a.jpg\nb.nef\n", "a.jpg"), labels_required=False)
    assert text.endswith("list.txt:2: `b.nef` is camera raw, which needs: pip install rawpy")
    assert len(read_list(write(tmp_path, "b.nef 1\n", "b.nef"), labels_required=True)) == 1  # the label says what it is


@pytest.mark.parametrize(
    "line, images, others",
    [
        ("a.jpg", ["a.jpg"], []),
        ("a.jpg 3", ["a.jpg"], []),
        ("a 3", ["a"], []),
        ("there 3", [], ["there 3"]),  # a file's own name
        ("there.jpg 3", ["there.jpg"], []),
        ("a b.jpg -1", ["a b.jpg"], []),
        ("a.mp4", [], ["a.mp4"]),
        ("a b", [], ["a b"]),
        ("7", [], ["7"]),
        ("a 1.5", [], ["a 1.5"]),
        ("x/../b.PNG", ["b.PNG"], []),
        ("/x/y", [], ["/x/y"]),
        ("a 99999999999999999999", [], ["a 99999999999999999999"]),
    ],
)
def test_lists_of_any_files(tmp_path, line, images, others):
    file = write(tmp_path, f"\n{line}\r\n", "there 3", "there.jpg 3")
    assert read_names(file) == tuple([str(tmp_path / name) for name in names] for names in (images, others))


@pytest.mark.parametrize("text", ["", "\n\n", "a.jpg\nb\0.jpg\n"])
def test_faulty_lists_of_any_files(tmp_path, text):
    with pytest.raises(InputError, match="NUL byte" if text.strip() else "the list is empty"):
        read_names(write(tmp_path, text))


def test_missing_files_are_counted_and_the_first_three_named(tmp_path):
    text = message(write(tmp_path, "".join(f"{i}.jpg 0\n" for i in range(6)), "0.jpg"))
    assert "5 of 6" in text and all(f"{i}.jpg" in text for i in (1, 2, 3)) and "4.jpg" not in text


def test_files_that_are_not_looked_for(tmp_path):
    images = read_list(write(tmp_path, "a.jpg 0\nb.jpg 1\n", "a.jpg"), labels_required=True, check_files=False)
    assert list(images.paths) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")] and images.labels.tolist() == [0, 1]


def test_no_list(tmp_path):
    assert "nowhere.txt: cannot read" in message(str(tmp_path / "nowhere.txt"))


def test_overlap(tmp_path):
    train = read_list(write(tmp_path, "a.jpg 0\nb.jpg 1\n", "a.jpg", "b.jpg"), True)
    (tmp_path / "test").mkdir()
    test = read_list(write(tmp_path / "test", "../b.jpg 0\nc.jpg 1\n", "c.jpg"), True)
    with pytest.raises(InputError, match="1 images are also in .*first .*b.jpg"):
        refuse_overlap(train, test)
    refuse_overlap(train, replace(test, paths=test.paths[1:]))  # equal labels do not mean equal images


def test_real_paths_are_those_of_the_system(tmp_path):
    """Links to files and folders: chains of links, links to nowhere, a link to itself."""
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/file.jpg").touch()
    links = {"folder/link": "deep", "up": "folder/link", "loop": "loop", "lost": "nowhere/at/all", "far.jpg": "up/file.jpg"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    paths = [
        str(tmp_path / path)
        for path in (
            "folder/deep/file.jpg",
            "folder/link/file.jpg",
            "up/file.jpg",
            "far.jpg",
            "loop",
            "loop/a",
            "lost",
            "lost/a.jpg",
            "gone.jpg",
            "gone/b.jpg",
            "folder",
            "n" * 300,
            "folder/deep/file.jpg/a",
        )
    ] + ["/", "/a.jpg"]
    assert list(real_paths(paths)) == [os.path.realpath(path) for path in paths]


def digest(names, folder, source):
    return ImageList(Paths([os.path.join(folder, name) for name in names]), None, source).digest


def test_the_digest_knows_names_and_order_wherever_the_folder_lies(tmp_path):
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
    a, b = str(tmp_path / "a"), str(tmp_path / "b/c")
    names = ["x.jpg", "deep/y.jpg", "../z.jpg"]
    ours = digest(names, a, f"{a}/train.txt")
    assert ours == digest(names, b, f"{b}/train.txt") == digest(names, a, a) == digest(names, b, f"{b}/../c/")
    assert ours.startswith("7cf14b00c6159098b480")  # the digest of commit 067c6b5, which checkpoints and caches hold
    others = [
        names[:2],
        names[::-1],
        names + ["x.jpg"],
        ["x.jpg\ndeep/y.jpg", "../z.jpg"],
        ["x.jpg", "deep/y.jpg\n../z.jpg"],
    ]
    assert len({ours, *(digest(other, a, a) for other in others)}) == 6


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1), st.integers(-(2**63), 2**63 - 1))
def test_any_path_and_label_survive(path, label):
    line = f"{path} {label}".strip(" ")
    try:
        assert _split(line, "x:1", True) == (path.strip(" "), label)
    except InputError:
        assert not path.strip(" ")


@given(
    st.lists(
        st.text(st.characters(exclude_categories=()), min_size=1).map(
            lambda text: text.encode("utf-8", "replace").decode("utf-8", "surrogateescape")
        )
        | st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape"))
    )
)
def test_packed_paths_are_the_paths(names):
    packed = Paths(names)
    assert len(packed) == len(names) and list(packed) == names == [packed[i] for i in range(len(names))]
    assert packed[1:] == names[1:] and packed[::-1] == names[::-1] and packed[-2:] == names[-2:]
    for beyond in (len(names), -len(names) - 1):
        with pytest.raises(IndexError):
            packed[beyond]


def test_workers_share_the_paths():
    """A spawned worker gets little data for a long list, and a forked worker copies no strings."""
    packed = Paths([f"images/{i:06d}.jpg" for i in range(10000)])
    assert len(ForkingPickler.dumps(packed)) < 2000
    assert all(isinstance(value, np.ndarray) for value in vars(packed).values())
    assert list(pickle.loads(pickle.dumps(packed))) == list(copy.deepcopy(packed)) == list(packed)


def test_a_path_below_a_folder():
    assert below("/a/b/c.jpg", "/a") == below("/a/b/c.jpg", "/a/") == below("/b/c.jpg", "/") == "b/c.jpg"
    assert below("/ab/c.jpg", "/a") == below("/ab/c.jpg", None) == below("/ab/c.jpg", "") == "/ab/c.jpg"
