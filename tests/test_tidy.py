"""search.py duplicates --script: what stays, and the scripts, in dash and bash, with names that try to be commands."""

import os
import shutil
import subprocess

import pytest
from PIL import Image

from galleries import TINY, checkpoint_of, photo, snapshot
from gallery.store import Gallery
from gallery.tidy import _quoted
from utils.errors import InputError

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
NAMES = (
    b"plain.jpg",
    b"with a space.jpg",
    b"$(touch pwned).jpg",
    b"`touch pwned`.jpg",
    b"; touch pwned ;.jpg",
    b"a'; touch pwned; '.jpg",
    b"'.jpg",
    b'".jpg',
    b"\\'; touch pwned.jpg",
    b"-rf.jpg",
    b"--.jpg",
    b"~root.jpg",
    b"*.jpg",
    b"{a,b}$HOME!!.jpg",
    b"%s%n.jpg",
    b"#.jpg",
    b"two\nlines.jpg",
    b"tab\tand \x1b[31m escape.jpg",
    b"not \xff UTF-8 \xe9.jpg",
    "\u65e5\u672c\u8a9e.jpg".encode(),
)


@pytest.fixture
def tidied(tmp_path, run):
    """A folder with a photo and copies of it, and `tidied(...)`, which embeds it and writes the scripts."""
    folder = tmp_path / "my photos"
    photo(folder / "best.png", 3, (480, 400))
    for number, name in enumerate(NAMES):
        photo(folder / "x.jpg", 50 + number, (96, 80))
        os.makedirs(folder / "deep" / "er", exist_ok=True)
        place = os.fsencode(folder / ("deep" if number % 2 else "")) + b"/" + name
        os.rename(folder / "x.jpg", place)
        shutil.copy(place, os.fsencode(folder / "deep" / "er") + b"/" + b"second of " + name)

    def call(*flags, script="tidy.sh"):
        gallery = tmp_path / "gallery"
        run("embed", "--images", folder, "--checkpoint", checkpoint_of(tmp_path, 1), *TINY, "--out", gallery)
        run("search", "duplicates", gallery, "--script", tmp_path / script, *flags)
        return Gallery(gallery)

    call.folder, call.top = folder, tmp_path
    return call


def sh(shell, script, answer="y\n"):
    """Run a script in an empty folder. Returns (exit status, what it printed)."""
    empty = script.parent / "empty"
    empty.mkdir(exist_ok=True)
    done = subprocess.run([shell, script], input=answer.encode(), cwd=empty, stdout=-1, stderr=subprocess.STDOUT, timeout=60)
    assert not list(empty.iterdir()), done.stdout
    return done.returncode, done.stdout


def files_of(folder):
    return {path: held for path, (*_, held) in snapshot(folder).items() if isinstance(held, bytes)}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_move_and_move_back(tidied, shell):
    tidied()
    folder, before = tidied.folder, files_of(tidied.folder)
    code, said = sh(shell, tidied.top / "tidy.sh")
    assert code == 0 and b"20 files" in said and b"20 moved, 0 left" in said and b"\x1b" not in said, said
    moved = files_of(tidied.top / "my photos-duplicates")
    assert len(moved) == 20 and len(files_of(folder)) == len(before) - 20
    for path, held in moved.items():
        assert before[path.replace("my photos-duplicates", "my photos", 1)] == held
    assert not [name for name in os.listdir(tidied.top) if "pwned" in name]
    code, said = sh(shell, tidied.top / "tidy-undo.sh")
    assert code == 0 and b"20 moved, 0 left" in said, said
    assert files_of(folder) == before and not (tidied.top / "my photos-duplicates").exists()
    code, said = sh(shell, tidied.top / "tidy-undo.sh", "")  # again, and nothing is asked
    assert code == 0 and said.endswith(b"All 20 are already back.\n"), said
    assert sh(shell, tidied.top / "tidy.sh")[0] == 0
    code, said = sh(shell, tidied.top / "tidy.sh", "")
    assert code == 0 and said.endswith(b"All 20 are moved already.\n"), said
    mine = tidied.top / "my photos-duplicates" / "mine.txt"
    mine.write_text("mine")
    assert sh(shell, tidied.top / "tidy-undo.sh")[0] == 0 and files_of(folder) == before
    assert list((tidied.top / "my photos-duplicates").iterdir()) == [mine]  # only empty folders go


@pytest.mark.parametrize("shell", SHELLS)
def test_what_was_moved_before_is_no_fault(tidied, shell):
    """Someone moves some files back by hand, before the undo script moves the others; and so does whoever moves by hand."""
    tidied()
    folder, away, before = tidied.folder, tidied.top / "my photos-duplicates", files_of(tidied.folder)
    sh(shell, tidied.top / "tidy.sh")
    for path in sorted(files_of(away))[:3]:
        os.rename(path, path.replace("my photos-duplicates", "my photos", 1))
    code, said = sh(shell, tidied.top / "tidy.sh")
    assert code == 0 and b"17 of them are there already." in said and b"3 moved, 17 were there already, 0 left" in said, said
    for path in sorted(files_of(away))[:3]:
        os.rename(path, path.replace("my photos-duplicates", "my photos", 1))
    code, said = sh(shell, tidied.top / "tidy-undo.sh")
    assert code == 0 and b"17 moved, 3 were there already, 0 left" in said and b"stays" not in said, said
    assert files_of(folder) == before and not away.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_of_that_name_that_is_another_one_is_told(tidied, shell):
    tidied()
    sh(shell, tidied.top / "tidy.sh")
    away = tidied.top / "my photos-duplicates"
    path = min(files_of(away))
    os.remove(path)
    mine = path.replace("my photos-duplicates", "my photos", 1)
    os.makedirs(os.path.dirname(mine), exist_ok=True)
    with open(mine, "wb") as file:
        file.write(b"another picture")
    code, said = sh(shell, tidied.top / "tidy-undo.sh")
    assert code == 1 and b"19 moved, 1 left" in said and b"it is gone or has changed" in said, said


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_that_takes_long_is_not_silent(tidied, shell):
    for number in range(90):
        shutil.copy(tidied.folder / "best.png", tidied.folder / f"{number}.png")
    tidied()
    for script in ("tidy.sh", "tidy-undo.sh"):
        code, said = sh(shell, tidied.top / script)
        assert code == 0 and b"Moving ...\n100 moved so far\n110 moved, 0 left" in said, said


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("answer", ("", "n\n", "\n", "Yes please\n"))
def test_nothing_moves_unless_it_is_wanted(tidied, shell, answer):
    tidied()
    before = snapshot(tidied.folder)
    code, said = sh(shell, tidied.top / "tidy.sh", answer)
    assert code == 1 and b"Nothing was moved" in said and snapshot(tidied.folder) == before
    assert not (tidied.top / "my photos-duplicates").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_changed_meanwhile_stays(tidied, shell):
    """The one to keep is gone, the spare one has changed or became a link, and the other place is taken."""
    gallery = tidied()
    folder, away = tidied.folder, tidied.top / "my photos-duplicates"
    spare = {
        name: folder / "deep" / "er" / f"second of {name}" for name in ("plain.jpg", "with a space.jpg", "'.jpg", '".jpg')
    }
    kept = {name: next(path for path in gallery.paths if path.endswith(f"/{name}")) for name in spare}
    moved_names = (tidied.top / "tidy.sh").read_bytes()
    for name in spare:  # whichever of the two stays
        if os.fsencode(f"second of {name}").replace(b"'", b"'\\''") not in moved_names.partition(b"files() {")[2]:
            kept[name], spare[name] = str(spare[name]), kept[name]
    os.remove(kept["plain.jpg"])
    with open(spare["with a space.jpg"], "ab") as file:
        file.write(b"more")
    taken = away / os.path.relpath(spare["'.jpg"], folder)
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    shutil.move(spare['".jpg'], tidied.top / "real.jpg")
    os.symlink(tidied.top / "real.jpg", spare['".jpg'])
    code, said = sh(shell, tidied.top / "tidy.sh")
    assert code == 1 and b"16 moved, 4 left" in said, said
    for name in ("plain.jpg", "with a space.jpg", "'.jpg", '".jpg'):
        assert os.path.exists(spare[name])
    assert taken.read_bytes() == b"mine"


def test_the_best_stays(tidied):
    folder = tidied.folder
    shutil.rmtree(folder)
    photo(folder / "best.png", 3, (480, 400))
    with Image.open(folder / "best.png") as image:
        image.resize((240, 200)).save(folder / "smaller.png")
        image.save(folder / "a coarser.jpg", quality=50)
        image.save(folder / "b finer.jpg", quality=95)
    for _ in range(3):
        photo(folder / "other.png", 9, (90, 70))
    shutil.copy(folder / "b finer.jpg", folder / "z finer too.jpg")
    os.utime(folder / "b finer.jpg", (2e9, 2e9))
    os.utime(folder / "smaller.png", (1e9, 1e9))
    sizes = {name: os.path.getsize(folder / name) for name in os.listdir(folder)}
    tidied()
    best = max((name for name in sizes if name not in ("smaller.png", "other.png")), key=lambda name: sizes[name])
    best = "z finer too.jpg" if best == "b finer.jpg" else best  # of equal files, the older one
    sh(SHELLS[0], tidied.top / "tidy.sh")
    assert sorted(os.listdir(folder)) == sorted([best, "other.png"])
    sh(SHELLS[0], tidied.top / "tidy-undo.sh")
    tidied("--keep", "oldest", script="oldest.sh")
    sh(SHELLS[0], tidied.top / "oldest.sh")
    assert sorted(os.listdir(folder)) == ["other.png", "smaller.png"]


def test_only_what_is_already_in_a_reference_moves(tidied):
    """best.png has no copy. The copies below deep/er are the reference; half of the others lie in deep, half outside."""
    tidied("--reference", "deep/er")
    sh(SHELLS[0], tidied.top / "tidy.sh")
    assert len(files_of(tidied.folder / "deep" / "er")) == 20 and os.listdir(tidied.folder / "deep") == ["er"]
    assert sorted(os.listdir(tidied.folder)) == ["best.png", "deep"]


def test_what_is_refused(tidied):
    tidied()
    for flags, match in (
        ((), "is there already"),
        (("--reference", "nowhere"), "holds no image"),
        (("--to", tidied.folder / "spare"), "among the images"),
        (("--to", "/proc/spare"), "another disk"),
    ):
        before = snapshot(tidied.top)
        with pytest.raises(InputError, match=match) as caught:
            tidied(*flags, script="tidy.sh" if not flags else "new.sh")
        assert caught.value.setting in ("script", "to", "reference") and "\n" not in str(caught.value)
        assert set(snapshot(tidied.top)) == set(before)
    with pytest.raises(InputError, match="is there already"):
        tidied(script="tidy-undo.sh")


def test_another_disk_is_not_crossed(tidied):
    """If the other folder came to lie on another disk since, nothing is copied there."""
    tidied()
    (tidied.top / "bin").mkdir()
    stat = tidied.top / "bin" / "stat"
    stat.write_text("#!/bin/sh\nfor last; do :; done\ncase $last in *duplicates*) echo 2 ;; *) echo 1 ;; esac\n")
    stat.chmod(0o755)
    path = f"{tidied.top / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [SHELLS[0], tidied.top / "tidy.sh"], input=b"y\n", stdout=-1, env={"PATH": path}, timeout=60, check=False
    )
    assert done.returncode == 1 and b"0 moved, 20 left" in done.stdout and b"another disk" in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", (*NAMES, b"\n", b"a\n", b"''", b"\\", b"\x80\xff", b"a\r\n"))
def test_a_quoted_name_is_one_word(shell, name, tmp_path):
    script = tmp_path / "x.sh"
    script.write_bytes(b"printf '%s.' " + _quoted(os.fsdecode(name)) + b"\n")
    assert subprocess.run([shell, script], stdout=-1, cwd=tmp_path, check=True).stdout == name + b"."
