"""Activations below a cut: made when a view is first asked for, then kept as float16 in a temporary, memory-mapped file."""

import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.sampler import Draw
from data.views import BadImage, Batch, ImageBatches, batch_of, share_of
from models.cut import below, trained_from
from models.embedder import Embedder
from utils import log
from utils.device import Compute
from utils.errors import InputError

PIECE = 8  # images that a CPU takes at once: the last digits depend on how many there are, not on the others
FREE = 0.8  # share of the free disk that the file may take
TURNS = 4

Place = tuple[int, int]  # an image, and which of its views: 0 is its central crop


class _Step(NamedTuple):
    """A step whose new views are being loaded."""

    draws: list[Draw]
    places: list[Place]
    new: list[Place]  # those that are to be made


class Activations:
    """What ImageBatches is to a net that trains as a whole, for one whose lower stages are frozen: the same steps and crops,
    with activations, float16 (m, ...), in place of images.

    An image has `views` random crops: the seed of a draw chooses among them, so they come again and again, and those that
    came before need no decoding and no work below the cut. A view depends on the run's seed, on its image and on its number,
    so that a run which goes on needs none of the file.
    """

    def __init__(
        self, batches: ImageBatches, embedder: Embedder, compute: Compute, folder: str, views: int = 8, seed: int = 0
    ) -> None:
        """embedder: with a cut (`models.cut.train_from`). folder: of the file, which goes with the process.

        Raises InputError where activations are not finite, or too large for float16, and where the file cannot be made.
        """
        self.batches, self.embedder, self.compute, self.views, self.seed = batches, embedder, compute, views, seed
        self._row = np.full((len(batches), 1 + TURNS * views), -1, dtype=np.int32)  # of a Place, in the file
        self._used = 0
        width = batches.images.transforms.width
        shape = below(embedder, torch.zeros(1, 3, width, width, dtype=torch.uint8)).shape[1:]
        self._kept = _file(folder, self._row.size, shape, FREE / batches.group.size)
        self._bad: dict[int, BadImage] = {}
        self._looked: list[tuple[Tensor, list[BadImage]]] = []  # what `crops` gave, once it has been through
        size, room = 2 * int(np.prod(shape)), ""
        if len(self._kept) < self._row.size:
            room = f"; there is room for {len(self._kept) / max(1, len(batches)):.1f} an image"
        crops = f"{views} random crops of an image, {size / 1000:.3g} kB each, kept in {folder}{room}"
        log.say(f"frozen below {trained_from(embedder)}: {crops}")

    def __len__(self) -> int:
        return len(self.batches)

    def steps(self, draws: Iterable[list[Draw]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """As ImageBatches.steps."""
        group = self.batches.group
        loading: deque[_Step] = deque()

        def new_views() -> Iterator[list[list[tuple[int, Draw]]]]:
            for step in draws:
                rows = sorted(row for image in share_of(step, group.rank, group.size) for row in image)
                mine = [draw for _, draw in rows]
                places = [self._place(draw) for draw in mine]
                new = [place for place in dict.fromkeys(places) if self._row[place] < 0 and place[0] not in self._bad]
                self._reserve(new)
                loading.append(_Step(mine, places, new))
                yield share_of([self._view(*place) for place in new])

        for made, bad in self.batches.load(new_views()):
            step = loading.popleft()
            self._bad.update((image.index, image) for image in bad)
            new = [place for place in step.new if place[0] not in self._bad]
            # an image whose file fails now and then has other views in `made`: it is left out as a whole
            readable = torch.tensor([index not in self._bad for index in made.index.tolist()], dtype=torch.bool)
            rows = self._below(made.images[readable])
            self._keep(new, rows)
            fresh = dict(zip(new, rows))
            good = [(draw, place) for draw, place in zip(step.draws, step.places) if draw.index not in self._bad]
            images = self._get([place for _, place in good], fresh)
            unreadable = [self._bad[i] for i in dict.fromkeys(draw.index for draw in step.draws) if i in self._bad]
            yield batch_of([draw for draw, _ in good], images), unreadable

    def crops(self, seed: tuple | None = None) -> Iterator[tuple[Tensor, Tensor | None, list[BadImage]]]:
        """As ImageBatches.crops of all images; random ones (with a seed) come as images, and nothing of them is kept."""
        if seed is not None:
            yield from self.batches.crops(seed)
            return
        for indices, bad in self._looked:
            yield indices, self._get([(index, 0) for index in indices.tolist()], {}) if len(indices) else None, bad
        if self._looked:
            return
        looked, whole = [], True
        for indices, images, bad in self.batches.crops():
            places = [(index, 0) for index in indices.tolist()]
            self._reserve(places)
            whole = whole and all(self._row[place] >= 0 for place in places)
            rows = None if images is None else self._below(images)
            if rows is not None:
                self._keep(places, rows)
            looked.append((indices, bad))
            yield indices, rows, bad
        self._looked = looked if whole else []

    # ---- which view of an image a draw means -------------------------------------------------------------------------

    def _place(self, draw: Draw) -> Place:
        view = (draw.seed + draw.crop) % self.views  # crops of one seed differ, as far as there are enough
        return draw.index, 1 + TURNS * view + max(draw.turn, 0)

    def _view(self, index: int, column: int) -> Draw:
        """The draw by which a place's image is made."""
        view, turn = divmod(column - 1, TURNS)
        seed = np.random.SeedSequence([self.seed, index, view]).generate_state(1, np.uint64)[0]
        return Draw(index, -1, int(seed >> 1), turn=turn)

    # ---- the file ----------------------------------------------------------------------------------------------------

    def _reserve(self, places: Iterable[Place]) -> None:
        """Give those places that have none a row of the file, as long as there is room."""
        for place in places:
            if self._row[place] < 0 and self._used < len(self._kept):
                self._row[place], self._used = self._used, self._used + 1

    def _keep(self, places: Sequence[Place], rows: Tensor) -> None:
        """Write rows (n, ...) of those places that have a row of the file."""
        numbers = np.array([self._row[place] for place in places], dtype=np.int64)
        self._kept[numbers[numbers >= 0]] = rows.numpy()[numbers >= 0]

    def _get(self, places: Sequence[Place], fresh: dict[Place, Tensor]) -> Tensor:
        """float16 (n, ...) of places in the file, or among those just made."""
        numbers = np.array([self._row[place] for place in places], dtype=np.int64)
        rows = torch.from_numpy(self._kept[np.maximum(numbers, 0)])
        for i in np.flatnonzero(numbers < 0).tolist():  # there was no room for them
            rows[i] = fresh[places[i]]
        return rows

    @torch.no_grad()
    def _below(self, images: Tensor) -> Tensor:
        """uint8 (n, 3, H, W) -> float16 (n, ...), on the CPU."""
        size = PIECE if self.compute.device.type == "cpu" else max(1, len(images))
        pieces = []
        for piece in images.split(size) if len(images) else ():
            filled = torch.cat([piece, piece[:1].expand(size - len(piece), *piece.shape[1:])])
            with self.compute.autocast():
                pieces.append(below(self.embedder, filled)[: len(piece)].half().cpu())
        rows = torch.cat(pieces) if pieces else torch.empty(0, *self._kept.shape[1:], dtype=torch.float16)
        if not bool(torch.isfinite(rows).all()):
            what = f"{trained_from(self.embedder)}: what comes from below it does not fit float16"
            raise InputError(f"{what}; take another stage, or all, which trains the whole net", setting="train_from")
        return rows


def below_cut(
    batches: ImageBatches, embedder: Embedder, compute: Compute, folder: str, views: int, seed: int
) -> ImageBatches | Activations:
    """What goes into the part that is trained: images as they are, or, of a net with a cut, Activations."""
    return batches if trained_from(embedder) is None else Activations(batches, embedder, compute, folder, views, seed)


def _file(folder: str, rows: int, shape: Sequence[int], share: float) -> np.ndarray:
    """A float16 array of at most so many rows in a file without a name: it takes the disk that is written to, and goes with
    the process. share: of the free disk, which it keeps to."""
    try:
        size = 2 * int(np.prod(shape))
        room = int(share * shutil.disk_usage(folder).free) // size  # a full disk under a mapped file would kill the process
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float16, mode="w+", shape=(max(1, min(rows, room)), *shape))
    except OSError as error:
        raise InputError(f"{folder}: cannot keep activations there ({error.strerror})", setting="features_dir") from None
