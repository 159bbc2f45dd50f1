"""A gallery's folder: the names of its files, and the protocol by which one writer and any number of readers share it.

about.json         net, readout, model, pixel version, stamp (identifies this state of the gallery), source
model.pth.tar      the Embedder that made the gallery, for queries and for later images
embeddings.npy     float32 or float16 (N, d), rows of length 1, in order of the paths
prints.npy         uint8 (N, S, S), `gallery.thumbprints.thumbprint` of each image
images.sqlite      what is known of each file: `images`, `bad` (unreadable) and `left_out`; see gallery/table.py
contents.sqlite    facts and thumbnails by the hash of a file; it grows while embed.py works; old and new state share it
index.json         the index of `gallery/index.py`; beside it index.faiss for an inverted file
query.onnx         the model as a graph for queries from the shell, written by the first; query.json says of which model
derived/           results computed from these files, kept until they change
not_duplicates.txt pairs and groups of images that the user marked as "not duplicates"
progress.json      what embed.py is doing, while it runs
judged.json        what scores without labels said of training on the images; see gallery/judged.py
making/            the next gallery, unfinished: the same names, and plan.json, hashes.npy, done.npy
making.new/        a new `making`, being prepared; making.old/: the `making` that it replaces

The protocol. One writer at a time holds the folder's lock (`utils/lock.py`); readers hold nothing.

1. The writer touches only `making` until the last row is written. If it stops before, readers see the old gallery, and the
   next writer keeps the rows that `making` marks as done.
2. Then it writes `making/about.json`: from that moment the new gallery is whole. `put_in_place` moves file after file,
   about.json last. Each move replaces the old file at once, so no name is ever missing. If the writer is killed between two
   moves, the remaining files stay in `making`, and the next writer moves them first.
3. A reader reads about.json, then the files, then about.json again. If the stamp changed, or `making/about.json` exists,
   files of two galleries may be mixed. The reader then refuses the gallery in one line.
4. A reader keeps the gallery that it opened. Its memory maps stay on the old files, which the system removes when the last
   reader closes them.
5. A first gallery of many images is put in place several times, each time with more images (gallery/growth.py). In its
   about.json `of` is the number of all images, and `plain` marks plain features in place of a closed form that is not
   fitted yet. The last state has neither.
6. Results (derived/, the index) carry the stamp of their gallery, and are used only while about.json has it too. So it
   does no harm if a reader of the old gallery still writes them: readers of the new gallery ignore and replace them.
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from data.lists import shown
from utils.errors import InputError
from utils.files import write_json

FORMAT = 2  # of the folder; 1 had no facts, no thumbnails and no list of what was left out
READ = (1, 2)  # formats that are read; others are refused
KNOWN = ("name", "root", "source", "kind", "net", "dim", "model", "dtype", "stamp")  # about.json must have these keys
PLACES = ("embeddings.npy", "prints.npy", "images.sqlite", "model.pth.tar", "about.json")  # about.json comes last
OF_MAKING = ("hashes.npy", "done.npy", "plan.json")


class GalleryFolder:
    """The paths of a gallery's files. Reads and writes about.json, and moves a finished gallery to its place."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.path.abspath(path)
        self.about, self.model, self.table = map(self._in, ("about.json", "model.pth.tar", "images.sqlite"))
        self.index, self.inverted_file, self.plan = map(self._in, ("index.json", "index.faiss", "plan.json"))
        self.contents = self._in("contents.sqlite")
        self.query_graph, self.query_about = map(self._in, ("query.onnx", "query.json"))
        self.not_duplicates, self.progress = self._in("not_duplicates.txt"), self._in("progress.json")
        self.judged = self._in("judged.json")

    def __fspath__(self) -> str:
        return self.path

    def _in(self, name: str) -> str:
        return os.path.join(self.path, name)

    def array(self, name: str) -> str:
        """Return the file of an array: embeddings, prints; in `making` also hashes and done."""
        return self._in(f"{name}.npy")

    def derived(self, name: str) -> str:
        """Return the file of arrays that were computed from the gallery."""
        return self._in(os.path.join("derived", f"{name}.npz"))

    @property
    def making(self) -> "GalleryFolder":
        """The folder in which the next gallery is made."""
        return GalleryFolder(self._in("making"))

    @property
    def laid_out(self) -> "GalleryFolder":
        """The folder that `replace_making` turns into `making`."""
        return GalleryFolder(self._in("making.new"))

    # ---- about.json --------------------------------------------------------------------------------------------------

    def read_about(self) -> dict[str, Any]:
        """Read about.json. Raises InputError if it is missing or this program cannot read it."""
        try:
            about = read_json(self.about)
        except FileNotFoundError:
            name = shown(self.path)
            raise InputError(f"{name}: no gallery; make it with embed.py --images FOLDER --out {name}") from None
        except Exception as error:  # a damaged file can fail in any way
            raise InputError(f"{shown(self.about)}: damaged ({shown(str(error))}); run embed.py with --again") from None
        if about.get("format") not in READ or not set(KNOWN) <= set(about):
            raise InputError(f"{shown(self.about)}: of another version of this program; run embed.py with --again")
        return about

    def write_about(self, about: dict[str, Any]) -> None:
        """Write about.json, whole or not at all."""
        write_json(self.about, {"format": FORMAT, **about})

    # ---- from making to its place ------------------------------------------------------------------------------------

    def refuse_foreign(self) -> None:
        """Raise InputError if a folder that would be removed holds files of another program."""
        ours = tuple(name.partition(".")[0] for name in (*PLACES, *OF_MAKING))
        for path in map(self._in, ("making", "making.new", "making.old")):
            if os.path.isdir(path) and not all(name.startswith(ours) for name in os.listdir(path)):
                raise InputError(f"{shown(path)}: holds files of another program; give another folder", setting="out")

    def replace_making(self) -> None:
        """Put the laid-out folder in the place of `making`."""
        old = self._in("making.old")
        remove(old)
        if os.path.exists(self.making):
            os.rename(self.making, old)
        os.rename(self.laid_out, self.making)
        remove(old)

    def put_in_place(self) -> None:
        """Move a whole `making` to its place, or go on with a move that was stopped. Do nothing if `making` is not whole."""
        making, old = self.making, self._in("making.old")
        if os.path.exists(old) and not os.path.exists(making):
            os.rename(old, making)  # a writer was stopped between two renames
        remove(old)
        if not os.path.exists(making.about):
            return
        if os.path.exists(making.model):
            remove(self.index)  # the index is of another model
        for name in PLACES:
            source, target = making._in(name), self._in(name)
            if os.path.exists(source):
                if os.path.isdir(target):
                    remove(target)
                os.replace(source, target)
        remove(making.path)

    def amend(self, about: dict[str, Any]) -> None:
        """Add entries to about.json, and replace a lost model by that of `making`.

        Call this only if the gallery already holds exactly the present images.
        """
        previous = self.read_about()
        if previous != {**previous, **about}:
            self.write_about({**previous, **about})
        with suppress(FileNotFoundError):
            os.replace(self.making.model, self.model)
        # The gallery holds all present images, so an unfinished `making` could only add images that the user has deleted.
        remove(self.making.path)


def refuse_among_photos(out: str, roots: Sequence[str]) -> None:
    """Raise InputError if `out` lies in a folder of the images, in which nothing is written."""
    real = os.path.join(os.path.realpath(out), "")
    if any(real.startswith(os.path.join(os.path.realpath(root), "")) for root in roots):
        raise InputError(f"{shown(out)}: lies in the folder of the images, in which nothing is written; give another", "out")


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON file as a dict. Raises OSError or ValueError if that fails."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise ValueError(f"{os.path.basename(path)} does not hold a JSON object")
    return content


def remove(path: str) -> None:
    """Remove a file or folder, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            os.remove(path)
