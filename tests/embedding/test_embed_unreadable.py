"""embed.py and images that cannot be read, or are not there any more."""

import os
import shutil
from pathlib import Path

from made_galleries import holds, refusal

from galleries import photo
from gallery import intake
from gallery.folder import PLACES
from gallery.writer import Writer
from utils.errors import InputError


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
