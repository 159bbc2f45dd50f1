"""Fits the closed form to images without labels, in a few passes over them.

Images come in blocks and are not kept; torchrun's processes share them. `models/choice.py` chooses the weights.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.views import ImageBatches
from models.choice import RULE, WEIGHTS, Choice, best, candidates, choose
from models.closed_form import REDUCED, ClosedForm, Covariance, Moments, principal
from models.embedder import Embedder, full_precision
from models.engine import use
from models.taps import evaluating, middle_and_last, positions, prefix_tokens, stages
from utils import log
from utils.arrays import evenly
from utils.clustering.agreement import nearest_others, soft_agreement
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.features import report_bad
from utils.progress import bar

REDUCED_BY = 512  # most images used to compute the PCA of the channels
ENOUGH = 300  # "auto" takes the closed form from this many images on
SAMPLE = 2048  # most images on which agreement is measured
RATIO = 0.5  # smallest share of the image in a random crop; smaller crops make agreement noisier
CROPS = (2, 8)  # fewest and most random crops of each of these images, to reach CROPPED crops in all
CROPPED = 4096
NEAREST = 20  # nearest images of each crop by which nets are judged: at most, and one for every EACH images
EACH = 4  # among fewer images, chance alone would find most of the nearest
VARIATION = 1e-9  # variance / squared mean: identical images stay below by rounding, all others are far above


class NoVariation(InputError):
    """The images do not differ: a closed form of them would put everything at similarity 1 to everything."""


class Seen(NamedTuple):
    """The closed form of a net before it is fitted, and descriptions of the images by it."""

    form: ClosedForm
    covariance: Covariance
    views: list[Tensor]  # of the sample (n, P): of the central crops, then of each set of random crops
    unreadable: tuple[int, ...]  # images


class Look(NamedTuple):
    """The closed forms of a net for each weight of the second order, for scores without labels."""

    agreement: dict[float, float]  # soft agreement
    # int32 (crops, n, k): the k nearest other images of each random crop, nearest first
    nearest: dict[float, np.ndarray]
    unreadable: tuple[int, ...]  # images

    @property
    def chosen(self) -> np.ndarray:
        """The nearest images at the weight that soft agreement chooses."""
        return list(self.nearest.values())[best(list(self.agreement.values()))]


class Fitter:
    """Fits closed forms to the images of `batches`: call it with one Embedder after another."""

    def __init__(
        self,
        batches: ImageBatches,
        compute: Compute,
        group: Group = Group(),
        readout: str = "closed_form",
        seed: int = 0,
        on_bad_image: str = "stop",
        weights: Sequence[float] = WEIGHTS,
    ) -> None:
        """readout: "closed_form", or "auto", which keeps the embedding head as the readout below ENOUGH images. seed: of
        the random crops. on_bad_image: as in `utils.features.report_bad`. weights: candidates for the weight of the middle
        stage's second order."""
        self.batches, self.compute, self.group, self.readout = batches, compute, group, readout
        self.seed, self.on_bad_image, self.weights = seed, on_bad_image, weights

    def __call__(self, embedder: Embedder) -> list[Choice]:
        """Give the Embedder a closed form of its dim, fitted to its present backbone. Logs and returns all choices tried.

        Raises InputError if no image can be read, or if features are not finite.
        """
        try:
            with evaluating(embedder), torch.no_grad():
                form, choices = self._fit(embedder)
        except BaseException:
            embedder.closed_form = None
            raise
        embedder.closed_form = form
        parts = ["first order", *(f"second order of {name}" for name in form.layers)]
        table = ", ".join(f"{choice.agreement:.1%} at {choice.weight:g}" for choice in choices if len(parts) > 1)
        if table:
            log.say(f"closed form: agreement of crops for each weight of the second order of {form.layers[0]}: {table}")
        weighted = ", ".join(f"{weight:g} x {part}" for weight, part in zip(form.weights.tolist(), parts))
        log.say(f"closed form: {weighted}" + ("" if form.is_preferred else "; too few images, so the embedding is kept"))
        return choices

    def agreements(self, embedder: Embedder) -> dict[float, float]:
        """Return the net's own soft agreement for each weight, on the sample; {} if the embedding head is the readout."""
        return {} if self.readout == "embedding" else self.look(embedder, nearest=False).agreement

    def look(self, embedder: Embedder, nearest: bool = True) -> Look:
        """Look at the sample through the net, without what is known of the net before training. nearest: False leaves the
        nearest images out."""
        with evaluating(embedder), torch.no_grad():
            form, covariance, views, unreadable = self._see(embedder, sample_only=True)
        embedder.closed_form = None
        look = Look({}, {}, unreadable)
        if self.group.rank == 0:
            count = min(NEAREST, max(1, len(views[0]) // EACH)) if nearest else 0
            for weights, (centre, *crops) in candidates(form, covariance, views, self.weights):
                weight = Choice(weights, 0.0).weight
                look.agreement[weight] = soft_agreement(centre, crops, RULE.temperature)
                if count:
                    lists = [nearest_others(rows, centre, count).numpy(force=True) for rows in crops]
                    look.nearest[weight] = np.stack(lists)
        return self.group.share_object(look)

    def describe_only(self, embedder: Embedder) -> None:
        """Give the Embedder a closed form that can give a "description" but has no projection yet."""
        progress = bar(total=self._reducing, desc="channels", unit="img", leave=False)
        with evaluating(embedder), torch.no_grad(), progress:
            embedder.closed_form = self._open(embedder, progress)

    @property
    def images_seen(self) -> int:
        """The number of images that go through the net in a fit."""
        return self.images_sampled + len(self.batches) - min(len(self.batches), SAMPLE)

    @property
    def images_sampled(self) -> int:
        """The number of images that go through the net in `agreements`."""
        return self._reducing + (1 + self._crops) * min(len(self.batches), SAMPLE)

    @property
    def _crops(self) -> int:
        return min(max(CROPPED // max(1, min(len(self.batches), SAMPLE)), CROPS[0]), CROPS[1])

    @property
    def _reducing(self) -> int:
        return min(len(self.batches), REDUCED_BY)

    def _open(self, embedder: Embedder, progress: Any) -> ClosedForm:
        """Make a closed form, and reduce its channels by the positions of a sample of images."""
        use(embedder, self.compute, self.images_seen, self.group)
        width, device = embedder.transforms.width, embedder.classifier.linear.weight.device
        sizes = stages(embedder.features, torch.zeros(1, 3, width, width, device=device))
        layers = {name: (sizes[name][1], min(REDUCED, sizes[name][1])) for name in middle_and_last(sizes)}
        form = ClosedForm(embedder.feature_dim, layers, embedder.dim, prefix_tokens(embedder.features)).to(device)
        sample = evenly(len(self.batches), self._reducing).tolist()
        self._reduce_channels(embedder, form, self._seen(sample, None, progress))
        return form

    def _fit(self, embedder: Embedder) -> tuple[ClosedForm, list[Choice]]:
        form, covariance, views, unreadable = self._see(embedder)
        before = embedder.agreement_before
        choices = choose(form, covariance, views, self.weights, before) if self.group.rank == 0 else []
        form.prefer(self.readout != "auto" or len(self.batches) - len(unreadable) >= ENOUGH)
        self.group.share_state(form)
        return form, self.group.share_object(choices)

    def _see(self, embedder: Embedder, sample_only: bool = False) -> Seen:
        """Describe all images, or only the sample, and random crops of the sample. The views are in process 0 alone."""
        count, sample = len(self.batches), evenly(len(self.batches), SAMPLE).tolist()
        total, centre = (self.images_sampled, sample) if sample_only else (self.images_seen, range(count))
        with bar(total=total, desc="closed form", unit="img", leave=False) as progress:
            form = embedder.closed_form = self._open(embedder, progress)
            moments, bad = Moments(form.mean.shape[0]), dict[int, Any]()
            views = [self._describe(embedder, moments, self._seen(centre, None, progress, bad), set(sample))]
            for crop in range(self._crops):
                seen = self._seen(sample, (self.seed, crop), progress, bad)
                views.append(self._describe(embedder, moments, seen, set(sample)))
        bad = {index: image for part in self.group.gather_objects(bad) for index, image in part.items()}
        report_bad([bad[index] for index in sorted(bad)], self.on_bad_image)
        covariance = moments.total(self.group)
        if not covariance.rows:
            raise InputError(f"none of the {count} images can be read, the first: {bad[min(bad)].message}")
        if covariance.matrix.diagonal().sum() <= VARIATION * covariance.mean.square().sum():
            raise NoVariation(f"the {count - len(bad)} images look all the same, so no closed form can be fitted to them")
        gathered = [self._collect(*view, len(sample), set(bad)) for view in views]
        return Seen(form, covariance, gathered, tuple(sorted(bad)))

    # ---- passes over the images --------------------------------------------------------------------------------------

    def _seen(
        self, indices: Sequence[int], seed: tuple | None, progress: Any, bad: dict[int, Any] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (indices, images) of this process's share of the readable images; the unreadable images go to `bad`."""
        for numbers, images, unreadable in self.batches.crops(seed, indices, RATIO):
            progress.update(len(numbers) + len(unreadable))
            if bad is not None:
                bad.update((image.index, image) for image in unreadable)
            if images is not None:
                with self.compute.autocast():
                    yield numbers, images

    def _reduce_channels(self, embedder: Embedder, form: ClosedForm, seen: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set `form.reduce` to the principal directions of each stage's channels over positions."""
        moments = {name: Moments(buffer.shape[0]) for name, buffer in zip(form.layers, form.reduce.buffers())}
        for _, images in seen:
            for pooled, maps in embedder.trunk(images, form.layers):
                with full_precision(pooled):
                    for name, total in moments.items():
                        total.add(positions(maps[name], form.prefix_tokens).flatten(0, 1).float())
        for buffer, total in zip(form.reduce.buffers(), moments.values()):
            _, vectors = principal(total.total(self.group).matrix, buffer.shape[1])
            buffer.zero_()
            buffer[:, : vectors.shape[1]] = self.group.share_object(vectors).to(buffer)

    def _describe(
        self, embedder: Embedder, moments: Moments, seen: Iterable[tuple[Tensor, Tensor]], sample: set[int]
    ) -> tuple[list[int], Tensor]:
        """Add the descriptions of images to the moments. Returns the indices and descriptions (n, P) of sampled images."""
        places, kept = list[int](), [torch.empty(0, moments.dim)]
        for numbers, images in seen:
            (description,) = embedder.read(images, "description")
            with full_precision(description):
                moments.add(description)
            mask = [number in sample for number in numbers.tolist()]
            places += numbers[mask].tolist()
            kept.append(description.cpu()[mask])
        return places, torch.cat(kept)

    def _collect(self, places: list[int], rows: Tensor, most: int, without: set[int]) -> Tensor:
        """Gather the rows in process 0, in order, skipping the images in `without`."""
        room = np.zeros((most if self.group.size > 1 else len(rows), rows.shape[1]), np.float32)
        room[: len(rows)] = rows
        self.group.collect(room, len(rows))
        everywhere = [place for share in self.group.gather_objects(places) for place in share]
        return torch.from_numpy(room[: len(everywhere)])[[place not in without for place in everywhere]]
