"""The views of a step and the crops: against torchvision and against what the flags promise."""

import gc
import os
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torchvision.transforms import v2

from data.images import Images
from data.sampler import Draw
from data.transforms import Normalise, Transforms
from data.views import BadImage, Loader, TrainViews, collate_crops, collate_views, crops_loader
from models import Preprocessing
from utils.distributed import Group
from utils.errors import InputError, RunError


@pytest.fixture
def photo(tmp_path):
    """A smooth picture without symmetries: every rotation and flip of it differs."""
    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2.5, (x + 2 * y) * 0.8], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def views(photo, rot_bt, metric=True, rotate=True, seed=3):
    data = TrainViews(Images([photo], Transforms(32, 40, 0.5)), rot_bt)
    return collate_views([data[Draw(0, 7, seed, metric, rotate)], data[Draw(0, 8, seed + 1, metric, False)]])


def test_rot_bt_0_rotates_one_crop_and_shares_the_metric_view(photo):
    batch = views(photo, rot_bt=False)
    assert batch.images.shape == (5, 3, 32, 32) and batch.labels.tolist() == [7, 8]  # 2 metric views, 3 rotations
    assert batch.rotation_index.tolist() == [0, 2, 3, 4] and batch.rotation_labels.tolist() == [0, 1, 2, 3]
    for turns, index in enumerate(batch.rotation_index):
        assert torch.equal(batch.images[index], batch.images[0].rot90(turns, (1, 2)))


def test_rot_bt_1_crops_each_rotation_by_itself(photo):
    batch = views(photo, rot_bt=True)
    assert batch.images.shape == (6, 3, 32, 32) and batch.rotation_index.tolist() == [2, 3, 4, 5]
    upright = [batch.images[i].rot90(-turns, (1, 2)) for turns, i in enumerate(batch.rotation_index)]
    assert not any(torch.equal(a, b) for i, a in enumerate(upright) for b in upright[:i])  # four different crops
    for view in upright:  # turned as its label says: green grows downwards, flipped or not
        assert view[1].float().mean(1).diff().mean() > 0.5


@pytest.mark.parametrize("rot_bt", [False, True])
def test_rot_only_makes_no_metric_view(photo, rot_bt):
    data = TrainViews(Images([photo], Transforms(32, 40)), rot_bt)
    batch = collate_views([data[Draw(0, 7, 1, False, True)]])
    assert len(batch.images) == 4 and not len(batch.labels) and batch.rotation_index.tolist() == [0, 1, 2, 3]


def test_views_depend_on_their_seed_alone(photo):
    first = views(photo, True).images
    before = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(views(photo, True).images, first)
    torch.set_rng_state(before)
    views(photo, True)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(views(photo, True, seed=4).images, first)


def test_crops_are_torchvisions(tmp_path, photo):
    """Same random numbers, the usual transforms: the boxes, flips and pixels of those on tensors, and up to rounding in
    two resizes those on the PIL image, for any shape; afterwards as many random numbers are used up."""
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


@pytest.mark.parametrize("workers", [0, 1])
def test_random_crops_for_clustering_repeat_by_seed(photo, workers):
    loader = crops_loader(Images([photo, photo], Transforms(32, 40)), 2, workers, persistent=True)

    def crops(seed):
        loader.sampler.seed = seed
        return next(iter(loader))[1]

    first = crops((0, 1))
    assert not torch.equal(first, crops((0, 2))) and torch.equal(first, crops((0, 1))) and not torch.equal(*first)
    assert torch.equal(*crops(None))  # central


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([False, True]), st.tuples(*[st.floats(1, 250)] * 3), st.tuples(*[st.floats(1, 90)] * 3))
def test_normalise(bgr, mean, std):
    image = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    pixels = image.numpy().astype(np.float64)
    pixels = pixels[:, ::-1] if bgr else pixels
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    got = Normalise(Preprocessing(mean, std, bgr), channels_last=True)(image)
    assert got.dtype == torch.float32 and got.is_contiguous(memory_format=torch.channels_last)
    assert np.allclose(got.numpy(), expected, atol=1e-3)


def test_broken_images_are_left_out(tmp_path, photo):
    (tmp_path / "text.jpg").write_bytes(b"hello")
    data = TrainViews(Images([str(tmp_path / "text.jpg"), photo], Transforms(32, 40)), True)
    batch = collate_views([data[Draw(0, 1, 2, True, True)], data[Draw(1, 5, 2, True, True)]])
    assert batch.labels.tolist() == [5] and batch.rotation_index.tolist() == [1, 2, 3, 4]
    assert [item.index for item in batch.bad] == [0]
    assert collate_crops([BadImage(0, "x")])[1] is None


@pytest.mark.parametrize("arguments", [(227, 128), (0, 10), (8, 8, 0.0), (8, 8, 1.5)])
def test_sizes_that_do_not_fit(arguments):
    with pytest.raises(InputError):
        Transforms(*arguments)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_shares_of_several_processes_are_the_whole_list(photo, size):
    images = Images([photo] * 5, Transforms(32, 40))

    def crops(share):
        loader = crops_loader(images, 2, 0, share=share)
        loader.sampler.seed = (0, 1)
        return [(int(i), image) for indices, made, _ in loader for i, image in zip(indices, made)]

    shares = [crops(Group(rank, size).share(5)) for rank in range(size)]
    whole, together = crops(None), sum(shares, [])
    assert [index for index, _ in whole] == [index for index, _ in together] == [0, 1, 2, 3, 4]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole, together))  # random crops, the same in any process


class Ends(torch.utils.data.Dataset):
    """Whose item 1 is the end of the process that is to load it."""

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
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does when the memory is full


def fault():
    raise RuntimeError("a fault of ours")


@pytest.fixture
def short_waits(monkeypatch):
    """For a batch, between looks whether the workers live, and for workers to end: not 5 s."""
    waits = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waits, "__defaults__", (0.1,))
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    yield
    gc.collect()  # loaders that an exception still holds end their workers now, and not in a later test


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_a_run_error(short_waits, persistent):
    batches = iter(Loader(Ends(killed), num_workers=1, persistent_workers=persistent))
    assert next(batches).tolist() == [0]
    with pytest.raises(RunError, match="--nThreads") as caught:
        next(batches)
    assert caught.value.rescue and len(str(caught.value).splitlines()) == 1 and caught.value.__suppress_context__


def test_a_killed_worker_does_not_break_the_step_in_which_it_ends(short_waits):
    """It is noticed when its batch is asked for; before, the run would not be at a position that can be saved."""
    whole = []
    with pytest.raises(RunError):
        for batch in Loader(Ends(killed), num_workers=1):
            time.sleep(0.5)
            whole.append(batch.item())
    assert whole == [0]


def test_a_fault_in_a_worker_is_not_taken_for_a_kill(short_waits):
    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(Loader(Ends(fault), num_workers=1))


def test_a_fault_without_workers_stays_what_it_is():
    with pytest.raises(RuntimeError, match="^a fault of ours"):
        list(Loader(Ends(fault)))
