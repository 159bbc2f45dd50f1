"""embed.py in use: repeated runs on a folder that changes, stops at any moment, one process and several."""

import io
import json
import os
import shutil
import signal
import socket
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import embed as program
import models
from data.images import decode
from data.pixels import PIXELS
from galleries import TINY, checkpoint_of, hash_of, photo, photos, snapshot
from gallery import growth, intake, model as gallery_model, model_choice, renew
from gallery.folder import PLACES, GalleryFolder
from gallery.store import Gallery
from gallery.thumbprints import thumbprint
from gallery.writer import Writer
from models import exported, readout
from utils import checkpoint
from utils.errors import InputError, Interrupted, RunError, exit_on_error
from utils.lock import locked

ROOT = Path(__file__).parents[1]


def test_only_the_flags_that_were_given_are_not_the_defaults(monkeypatch):
    monkeypatch.setattr("sys.argv", ["embed.py", "--images", "photos", "--out", "gallery"])
    settings, _, changed = program.parse_args()
    assert changed == {"images": ["photos"], "out": "gallery"} and settings.net == "EfficientNet-Lite0"


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """Reduce to few channels: the maps have 1 x 1 positions, and with more channels roots would amplify rounding errors."""
    monkeypatch.setattr(readout, "REDUCED", 2)


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """Handle Ctrl-C as in a terminal. Tests in the background (`&` in a script) would ignore it, and so would embed.py."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Three checkpoints of a tiny net."""
    return [checkpoint_of(tmp_path_factory.mktemp("run"), seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def tiny(checkpoints):
    """Flags that make this tiny net the ready-made net. It loads fast."""
    return ("--net", "timm/test_resnet", "--weights", checkpoints[2])


@pytest.fixture
def folder(tmp_path):
    """A folder with five photos."""
    photos(tmp_path / "photos", 5)
    return tmp_path / "photos"


@pytest.fixture
def embed(run, tiny, tmp_path, monkeypatch):
    """embed("--flag", ..., images=, out=) runs embed.py with the tiny net, and returns the gallery.

    embed.taken: the names of the files that this run read, in order.
    """

    def call(*more, images=None, out=None):
        images, call.taken = images or tmp_path / "photos", []
        net = () if {"--net", "--checkpoint"} & set(more) else tiny
        hash_of_file = intake.hash_of

        def taking(path):
            call.taken.append(os.path.relpath(path, images))
            return hash_of_file(path)

        with monkeypatch.context() as patch:
            patch.setattr(intake, "hash_of", taking)
            run("embed", "--images", images, "--out", out or tmp_path / "gallery", *TINY, *net, *more)
        return Gallery(out or tmp_path / "gallery")

    return call


@pytest.fixture(scope="module")
def net(checkpoints):
    """The net that makes a gallery of few images."""
    return models.load(checkpoints[2])


def holds(gallery, net, paths):
    """Return True if a gallery holds exactly what each of these images gives alone, in this order."""
    paths = list(map(str, paths))
    rows = np.concatenate([net.embed(path, pooled=True) for path in paths])
    tolerance = 1e-5 if gallery.embeddings.dtype == np.float32 else 1e-3
    stats = [os.stat(path) for path in paths]
    return (
        list(gallery.paths) == paths
        and [file[1:] for file in gallery.files] == [(status.st_size, status.st_mtime_ns) for status in stats]
        and np.allclose(gallery.embeddings, rows, atol=tolerance)
        and np.array_equal(gallery.prints, np.stack([thumbprint(decode(path, 36)) for path in paths]))
        and np.array_equal(gallery.hashes, np.stack([hash_of(path) for path in paths]))
    )


def same_rows(one, other, tolerance=0):
    """Return True if two galleries hold the same. tolerance: of embeddings, if the batches held other images."""
    close = np.allclose(one.embeddings, other.embeddings, rtol=0, atol=tolerance)
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("prints", "hashes"))
    return one.files == other.files and one.bad == other.bad and close and same


def refusal(call, kind=InputError):
    """Return the one line with which `call()` fails."""
    with pytest.raises(kind) as caught:
        call()
    message = getattr(caught.value, "shown", str(caught.value))
    assert message.isprintable()
    return message


# ---- a folder --------------------------------------------------------------------------------------------------------


def test_each_row_is_what_its_image_gives_alone_and_the_folder_stays_as_it_is(embed, folder, tmp_path):
    for i, name in enumerate([b"caf\xe9.jpg", b"new\nline.jpg", b"<img src=x onerror=alert(1)>.jpg", b" 7.jpg"]):
        os.rename(photo(folder / "x.jpg", 10 + i), os.fsencode(folder) + b"/" + name)
    photo(tmp_path / "elsewhere.jpg", 20)
    (folder / "out.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "in.jpg").symlink_to("000.jpg")
    for name in (".hidden.jpg", ".cache/a.jpg"):
        photo(folder / name)
    before = snapshot(folder)
    gallery = embed("--net", "EfficientNet-Lite0")
    assert snapshot(folder) == before
    net = models.create("EfficientNet-Lite0", width=32, origin_width=36)
    expected = [str(folder / "000.jpg"), *(os.path.join(here, name) for here, _, names in os.walk(folder) for name in names)]
    # in.jpg is another name of 000.jpg, and out.jpg leads to a photo elsewhere
    expected = sorted({path for path in expected if "/." not in path and not path.endswith("in.jpg")})
    assert len(expected) == 10 and holds(gallery, net, expected)
    assert np.allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, atol=1e-5) and gallery.embeddings.dtype == np.float32
    assert (gallery.name, gallery.root, gallery.bad) == ("ready-made", str(folder), [])
    about = json.loads((tmp_path / "gallery" / "about.json").read_text())
    assert about["images"] == 10 and about["net"] == "EfficientNet-Lite0" and about["kind"] == "pooled"
    assert sorted(os.listdir(tmp_path / "gallery")) == sorted([*PLACES, "contents.sqlite", "run.lock"])


def test_a_second_call_embeds_what_is_new_or_changed_and_forgets_what_is_gone(embed, folder, net):
    def current():
        return sorted(map(str, folder.rglob("*.jpg")))

    embed()
    assert sorted(embed.taken) == ["000.jpg", "002.jpg", "004.jpg", "deep/001.jpg", "deep/003.jpg"]
    stamp = embed().stamp
    assert embed.taken == [] and embed().stamp == stamp

    photo(folder / "001.jpg", 50)
    assert holds(embed(), net, current()) and embed.taken == ["001.jpg"]

    photo(folder / "000.jpg", 51)  # another picture with the same name
    os.utime(folder / "000.jpg", ns=(1, 1))
    assert holds(embed(), net, current()) and embed.taken == ["000.jpg"]

    os.rename(folder / "002.jpg", folder / "zzz.jpg")
    assert holds(embed(), net, current()) and embed.taken == []  # its bytes are known

    os.rename(folder / "004.jpg", folder / "000.jpg")  # in the place of another, with its own time
    assert holds(embed(), net, current()) and embed.taken == []

    (folder / "zzz.jpg").unlink()
    shutil.rmtree(folder / "deep")
    gallery = embed()
    assert holds(gallery, net, current()) and embed.taken == [] and len(gallery) == 2
    assert gallery.stamp != stamp


def test_the_rows_are_those_of_a_gallery_made_from_scratch(embed, folder, tmp_path):
    embed()
    for i, name in enumerate(("000.jpg", "zz.jpg", "a/b.jpg")):
        photo(folder / name, 60 + i)
    (folder / "002.jpg").unlink()
    grown, scratch = embed(), embed(out=tmp_path / "scratch")
    assert len(embed.taken) == 6 and same_rows(grown, scratch, tolerance=1e-6)
    assert grown.about["model"] == scratch.about["model"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("head", ["auto", "pooled", "closed_form"])
def test_one_image_or_two(embed, tmp_path, net, count, head):
    paths = photos(tmp_path / "photos", count)
    gallery = embed("--head", head)
    assert len(gallery) == count and list(gallery.paths) == paths
    assert np.allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, atol=1e-4)
    assert gallery.about["kind"] == ("closed_form" if head == "closed_form" else "pooled")
    assert head == "closed_form" or holds(gallery, net, paths)


def test_float16(embed, folder, tmp_path):
    halves = embed("--dtype", "float16")
    whole = embed(out=tmp_path / "whole")
    assert halves.embeddings.dtype == np.float16
    assert np.array_equal(halves.embeddings, whole.embeddings.astype(np.float16))
    photo(folder / "new.jpg", 50)
    assert len(embed("--dtype", "float16")) == 6 and embed.taken == ["new.jpg"]
    assert embed().embeddings.dtype == np.float32 and len(embed.taken) == 6  # another dtype: all images again


def test_loading_processes_change_nothing(embed, folder, tmp_path):
    assert same_rows(embed("--nThreads", 2, "--batch_size", 2), embed("--batch_size", 2, out=tmp_path / "alone"))


def test_a_list(embed, folder, net, tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("photos/004.jpg 7\nphotos/gone.jpg\n\nphotos/000.jpg\nphotos/000.jpg 3\n")
    gallery = embed(images=listed)
    assert holds(gallery, net, [folder / "000.jpg", folder / "004.jpg"])
    assert gallery.root is None and gallery.about["source"] == str(listed)
    assert gallery.bad == [(f"{folder}/gone.jpg", f"{folder}/gone.jpg: No such file or directory")]
    said = capsys.readouterr().out
    assert f"unreadable: No such file or directory  1  {folder}/gone.jpg" in said and "2 images are embedded" in said
    photo(folder / "gone.jpg", 9)
    assert len(embed(images=listed)) == 3 and embed.taken == ["../photos/gone.jpg"]
    assert Gallery(tmp_path / "gallery").bad == []


def test_photos_that_have_moved_are_not_embedded_again(embed, folder, net, tmp_path, capsys):
    """Nor are marks lost. A thumbnail goes with the bytes."""
    gallery = embed()
    gallery.set_apart([0, 2])
    first = gallery.thumbnail(0)
    assert Image.open(io.BytesIO(first)).size == Image.open(gallery.paths[0]).size  # smaller than a thumbnail
    moved = tmp_path / "elsewhere" / "all of them"
    moved.parent.mkdir()
    folder.rename(moved)
    again = embed(images=moved)
    assert embed.taken == [] and "5 images have moved: their rows are found again" in capsys.readouterr().out
    assert holds(again, net, sorted(map(str, moved.rglob("*.jpg")))) and again.apart() == [[0, 2]]
    assert again.thumbnail(0) == first and again.content(0).facts.format == "JPEG"


def test_thumbnails_of_a_run_that_was_stopped(embed, folder, monkeypatch):
    """What was read before the stop is not read again, and all that is in the table at the end is there."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) < 5 and all(gallery.thumbnail(row) and gallery.content(row) for row in range(5))


def test_without_thumbnails(embed, folder):
    gallery = embed("--thumbnails", "no")
    assert gallery.thumbnail(0) is None and gallery.content(0).facts.format == "JPEG"


def test_a_picture_that_takes_more_memory_than_it_may_is_left_out(embed, folder):
    Image.new("RGB", (2000, 1500)).save(folder / "large.png")
    assert len(embed("--image_memory", 0.01)) == 5
    assert len(embed("--again")) == 6


def test_several_folders_a_list_and_a_photo(embed, folder, net, tmp_path):
    more, alone, listed = photos(tmp_path / "more", 2, first=20), photo(tmp_path / "alone.jpg", 30), tmp_path / "list.txt"
    embed.taken, gallery = [], tmp_path / "gallery"
    listed.write_text(f"{more[0]}\n{tmp_path}/clip.mp4\nREADME\n")
    several = ("--images", folder, tmp_path / "more", folder / "deep", alone, listed)
    expected = sorted([*map(str, folder.rglob("*.jpg")), *more, str(alone)])
    roots = [str(folder), str(tmp_path / "more")]
    assert holds(embed(*several), net, expected)
    about = json.loads((gallery / "about.json").read_text())
    assert (about["root"], about["roots"]) == (None, roots) and Gallery(gallery).roots == roots
    assert about["source"] == f"{folder}, {tmp_path}/more, {folder}/deep and 2 more"
    less = embed(*several, "--exclude", "deep/021*", "alone*")
    assert holds(less, net, [path for path in expected if not path.endswith(("more/deep/021.jpg", "alone.jpg"))])
    assert json.loads((gallery / "about.json").read_text())["roots"] == roots
    one = embed("--images", folder)
    assert (one.root, one.roots, one.about["source"]) == (str(folder), [str(folder)], str(folder))


def test_nothing_is_written_into_any_of_the_folders(embed, folder, tmp_path):
    photos(tmp_path / "more", 1)
    message = refusal(lambda: embed("--images", folder, tmp_path / "more", out=tmp_path / "more" / "gallery"))
    assert "lies in the folder of the images" in message and os.listdir(tmp_path / "more") == ["000.jpg"]


def test_thumbnails_of_other_programs(embed, folder, net):
    hidden = photo(folder / "@eaDir" / "000.jpg" / "SYNOPHOTO_THUMB_M.jpg", 9)
    assert len(embed()) == 5
    gallery = embed("--include_excluded")
    assert len(gallery) == 6 and str(hidden) in gallery.row_of_path


# ---- images that cannot be read --------------------------------------------------------------------------------------


def test_bad_images_are_listed_and_not_tried_again_until_they_change(embed, folder, net, capsys):
    good = sorted(map(str, folder.rglob("*.jpg")))
    (folder / "bad.jpg").write_text("no image")
    (folder / "half.jpg").write_bytes((folder / "000.jpg").read_bytes()[:300])
    gallery = embed("--batch_size", 2)
    assert holds(gallery, net, good) and len(embed.taken) == 7
    assert [path for path, _ in gallery.bad] == [str(folder / "bad.jpg"), str(folder / "half.jpg")]
    assert all(reason.startswith(f"{path}: cannot be read as an image (") for path, reason in gallery.bad)
    said = capsys.readouterr().out
    assert "5 images are embedded" in said and "  half.jpg\n" in said or "bad.jpg, half.jpg\n" in said

    assert embed().bad == gallery.bad and embed.taken == []
    assert "unreadable: no picture, or of a format that is not read  1  bad.jpg" in capsys.readouterr().out
    photo(folder / "new.jpg", 50)
    assert embed().bad == gallery.bad and embed.taken == ["new.jpg"]
    assert "6 images are embedded" in capsys.readouterr().out

    photo(folder / "bad.jpg", 51)  # the file is repaired
    gallery = embed()
    assert embed.taken == ["bad.jpg"] and [path for path, _ in gallery.bad] == [str(folder / "half.jpg")]
    assert "7 images are embedded" in capsys.readouterr().out
    assert holds(gallery, net, sorted([*good, str(folder / "bad.jpg"), str(folder / "new.jpg")]))

    (folder / "000.jpg").write_text("broken now")
    gallery = embed()
    assert embed.taken == ["000.jpg"] and len(gallery) == 6 and len(gallery.bad) == 2
    assert "6 images are embedded" in capsys.readouterr().out


def test_a_bad_image_that_is_gone_is_forgotten(embed, folder):
    (folder / "bad.jpg").write_text("no image")
    assert len(embed().bad) == 1
    (folder / "bad.jpg").unlink()
    assert embed().bad == []


def test_again_tries_bad_images_again(embed, folder):
    """The program may have learned to read this image since."""
    (folder / "bad.jpg").write_text("no image")
    embed()
    embed("--again")
    assert "bad.jpg" in embed.taken


def test_what_could_not_be_opened_is_tried_again(embed, folder, monkeypatch, capsys):
    """If a disk is not there for a while, its images are not bad."""
    real, lost = intake.hash_of, []

    def hash_of(path):
        if len(lost) < 2:
            lost.append(path)
            raise InputError(f"{path}: cannot be read (Input/output error)")
        return real(path)

    monkeypatch.setattr(intake, "hash_of", hash_of)
    assert len(embed()) == 3 and "unreadable: cannot be read (Input/output error)  2  " in capsys.readouterr().out
    assert len(embed()) == 5 and len(embed.taken) == 2


def test_only_bad_images(embed, refused, tmp_path, folder):
    empty = tmp_path / "bad"
    empty.mkdir()
    for i in range(3):
        (empty / f"{i}.jpg").write_text("no image")
    message = refusal(lambda: embed("--batch_size", 2, images=empty))
    assert message.startswith("--images none of the 3 images can be read, the first: ") and "bad/0.jpg" in message
    photo(empty / "1.jpg")
    assert len(embed(images=empty)) == 1


def test_what_is_there_stays_when_all_images_break(embed, folder):
    (folder / "bad.jpg").write_text("no image")
    embed()
    before = {name: (Path(embed().folder) / name).read_bytes() for name in PLACES}
    contents = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.jpg")}
    for path in contents:
        path.write_text("broken, all of them")
    assert "none of the 6 images can be read" in refusal(embed)
    assert {name: (folder.parent / "gallery" / name).read_bytes() for name in PLACES} == before
    for path, (held, mtime) in contents.items():
        path.write_bytes(held)
        os.utime(path, ns=(mtime, mtime))
    assert len(embed()) == 5 and embed.taken == ["bad.jpg"]  # it may have been mended


def test_the_last_good_image_goes(embed, folder):
    shutil.rmtree(folder / "deep")
    (folder / "000.jpg").write_text("no image")
    (folder / "002.jpg").unlink()
    assert len(embed()) == 1
    (folder / "004.jpg").unlink()
    assert "none of the 1 images can be read" in refusal(embed)


def test_an_image_that_goes_while_it_works(embed, folder, monkeypatch, capsys):
    """The image disappears while embed.py works, and its name has control characters for the terminal."""
    os.rename(folder / "004.jpg", folder / "x\n\x1b[31m.jpg")
    put = Writer.put

    def going(self, *args):
        if (folder / "x\n\x1b[31m.jpg").exists():
            (folder / "x\n\x1b[31m.jpg").unlink()
        put(self, *args)

    monkeypatch.setattr(Writer, "put", going)
    gallery = embed("--batch_size", 2)
    assert len(gallery) == 4 and "No such file" in gallery.bad[0][1]
    said = capsys.readouterr().out
    assert (
        "\x1b" not in said
        and "unreadable: cannot be read (No such file or directory)  1  " in said
        and "x\\n\\x1b[31m.jpg\n" in said
    )


# ---- stops -----------------------------------------------------------------------------------------------------------


def many(folder):
    """Write eleven more photos."""
    photos(folder, 11, first=5)


def two_are_bad(folder):
    for name in ("006.jpg", "deep/011.jpg"):
        (folder / name).write_text("no image")


def at_put(monkeypatch, number, happens):
    """Call `happens()` just before call number `number` of Writer.put."""
    put, calls = Writer.put, []

    def counting(self, *args):
        calls.append(1)
        if len(calls) == number:
            happens()
        put(self, *args)

    monkeypatch.setattr(Writer, "put", counting)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_loses_nothing(embed, folder, tmp_path, monkeypatch, number, code):
    """The result is bit by bit that of a run without the stop."""
    embed("--batch_size", 2)
    many(folder)
    shutil.copytree(tmp_path / "gallery", tmp_path / "unstopped")
    with monkeypatch.context() as patch:
        at_put(patch, 2, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as caught:
            embed("--batch_size", 2)
    assert caught.value.code == code and len(embed.taken) == 4
    assert len(Gallery(tmp_path / "gallery")) == 5  # it stays the old gallery until the new one is complete
    before = set(embed.taken)
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) == 7 and not before & set(embed.taken) and len(gallery) == 16
    assert same_rows(gallery, embed("--batch_size", 2, out=tmp_path / "unstopped"))


def test_a_stop_where_some_are_bad(embed, folder, tmp_path, monkeypatch):
    many(folder)
    two_are_bad(folder)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    gallery = embed("--batch_size", 2)
    assert 8 <= len(embed.taken) <= 10  # bad images among the first eight may be tried again
    assert len(gallery) == 14 and len(gallery.bad) == 2
    assert same_rows(gallery, embed(out=tmp_path / "unstopped"), tolerance=1e-6)


def in_a_child(call):
    """Run `call()` in a child process, and return the signal or code with which it ends."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    try:
        signal.alarm(120)  # in case it hangs
        exit_on_error(call)
    except SystemExit as error:
        os._exit(error.code)
    except BaseException as error:
        os.write(2, f"\n{error!r}\n".encode())
        os._exit(99)
    os._exit(0)


@pytest.mark.parametrize("every, lost", [(0, 0), (10**6, 4)])
@pytest.mark.parametrize("before", [False, True])
def test_killed(embed, folder, tmp_path, monkeypatch, every, lost, before):
    """Flushed rows are not embedded again, in a first gallery and in one that is renewed."""
    if before:
        embed("--batch_size", 2)
        shutil.copytree(tmp_path / "gallery", tmp_path / "unstopped")
    many(folder)
    with monkeypatch.context() as patch:
        patch.setattr("gallery.writer.FLUSH_SECONDS", every)
        at_put(patch, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert in_a_child(lambda: embed("--batch_size", 2)) == signal.SIGKILL
    if before:
        assert len(Gallery(tmp_path / "gallery")) == 5
    else:
        with pytest.raises(InputError, match="no gallery; make it with embed.py"):
            Gallery(tmp_path / "gallery")
    gallery = embed("--batch_size", 2)
    assert len(embed.taken) == 16 - 5 * before - 4 + lost
    assert same_rows(gallery, embed("--batch_size", 2, out=tmp_path / "unstopped"))


def test_stopped_while_the_files_move(embed, folder, net, monkeypatch, tmp_path):
    embed()
    os.rename(folder / "000.jpg", folder / "zzz.jpg")

    def stopping(place):
        if not os.path.exists(place.making.about):
            return  # at the start, nothing is complete yet
        os.replace(place.making.array("embeddings"), place.array("embeddings"))
        raise Interrupted("by SIGKILL", 137)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(GalleryFolder, "put_in_place", stopping)
        embed()
    assert "run it again" in refusal(lambda: Gallery(tmp_path / "gallery"))
    assert holds(embed(), net, sorted(map(str, folder.rglob("*.jpg")))) and embed.taken == []


def test_the_old_gallery_can_be_read_while_it_is_renewed(embed, folder, net, monkeypatch, tmp_path):
    old, before = embed(), sorted(map(str, folder.rglob("*.jpg")))
    rows, readable = old.embeddings.copy(), []
    os.rename(folder / "000.jpg", tmp_path / "000.jpg")
    photo(folder / "zzz.jpg", 50)
    with monkeypatch.context() as patch:
        at_put(patch, 1, lambda: readable.append(same_rows(Gallery(tmp_path / "gallery"), old)))
        new = embed()
    assert readable == [True] and old.stamp != new.stamp
    assert list(old.paths) == before and np.array_equal(old.embeddings, rows)


def test_two_at_once(embed, folder, tmp_path):
    """The second run is refused, and neither harms the other."""
    embed()
    photo(folder / "new.jpg", 50)
    ready, held = os.pipe()
    if not (child := os.fork()):
        with locked(str(tmp_path / "gallery")):
            os.write(held, b"!")
            signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert refusal(embed).startswith(f"--out {tmp_path}/gallery: in use by another run, pid {child} on host ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(embed()) == 6


# ---- several processes -----------------------------------------------------------------------------------------------


def by_two(monkeypatch, call):
    """Run `call()` in two processes, as torchrun would start them. Returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
                os.environ[name] = str(value)
            os._exit(os.waitstatus_to_exitcode(in_a_child(call)) % 256)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_two_processes_give_the_rows_of_one(embed, folder, tmp_path, monkeypatch):
    many(folder)
    two_are_bad(folder)
    assert by_two(monkeypatch, lambda: embed("--batch_size", 4)) == [0, 0]
    both, one = Gallery(tmp_path / "gallery"), embed("--batch_size", 4, out=tmp_path / "one")
    assert same_rows(both, one, tolerance=1e-6) and len(both) == 14 and len(both.bad) == 2
    assert embed().stamp == both.stamp and embed.taken == []  # one process continues what two have made
    photo(folder / "000.jpg", 70)
    assert by_two(monkeypatch, embed) == [0, 0]  # there is one image for two processes
    assert Gallery(tmp_path / "gallery").stamp != both.stamp
    assert by_two(monkeypatch, embed) == [0, 0]  # there is no image
    (folder / "zzz.jpg").write_text("no image")
    assert by_two(monkeypatch, embed) == [0, 0]
    assert len(Gallery(tmp_path / "gallery")) == 14 and len(Gallery(tmp_path / "gallery").bad) == 3


def test_two_processes_use_one_closed_form(embed, folder, tmp_path, monkeypatch):
    assert by_two(monkeypatch, lambda: embed("--head", "closed_form")) == [0, 0]
    gallery = Gallery(tmp_path / "gallery")
    assert gallery.about["kind"] == "closed_form" and gallery.about["fitted_to"] == len(gallery) == 5
    model = gallery_model.of_gallery(gallery)  # both processes used the model that is saved
    assert np.allclose(model.embed(gallery.paths), gallery.embeddings, atol=1e-5)


# ---- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["pooled", "closed_form"])
def test_onnx_embeds_without_a_pass_by_pytorch(embed, folder, graphs, tmp_path, monkeypatch, head):
    """PyTorch's convolutions are counted from the first image to the last. Its rows by the same model are the same."""
    many(folder)
    Image.new("RGB", (48, 40)).save(folder / "black.jpg")
    counts, embedded = [], renew.embedded

    def counted(*arguments):
        seen = lambda module, *_: counts.append(isinstance(module, torch.nn.Conv2d))
        hook = torch.nn.modules.module.register_module_forward_hook(seen)
        yield from embedded(*arguments)
        hook.remove()

    monkeypatch.setattr(renew, "embedded", counted)
    fast = embed("--engine", "onnx", "--head", head)
    assert sum(counts) == 0 and len(list(graphs.iterdir())) == 1
    expected = gallery_model.of_gallery(fast).embed(fast.paths)
    assert len(fast) == 17 and abs(fast.embeddings - expected).max() <= 1e-4
    embed("--engine", "torch", "--head", head, out=tmp_path / "slow")
    assert sum(counts) > 0


def test_a_gallery_takes_rows_of_either_engine(embed, folder, graphs):
    before = embed("--engine", "torch")
    photo(folder / "new.jpg", 70)
    both = embed("--engine", "onnx")
    assert embed.taken == ["new.jpg"] and both.about["model"] == before.about["model"]
    again = embed("--engine", "torch", "--again")
    assert same_rows(both, again, tolerance=1e-4)


def test_two_processes_write_one_graph(embed, folder, graphs, tmp_path, monkeypatch):
    """The second waits for the first."""
    many(folder)
    written, write = tmp_path / "written", exported.write

    def writing(*arguments, **more):
        with open(written, "a") as file:
            file.write("a graph\n")
        write(*arguments, **more)

    monkeypatch.setattr(exported, "write", writing)
    assert by_two(monkeypatch, lambda: embed("--engine", "onnx", "--batch_size", 4)) == [0, 0]
    assert written.read_text() == "a graph\n"
    one = embed("--engine", "torch", out=tmp_path / "one")
    assert same_rows(Gallery(tmp_path / "gallery"), one, tolerance=1e-4)


# ---- models ----------------------------------------------------------------------------------------------------------


def test_another_checkpoint_is_refused_and_again_takes_it(embed, folder, tmp_path, checkpoints):
    one, two, _ = checkpoints
    gallery = embed("--checkpoint", one)
    assert gallery.name == "trained" and gallery.about["kind"] == "embedding"
    paths = sorted(map(str, folder.rglob("*.jpg")))
    assert np.allclose(gallery.embeddings, models.load(one).embed(paths), atol=1e-5)
    photo(folder / "new.jpg", 50)
    message = refusal(lambda: embed("--checkpoint", two))
    what = "holds embeddings of another model (checkpoint); give another folder, or --again to embed all anew"
    assert message == f"--out {tmp_path}/gallery: {what}"
    assert "checkpoint" in refusal(embed) and "(head)" in refusal(lambda: embed("--checkpoint", one, "--head", "pooled"))
    assert Gallery(tmp_path / "gallery").stamp == gallery.stamp
    shutil.copy(one, tmp_path / "moved.pth.tar")
    embed("--checkpoint", tmp_path / "moved.pth.tar")  # its content identifies it
    assert embed.taken == ["new.jpg"]
    gallery = embed("--checkpoint", two, "--again")
    assert len(embed.taken) == 6 and np.allclose(gallery.embeddings, models.load(two).embed(gallery.paths), atol=1e-5)
    assert np.allclose(gallery_model.of_gallery(gallery).embed(gallery.paths[2]), gallery.embeddings[2:3], atol=1e-5)
    assert embed("--checkpoint", two).stamp == gallery.stamp


def test_stopped_in_the_midst_of_again(embed, folder, tmp_path, checkpoints, monkeypatch):
    """The same command goes on. The previous command still finds its gallery unchanged."""
    one, two, _ = checkpoints
    old = embed("--checkpoint", one)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--checkpoint", two, "--again", "--batch_size", 2)
    assert embed("--checkpoint", one).stamp == old.stamp and embed.taken == []
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--checkpoint", two, "--again", "--batch_size", 2)
    gallery = embed("--checkpoint", two, "--again", "--batch_size", 2)
    assert len(embed.taken) <= 3 and np.allclose(gallery.embeddings, models.load(two).embed(gallery.paths), atol=1e-5)


def test_again_embeds_all_anew_by_the_same_model_too(embed, folder, checkpoints):
    """This repairs damage that nothing shows."""
    gallery = embed("--checkpoint", checkpoints[0])
    rows, path = np.array(gallery.embeddings), Path(gallery.folder, "embeddings.npy")
    path.write_bytes(path.read_bytes()[:-64] + np.ones(16, np.float32).tobytes())
    assert not np.array_equal(Gallery(gallery.folder).embeddings, rows)
    photo(folder / "new.jpg", 50)
    again = embed("--checkpoint", checkpoints[0], "--again")
    assert len(embed.taken) == 6 and np.allclose(again.embeddings[:5], rows, rtol=0, atol=1e-6)


def test_again_takes_nothing_from_an_ordinary_renewal_that_was_stopped(embed, folder, net, monkeypatch):
    """Its rows come from the gallery that --again is to drop."""
    path = Path(embed().folder, "embeddings.npy")
    path.write_bytes(path.read_bytes()[:-64] + np.ones(16, np.float32).tobytes())
    photo(folder / "new.jpg", 50)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed()
    assert holds(embed("--again"), net, sorted(map(str, folder.rglob("*.jpg"))))


def test_the_closed_form_is_made_anew_when_the_folder_has_outgrown_it(embed, folder, monkeypatch, capsys):
    monkeypatch.setattr(gallery_model, "ENOUGH", 4)
    shutil.rmtree(folder / "deep")
    assert embed().about["kind"] == "pooled"  # there are three images
    photos(folder, 2, first=10)
    gallery = embed()
    assert gallery.about["kind"] == "closed_form" and gallery.about["fitted_to"] == 5 and gallery.about["dim"] == 16
    assert "the model is made anew: 5 images are enough for the closed form" in capsys.readouterr().out
    assert len(embed.taken) == 5
    photos(folder, 5, first=20)
    assert embed().about["model"] == gallery.about["model"] and len(embed.taken) == 5  # it has just doubled
    photo(folder / "one more.jpg", 40)
    larger = embed()
    assert larger.about["fitted_to"] == 11 and larger.about["model"] != gallery.about["model"] and len(embed.taken) == 11
    assert "the model is made anew: it was fitted to 5 images, now there are 11" in capsys.readouterr().out
    assert np.allclose(gallery_model.of_gallery(larger).embed(larger.paths), larger.embeddings, atol=1e-5)
    assert embed().stamp == larger.stamp


def change_json(path, **changes):
    """Change fields of a JSON file. None removes a field."""
    content = {**json.loads(Path(path).read_text()), **changes}
    Path(path).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_rows_of_older_pixels_are_renewed_and_that_is_said(embed, folder, net, capsys, tmp_path):
    """Unreadable files are tried again too: another version may be able to read them."""
    (folder / "bad.jpg").write_text("no image")
    about, paths = tmp_path / "gallery" / "about.json", sorted(map(str, folder.rglob("0*.jpg")))
    assert embed().about["pixels"] == PIXELS
    for held in (None, 0):  # None: as galleries were before they named it, which is version 1
        change_json(about, pixels=held)
        capsys.readouterr()
        assert holds(embed(), net, paths) and len(embed.taken) == 6 and Gallery(about.parent).pixels == PIXELS
        versions = f"the rows are of pixel version {1 if held is None else held}, this program reads version {PIXELS}"
        assert f"{versions}: all are embedded anew" in capsys.readouterr().out
        assert embed() and embed.taken == []


def test_an_unfinished_gallery_of_older_pixels_is_not_continued(embed, folder, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--batch_size", 2)
    change_json(tmp_path / "gallery" / "making" / "plan.json", pixels=0)
    embed()
    assert len(embed.taken) == 5


def test_a_closed_form_of_older_pixels_is_fitted_anew(embed, folder, capsys, tmp_path):
    gallery = embed("--head", "closed_form")
    path = tmp_path / "gallery" / "model.pth.tar"
    held = checkpoint.load(path)
    assert int(held["state_dict"]["closed_form.pixels"]) == PIXELS
    held["state_dict"]["closed_form.pixels"].fill_(0)
    checkpoint.save(path, held)
    assert gallery_model.of_gallery(gallery).pixels == 0  # its embeddings can still be compared with each other
    embed("--head", "closed_form")
    versions = f"it was fitted to pixel version 0, this program reads version {PIXELS}"
    assert f"the model is made anew: {versions}" in capsys.readouterr().out
    assert gallery_model.of_gallery(Gallery(tmp_path / "gallery")).pixels == PIXELS


def test_the_closed_form_is_fitted_to_so_many(embed, folder, monkeypatch):
    """Evenly taken, and no more for a folder that grows."""
    monkeypatch.setattr(model_choice, "MOST_FITTED", 3)
    monkeypatch.setattr(gallery_model, "MOST_FITTED", 3)
    gallery = embed("--head", "closed_form")
    assert gallery.about["fitted_to"] == 3
    photos(folder, 5, first=20)
    assert embed("--head", "closed_form").about["model"] == gallery.about["model"] and len(embed.taken) == 5


def test_stopped_after_the_closed_form_was_fitted(embed, folder, monkeypatch, tmp_path):
    """The fit is not repeated."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_put(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        embed("--head", "closed_form", "--batch_size", 2)
    monkeypatch.setattr(readout.Fitter, "__call__", lambda *args: pytest.fail("fitted again"))
    assert len(embed("--head", "closed_form", "--batch_size", 2)) == 5 and len(embed.taken) == 3


# ---- a first gallery, state by state ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """A folder of 30 photos, two of them bad. Nobody changes it."""
    folder = tmp_path_factory.mktemp("growing") / "photos"
    photos(folder, 30)
    two_are_bad(folder)
    return folder


@pytest.fixture
def growing(embed, thirty, monkeypatch):
    """growing(out) embeds `thirty`. A first gallery has four states: of 4, 8 (both by plain features), 12 and all images."""
    monkeypatch.setattr(renew, "FIRST", 4)
    monkeypatch.setattr(growth, "FIRST", 4)
    monkeypatch.setattr(growth, "COST", 1e9)
    monkeypatch.setattr(growth, "LEAST_SECONDS", 0)
    monkeypatch.setattr(renew, "PREVIEW_SECONDS", 0)
    return lambda out: embed("--batch_size", 1, "--head", "closed_form", images=thirty, out=out)


@pytest.fixture
def grown_at_once(growing, thirty, monkeypatch):
    """The gallery of `thirty` that is put in place once; it is made once for all tests."""
    out = thirty.parent / "at once"
    with monkeypatch.context() as patch:
        patch.setattr(renew, "FIRST", 100)
        patch.setattr(growth, "FIRST", 100)
        return Gallery(out) if out.exists() else growing(out)


def states_of(monkeypatch):
    """Return a list that gets each state of a gallery when it is put in place."""
    finish, states = Writer.finish, []

    def finishing(self, *args):
        finish(self, *args)
        states.append(Gallery(self.place))

    monkeypatch.setattr(Writer, "finish", finishing)
    return states


def same_bytes(one, other):
    """Return True if the arrays of two galleries are the same, byte by byte, and so is what else they hold."""
    arrays = [[Path(g.place.array(name)).read_bytes() for name in ("embeddings", "prints")] for g in (one, other)]
    facts = [[g.content(row) for row in range(len(g))] + [g.thumbnail(row) for row in range(len(g))] for g in (one, other)]
    return arrays[0] == arrays[1] and facts[0] == facts[1] and same_rows(one, other) and one.details == other.details


def test_a_first_gallery_grows(embed, growing, grown_at_once, tmp_path, monkeypatch):
    states = states_of(monkeypatch)
    gallery = growing(tmp_path / "gallery")
    assert [(state.of, state.plain) for state in states] == [(30, True), (30, True), (30, False), (0, False)]
    paths = [set(state.paths) for state in states]
    assert len(paths[0]) <= 4 and len(paths[-1]) == 28
    assert all(before < after for before, after in zip(paths, paths[1:]))
    assert same_bytes(gallery, grown_at_once)
    by_plain_features = 8
    assert len(embed.taken) <= 30 + by_plain_features
    assert sorted(os.listdir(gallery.folder)) == sorted([*PLACES, "contents.sqlite", "run.lock"])
    growing(gallery.folder)
    assert embed.taken == [] and len(states) == 4


def test_a_finished_gallery_stays_until_all_is_embedded(embed, growing, thirty, tmp_path, monkeypatch):
    shutil.copytree(thirty, tmp_path / "photos")
    embed()
    photos(tmp_path / "photos", 30, first=50)
    states = states_of(monkeypatch)
    assert len(embed()) == 58 and len(states) == 1


def test_again_has_one_state(embed, growing, thirty, monkeypatch):
    states = states_of(monkeypatch)
    assert len(embed("--again", images=thirty)) == 28 and len(states) == 1


def test_two_processes_grow_together(growing, grown_at_once, tmp_path, monkeypatch):
    out = tmp_path / "gallery"
    assert by_two(monkeypatch, lambda: growing(out)) == [0, 0]
    gallery = Gallery(out)
    assert gallery.files == grown_at_once.files and gallery.bad == grown_at_once.bad and not gallery.of
    own = gallery_model.of_gallery(gallery)
    assert np.allclose(own.embed(gallery.paths), gallery.embeddings, atol=1e-5)
    assert all(gallery.thumbnail(row) for row in range(len(gallery)))


MOMENTS = [  # (owner, name, number of a call, whether it is made before the process is killed)
    *((Writer, "finish", number, made) for number, made in ((1, False), (2, True), (3, True))),
    *((Writer, "plan", number, True) for number in (1, 3, 5)),
    *((Writer, "put", number, False) for number in (7, 30)),
    *((GalleryFolder, "put_in_place", number, False) for number in (3, 5)),
    *((gallery_model.Model, "save", number, True) for number in (1, 2)),
    (readout.Fitter, "__call__", 1, False),
    *((os, "replace", number, True) for number in (10, 17, 26, 34)),  # between two moves of `put_in_place`
]


@pytest.mark.parametrize("owner, name, number, made", MOMENTS)
def test_killed_while_it_grows(growing, grown_at_once, tmp_path, monkeypatch, owner, name, number, made):
    """What is in place is whole, at any moment, and the same command ends with the same bytes."""
    original, calls = getattr(owner, name), []

    def killing(*args, **more):
        calls.append(1)
        own_number = len(calls)
        if own_number == number and not made:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **more)
        if own_number == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    out = tmp_path / "gallery"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        patch.setattr("gallery.writer.FLUSH_SECONDS", 0)
        assert in_a_child(lambda: growing(out)) == signal.SIGKILL
    shown = paths_in_place(out)
    states = states_of(monkeypatch)
    gallery = growing(out)
    for state in states:  # what was shown stays
        assert shown <= set(state.paths)
        shown = set(state.paths)
    assert same_bytes(gallery, grown_at_once)
    assert sorted(os.listdir(out)) == sorted([*PLACES, "contents.sqlite", "run.lock"])


def paths_in_place(folder):
    """Check the gallery that a killed run left, and return its paths; none where the next run has to move files first."""
    try:
        gallery = Gallery(folder)
    except InputError as error:
        assert "no gallery" in str(error) or "run it again" in str(error)
        return set()
    own = gallery_model.of_gallery(gallery)
    assert np.allclose(own.embed(gallery.paths), gallery.embeddings, atol=1e-5)
    assert all(np.array_equal(hash_of(path), digest) for path, digest in zip(gallery.paths, gallery.hashes))
    assert all(gallery.thumbnail(row) for row in range(len(gallery)))
    assert gallery.of == (30 if len(gallery) < 28 else 0) and gallery.plain == (gallery.about["kind"] == "pooled")
    return set(gallery.paths)


# ---- damage, and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
@pytest.mark.parametrize("part", PLACES)
def test_a_damaged_gallery_comes_right(embed, folder, net, tmp_path, part, damage):
    """Either the same command repairs it, or it names the command that does."""
    embed()
    path = tmp_path / "gallery" / part
    held = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(held[: len(held) // 2] if damage == "cut" else b"")
    try:
        gallery = embed()
    except InputError as error:
        assert "--again" in error.shown and part in error.shown and error.shown.isprintable()
        gallery = embed("--again")
    paths = sorted(map(str, folder.rglob("*.jpg")))
    assert holds(gallery, net, paths)
    assert np.allclose(gallery_model.of_gallery(gallery).embed(paths), gallery.embeddings, atol=1e-5)


def test_a_disk_without_room(embed, folder, tmp_path, monkeypatch):
    old = embed()
    photo(folder / "new.jpg", 50)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
        message = refusal(embed, RunError)
    assert message.startswith(f"{tmp_path}/gallery: 6 images take ") and "make room" in message
    assert same_rows(Gallery(tmp_path / "gallery"), old) and len(embed()) == 6


@pytest.mark.parametrize("out", [".", "new", "deep", "../link/new"])
def test_nothing_is_put_among_the_photos(embed, folder, tmp_path, out):
    (tmp_path / "link").symlink_to("photos")
    before = snapshot(folder)
    message = refusal(lambda: embed(out=f"{folder}/{out}"))
    assert message.startswith("--out ") and snapshot(folder) == before


@pytest.mark.parametrize("name", ["making", "making.new", "making.old", "derived"])
def test_what_others_have_put_there_is_not_removed(embed, folder, tmp_path, name):
    """As if --out were a folder that has long held other things."""
    precious = tmp_path / "gallery" / name / "years of work.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    try:
        embed()
        photo(folder / "new.jpg", 50)
        embed()
    except InputError as error:
        assert error.shown.startswith("--out ") and str(precious.parent) in error.shown
    assert precious.read_text() == "precious"


def test_another_name(embed, folder):
    assert embed().name == "ready-made"
    assert embed("--name", "holidays").name == "holidays" and embed.taken == []


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--images", "nowhere"], "--images nowhere: no such folder or list"),
        (["--checkpoint", "nowhere.pth.tar"], "nowhere.pth.tar: cannot be read (No such file or directory)"),
        (["--checkpoint", "setup.cfg"], "setup.cfg: not a readable checkpoint"),
        (["--net", "EfficentNet-Lite0"], "did you mean EfficientNet-Lite0?"),
        (["--head", "embedding"], "--head embedding: an untrained net has a random one; give a checkpoint"),
        (["--width", 40], "--width 40 does not fit an image of origin_width 36"),
        (["--dtype", "float64"], "--dtype"),
        (["--out", "setup.cfg"], "setup.cfg: cannot make this folder"),
    ],
)
def test_slips_are_one_line(run, folder, tmp_path, monkeypatch, flags, text):
    before = snapshot(folder)
    message = refusal(lambda: run("embed", "--images", folder, "--out", tmp_path / "gallery", *TINY, *flags))
    assert text in message and snapshot(folder) == before
    assert not (tmp_path / "gallery" / "about.json").exists()
