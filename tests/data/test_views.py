"""The views of a step and the crops, against torchvision and against the help of the flags."""

import gc
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torchvision.transforms import v2

from data.cache import Cached
from data.images import Images
from data.lists import ImageList, Paths
from data.loader import Loader, fitting_workers
from data.sampler import Draw
from data.transforms import Transforms
from data.views import BadImage, ImageBatches, Loading, Views, collate_crops, collate_views, count_workers, share_of
from utils import device
from utils.distributed import Group
from utils.errors import InputError, RunError


@pytest.fixture
def photo(tmp_path):
    """A smooth picture without symmetries: each rotation and each flip of it looks different."""
    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2.5, (x + 2 * y) * 0.8], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def views(photo, *draws):
    """Return the Batch of some draws of a photo, as a worker makes it."""
    data = Views(Images([photo], Transforms(32, 40, 0.5)))
    batch, bad = collate_views([data[rows] for rows in share_of(list(draws))])
    assert not bad
    return batch


def test_rows_come_in_the_order_of_the_draws_whatever_images_share(photo):
    draws = [Draw(0, 7, 3), Draw(0, 8, 4), Draw(0, 7, 3, False, 2, 1), Draw(0, 8, 4, False, 0), Draw(0, 7, 3, False, 3)]
    batch = views(photo, *draws)
    assert batch.images.shape == (5, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert batch.index.tolist() == [0] * 5 and batch.label.tolist() == [7, 8, 7, 8, 7]
    assert batch.turn.tolist() == [-1, -1, 2, 0, 3] and batch.metric.tolist() == [True, True, False, False, False]
    for row, draw in enumerate(draws):  # each row equals the row that its draw gives alone
        assert torch.equal(batch.images[row], views(photo, draw).images[0])


def test_a_view_is_its_crop_turned(photo):
    crops = views(photo, *[Draw(0, 0, 3, crop=crop) for crop in range(5)]).images
    assert not any(torch.equal(a, b) for i, a in enumerate(crops) for b in crops[:i])  # the five crops differ
    for crop in range(5):
        for turn in range(4):
            (view,) = views(photo, Draw(0, 0, 3, False, turn, crop)).images
            assert torch.equal(view, crops[crop].rot90(turn, (1, 2)))
    with Transforms(32, 40, 0.5).seeded(3) as crop:  # crops drawn one after the other are the same
        image = Transforms(32, 40).load(photo)
        assert all(torch.equal(view, crop(image)) for view in crops)


def test_views_depend_on_their_seed_alone(photo):
    draws = [Draw(0, 7, 3), Draw(0, 7, 3, crop=1), Draw(0, 8, 4)]
    first = views(photo, *draws).images
    before = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(views(photo, *draws).images, first)
    torch.set_rng_state(before)
    views(photo, *draws)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(views(photo, Draw(0, 7, 5)).images[0], first[0])


def test_crops_are_torchvisions(tmp_path, photo):
    """With the same random numbers, the crops equal torchvision's usual transforms, for images of any shape.

    Boxes, flips and pixels equal those of the transforms on tensors. They equal those on PIL images up to the rounding of
    two resizes. Afterwards, as many random numbers are used up.
    """
    usual = [v2.RandomResizedCrop(32, scale=(0.16, 1), antialias=True), v2.RandomHorizontalFlip()]
    on_tensors = v2.Compose(usual)
    on_pil = v2.Compose([v2.Resize(40), *usual, v2.PILToTensor()])
    ours = Transforms(32, 40, 0.16)
    for number, size in enumerate([(120, 90), (45, 300), (40, 40), (200, 41), (33, 35)]):
        with Image.open(photo) as image:
            image = image.resize(size)
        image.save(tmp_path / "image.png")
        loaded = ours.load(str(tmp_path / "image.png"))
        assert torch.equal(loaded, v2.functional.resize(v2.functional.pil_to_tensor(image), [40], antialias=True))
        for seed in range(20 * number, 20 * number + 20):
            torch.manual_seed(seed)
            got, state = ours.random_crop(loaded), torch.get_rng_state()
            assert got.shape == (3, 32, 32) and got.stride() == (1, 96, 3) and got.dtype == torch.uint8
            torch.manual_seed(seed)
            assert torch.equal(got, on_tensors(loaded)) and torch.equal(state, torch.get_rng_state())
            torch.manual_seed(seed)
            assert (got.float() - on_pil(image).float()).abs().mean() < 0.5
        assert torch.equal(ours.centre_crop(loaded), v2.functional.center_crop(loaded, [32, 32]))


def test_enlarged_batches_show_the_same_part_of_each_image(tmp_path):
    paths = []
    for number, size in enumerate([(90, 60), (40, 40), (64, 128)]):
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(noise).save(paths[-1])
    batches = ImageBatches(Images(paths, Transforms(32, 36)), 2)
    assert batches.enlarged(32) is batches
    larger = batches.enlarged(48)
    assert len(larger) == 3 and larger.images.transforms.width == 48
    for (indices, images, bad), first in zip(larger.crops(), (0, 2)):
        assert indices.tolist() == [first, first + 1][: len(indices)] and not bad
        for index, image in zip(indices.tolist(), images):
            assert torch.equal(image, Transforms(48, 54).centre_crop(Transforms(48, 54).load(paths[index])))


@pytest.mark.parametrize("workers", [0, 1])
def test_random_crops_for_clustering_repeat_by_seed(photo, workers):
    batches = ImageBatches(Images([photo, photo], Transforms(32, 40)), 2, workers, persistent=True)

    def crops(seed):
        return next(iter(batches.crops(seed)))[1]

    first = crops((0, 1))
    assert not torch.equal(first, crops((0, 2))) and torch.equal(first, crops((0, 1))) and not torch.equal(*first)
    assert torch.equal(*crops(None))  # central crops do not change


@pytest.mark.parametrize("workers", [0, 1])
def test_steps_with_workers_that_live_on(photo, workers):
    batches = ImageBatches(Images([photo] * 5, Transforms(32, 40)), 2, workers, persistent=True)
    for labels in ([[1, 2], [3]], [[4], [5, 6]]):
        steps = [[Draw(i, label, label) for i, label in enumerate(step)] for step in labels]
        assert [batch.label.tolist() for batch, _ in batches.steps(iter(steps))] == labels


def test_broken_images_are_left_out(tmp_path, photo):
    (tmp_path / "text.jpg").write_bytes(b"hello")
    images = Images([str(tmp_path / "text.jpg"), photo], Transforms(32, 40))
    steps = [[Draw(0, 1, 2), Draw(1, 5, 2), Draw(0, 1, 2, False, 1)], [Draw(0, 1, 2)]]
    (batch, bad), (empty, all_bad) = ImageBatches(images, 2).steps(steps)
    assert batch.label.tolist() == [5] and [item.index for item in bad] == [0] and "text.jpg" in bad[0].message
    assert empty.images.shape == (0, 3, 32, 32) and [len(field) for field in empty] == [0] * 5 and len(all_bad) == 1
    assert collate_crops([BadImage(0, "x")])[1] is None


@pytest.mark.parametrize("arguments", [(227, 128), (0, 10), (8, 8, 0.0), (8, 8, 1.5)])
def test_sizes_that_do_not_fit(arguments):
    with pytest.raises(InputError):
        Transforms(*arguments)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_shares_of_several_processes_are_the_whole_list(photo, size):
    images = Images([photo] * 5, Transforms(32, 40))

    def crops(rank, size):
        return [
            (int(i), image)
            for indices, made, _ in ImageBatches(images, 2, group=Group(rank, size)).crops((0, 1))
            for i, image in zip(indices, made if made is not None else ())
        ]

    whole, together = crops(0, 1), sum((crops(rank, size) for rank in range(size)), [])
    assert [index for index, _ in whole] == [index for index, _ in together] == [0, 1, 2, 3, 4]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole, together))  # random crops are the same in any process
    stretches = [Group(rank, size).stretch(5) for rank in range(size)]  # the split by which features are gathered
    assert [[index for index, _ in crops(rank, size)] for rank in range(size)] == [list(some) for some in stretches]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 5)), max_size=20), st.sampled_from([1, 2, 3, 5])
)
def test_the_shares_of_a_step_are_its_draws(images, size):
    step = [Draw(index, 0, seed, turn=row) for index, seed, rows in images for row in range(rows)]
    shares = [share_of(step, rank, size) for rank in range(size)]
    assert sorted(row for share in shares for image in share for row, _ in image) == list(range(len(step)))
    for image in [image for share in shares for image in share]:
        assert len({(draw.index, draw.seed) for _, draw in image}) == 1 and all(step[row] == draw for row, draw in image)
    assert len({(d.index, d.seed) for d in step}) == sum(map(len, shares))  # each image is decoded once, in one process
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("rotated", [0, 3, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_processes_have_as_many_rotated_images_as_the_others(size, rotated):
    step = [Draw(index, 0, 0, turn=turn) for index in range(16) for turn in range(4 if index < rotated else 1)]
    turned = [sum(len(image) == 4 for image in share_of(step, rank, size)) for rank in range(size)]
    assert sum(turned) == rotated and max(turned) - min(turned) <= 1


@pytest.mark.parametrize(
    "asked, images, device, expected",
    [(None, 10**6, "cpu", 0), (3, 10, "cpu", 3), (None, 999, "cuda", 0), (None, 1000, "cuda", min(8, os.cpu_count()))],
)
def test_count_workers(asked, images, device, expected, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert count_workers(asked, images, device) == expected


class Ends(torch.utils.data.Dataset):
    """A data set that calls `how` to load item 1, in the process that loads it."""

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            time.sleep(0.1)
            self.how()
        return index


def killed():
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does if memory runs out


def fault():
    raise RuntimeError("a fault of ours")


@pytest.fixture
def short_waits(monkeypatch):
    """Shorten the loader's waits of 5 s: for a batch, between checks of the workers, and for workers to end."""
    waits = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waits, "__defaults__", (0.1,))
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    yield
    gc.collect()  # loaders that an exception still holds must end their workers now, not in a later test


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_a_run_error(short_waits, persistent):
    batches = iter(Loader(Ends(killed), num_workers=1, persistent_workers=persistent))
    assert next(batches).tolist() == [0]
    with pytest.raises(RunError, match="use fewer of them") as caught:
        next(batches)
    assert caught.value.rescue and len(str(caught.value).splitlines()) == 1 and caught.value.__suppress_context__


def test_a_killed_worker_does_not_break_the_step_in_which_it_ends(short_waits):
    """The loss of a worker is noticed when its next batch is requested. Earlier, the run would be at a position that it
    cannot save."""
    whole = []
    with pytest.raises(RunError):
        for batch in Loader(Ends(killed), num_workers=1):
            time.sleep(0.5)
            whole.append(batch.item())
    assert whole == [0]


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError(), FileNotFoundError(2, "x")])
def test_a_worker_killed_while_it_hands_over_a_batch_is_a_run_error(monkeypatch, error):
    """The main process only sees a broken connection."""

    def broken(self):
        raise error

    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_next_data", broken)
    with pytest.raises(RunError, match="a data loading process was killed") as caught:
        next(iter(Loader(Ends(int), num_workers=1)))
    assert caught.value.rescue
    monkeypatch.setattr(torch.utils.data.dataloader._SingleProcessDataLoaderIter, "_next_data", broken)
    with pytest.raises(type(error)):  # without workers, this is a bug, so it is not translated
        next(iter(Loader(Ends(int))))


def test_a_fault_in_a_worker_is_not_taken_for_a_kill(short_waits):
    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(Loader(Ends(fault), num_workers=1))


def test_a_fault_without_workers_stays_what_it_is():
    with pytest.raises(RuntimeError, match="^a fault of ours"):
        list(Loader(Ends(fault)))


@pytest.mark.parametrize("cache, processes, expected", [
    ("auto", 1, Cached), ("auto", 2, Images), ("ram", 2, Cached), ("none", 1, Images), (None, 1, Images),
])  # fmt: skip
def test_images_are_kept_in_memory_once_and_not_by_each_process(photo, cache, processes, expected):
    images = ImageList(Paths([photo] * 3), None, "list.txt")
    loading = Loading(Transforms(32, 40), 2, None, device.choose("cpu"), Group(0, processes))
    assert type(loading.load(images, cache).images) is expected


@pytest.mark.parametrize("megabytes, expected", [(1000, 4), (70, 2), (10, 0)])
def test_small_shared_memory_means_fewer_processes(monkeypatch, megabytes, expected):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=megabytes * 2**20))
    lines = []
    monkeypatch.setattr("utils.log.warn", lines.append)
    assert fitting_workers(4) == expected
    assert len(lines) == (expected < 4) and all("/dev/shm has" in line and "--shm-size" in line for line in lines)


def test_without_shared_memory_the_main_process_loads(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    images = ImageBatches(Images([str(tmp_path / "a.png")], Transforms(32, 36)), 4, workers=2, persistent=True)
    ((indices, crops, bad),) = images.crops()
    assert indices.tolist() == [0] and crops.shape == (1, 3, 32, 32) and not bad
