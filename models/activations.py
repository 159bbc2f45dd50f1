"""Activations below a cut: computed when a view is first used, then kept as float16 in a temporary, memory-mapped file."""

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

PIECE = 8  # images in every pass on a CPU: a row's last digits depend on their number, not on the other images
FREE = 0.8  # share of the free disk that the file may take
TURNS = 4

Place = tuple[int, int]  # image, and number of its view; view 0 is the central crop


class _Step(NamedTuple):
    """A step whose new views are being loaded."""

    draws: list[Draw]
    places: list[Place]
    new: list[Place]  # places whose activations are to be computed


class Activations:
    """ImageBatches for a net whose lower stages are frozen: the same steps and crops, with activations, float16 (m, ...),
    in place of images.

    An image has `views` random crops, and the seed of a draw chooses one. A view that came before needs no decoding and no
    pass below the cut. A view depends only on the run's seed, its image and its number: a resumed run needs no old file.
    """

    def __init__(
        self, batches: ImageBatches, embedder: Embedder, compute: Compute, folder: str, views: int = 8, seed: int = 0
    ) -> None:
        """embedder: has a cut (`models.cut.train_from`). folder: holds the file, which disappears with the process.

        Raises InputError if the file cannot be made. `steps` and `crops` raise it for activations not finite in float16.
        """
        self.batches, self.embedder, self.compute, self.views, self.seed = batches, embedder, compute, views, seed
        self._row = np.full((len(batches), 1 + TURNS * views), -1, dtype=np.int32)  # Place -> row of the file
        self._used = 0
        width = batches.images.transforms.width
        shape = below(embedder, torch.zeros(1, 3, width, width, dtype=torch.uint8)).shape[1:]
        self._kept = _file(folder, self._row.size, shape, FREE / batches.group.size)
        self._bad: dict[int, BadImage] = {}
        self._looked: list[tuple[Tensor, list[BadImage]]] = []  # results of the first whole pass of `crops`
        size, room = self.bytes_of(1), ""
        if len(self._kept) < self._row.size:
            room = f"; there is room for {len(self._kept) / max(1, len(batches)):.1f} per image"
        crops = f"{views} random crops per image, {size / 1000:.3g} kB each, kept in {folder}{room}"
        log.say(f"frozen below {trained_from(embedder)}: {crops}")

    def __len__(self) -> int:
        return len(self.batches)

    def bytes_of(self, views: float) -> int:
        """Return the bytes that the file takes once it holds that many views, or as many as it has room for."""
        return round(min(views, len(self._kept))) * self._kept[0].nbytes

    def steps(self, draws: Iterable[list[Draw]]) -> Iterator[tuple[Batch, list[BadImage]]]:
        """Yield the same as ImageBatches.steps, with activations in place of images."""
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

        for loaded, bad in self.batches.load(new_views()):
            step = loading.popleft()
            self._bad.update((image.index, image) for image in bad)
            new = [place for place in step.new if place[0] not in self._bad]
            # a file that fails now and then can have other views in `loaded`: the whole image is left out
            readable = torch.tensor([index not in self._bad for index in loaded.index.tolist()], dtype=torch.bool)
            rows = self._below(loaded.images[readable])
            self._keep(new, rows)
            fresh = dict(zip(new, rows))
            usable = [(draw, place) for draw, place in zip(step.draws, step.places) if draw.index not in self._bad]
            images = self._get([place for _, place in usable], fresh)
            unreadable = [self._bad[i] for i in dict.fromkeys(draw.index for draw in step.draws) if i in self._bad]
            yield batch_of([draw for draw, _ in usable], images), unreadable

    def crops(self, seed: tuple | None = None) -> Iterator[tuple[Tensor, Tensor | None, list[BadImage]]]:
        """Yield the same as ImageBatches.crops for all images; random crops (with a seed) stay images and are not kept."""
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
        view = (draw.seed + draw.crop) % self.views  # crops of one seed differ while there are enough views
        return draw.index, 1 + TURNS * view + max(draw.turn, 0)

    def _view(self, index: int, column: int) -> Draw:
        """Return the draw that produces the view at a place."""
        view, turn = divmod(column - 1, TURNS)
        seed = np.random.SeedSequence([self.seed, index, view]).generate_state(1, np.uint64)[0]
        return Draw(index, -1, int(seed >> 1), turn=turn)

    # ---- the file ----------------------------------------------------------------------------------------------------

    def _reserve(self, places: Iterable[Place]) -> None:
        """Assign a row of the file to each place that has none, while there is room."""
        for place in places:
            if self._row[place] < 0 and self._used < len(self._kept):
                self._row[place], self._used = self._used, self._used + 1

    def _keep(self, places: Sequence[Place], rows: Tensor) -> None:
        """Write the activations (n, ...) of places to the file; skip places that have no row in it."""
        numbers = np.array([self._row[place] for place in places], dtype=np.int64)
        self._kept[numbers[numbers >= 0]] = rows.numpy()[numbers >= 0]

    def _get(self, places: Sequence[Place], fresh: dict[Place, Tensor]) -> Tensor:
        """Return the activations of places, float16 (n, ...), from the file or else from `fresh`."""
        numbers = np.array([self._row[place] for place in places], dtype=np.int64)
        rows = torch.from_numpy(self._kept[np.maximum(numbers, 0)])
        for i in np.flatnonzero(numbers < 0).tolist():  # the file had no room for these
            rows[i] = fresh[places[i]]
        return rows

    @torch.no_grad()
    def _below(self, images: Tensor) -> Tensor:
        """Run images through the frozen stages: uint8 (n, 3, H, W) -> float16 (n, ...), on the CPU."""
        size = PIECE if self.compute.device.type == "cpu" else max(1, len(images))
        pieces = []
        for piece in images.split(size) if len(images) else ():
            filled = torch.cat([piece, piece[:1].expand(size - len(piece), *piece.shape[1:])])
            with self.compute.autocast():
                pieces.append(below(self.embedder, filled)[: len(piece)].half().cpu())
        rows = torch.cat(pieces) if pieces else torch.empty(0, *self._kept.shape[1:], dtype=torch.float16)
        if not bool(torch.isfinite(rows).all()):
            what = f"{trained_from(self.embedder)}: the activations below it do not fit float16"
            raise InputError(f"{what}; take another stage, or all, which trains the whole net", setting="train_from")
        return rows


def below_cut(
    batches: ImageBatches, embedder: Embedder, compute: Compute, folder: str, views: int, seed: int
) -> ImageBatches | Activations:
    """Return the inputs of the trained part: `batches` as they are, or their Activations if the net has a cut."""
    return batches if trained_from(embedder) is None else Activations(batches, embedder, compute, folder, views, seed)


def _file(folder: str, rows: int, shape: Sequence[int], share: float) -> np.ndarray:
    """Create a float16 array of at most `rows` rows in an unnamed file, which disappears with the process. It takes disk
    space only for written rows. share: part of the free disk that it may take."""
    try:
        size = 2 * int(np.prod(shape))
        room = int(share * shutil.disk_usage(folder).free) // size  # a full disk under a mapped file would kill the process
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float16, mode="w+", shape=(max(1, min(rows, room)), *shape))
    except OSError as error:
        raise InputError(f"{folder}: cannot keep activations there ({error.strerror})", setting="features_dir") from None
