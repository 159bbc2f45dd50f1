"""The views of a step and the crops: against torchvision and against what the flags promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torchvision import transforms as peer

from data.sampler import Draw
from data.transforms import Normalise, Transforms
from data.views import BadImage, TrainViews, collate_crops, collate_views, crops_loader
from models import Preprocessing
from utils.errors import InputError


@pytest.fixture
def photo(tmp_path):
    """A smooth picture without symmetries: every rotation and flip of it differs."""
    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2.5, (x + 2 * y) * 0.8], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def views(photo, rot_bt, metric=True, rotate=True, seed=3):
    data = TrainViews([photo], Transforms(32, 40, 0.5), rot_bt)
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
    data = TrainViews([photo], Transforms(32, 40), rot_bt)
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


def test_crops_are_torchvisions(photo):
    """Same random numbers, the usual transforms on the PIL image: the same crop up to rounding of the two resizes."""
    ours = Transforms(32, 40, 0.16)
    usual = peer.Compose([peer.Resize(40), peer.RandomResizedCrop(32, scale=(0.16, 1)), peer.RandomHorizontalFlip(),
                          peer.PILToTensor()])
    with Image.open(photo) as image:
        for seed in range(10):
            with ours.seeded(seed) as crop:
                got = crop(ours.load(photo))
            torch.manual_seed(seed)
            assert (got.float() - usual(image).float()).abs().mean() < 2
        centre = peer.Compose([peer.Resize(40), peer.CenterCrop(32), peer.PILToTensor()])(image)
    assert (ours.centre_crop(ours.load(photo)).float() - centre.float()).abs().mean() < 1


def test_random_crops_for_clustering_repeat_by_seed(photo):
    def crops(seed):
        return next(iter(crops_loader([photo, photo], Transforms(32, 40), 2, 0, seed)))[1]

    assert torch.equal(crops((0, 1)), crops((0, 1))) and not torch.equal(crops((0, 1)), crops((0, 2)))
    assert not torch.equal(*crops((0, 1)))


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


def test_odd_images_become_rgb(tmp_path):
    kinds = {"grey.png": Image.new("L", (30, 20)), "16bit.png": Image.new("I;16", (30, 20)),
             "alpha.png": Image.new("RGBA", (30, 20)), "cmyk.jpg": Image.new("CMYK", (30, 20)),
             "palette.gif": Image.new("P", (30, 20)), "long.png": Image.new("RGB", (1, 500))}
    for name, image in kinds.items():
        image.save(tmp_path / name)
        crop = Transforms(16, 20).centre_crop(Transforms(16, 20).load(str(tmp_path / name)))
        assert crop.shape == (3, 16, 16) and crop.dtype == torch.uint8


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))  # white left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: white top half
    image.save(tmp_path / "turned.jpg", exif=exif)
    loaded = Transforms(16, 20).load(str(tmp_path / "turned.jpg")).float()
    assert loaded.shape == (3, 40, 20) and loaded[:, :15].mean() > 200 > 50 > loaded[:, -15:].mean()


def test_broken_images_are_named(tmp_path, photo):
    whole = open(photo, "rb").read()
    for name, content in (("truncated.png", whole[:len(whole) // 2]), ("empty.jpg", b""), ("text.jpg", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            Transforms(16, 20).load(str(tmp_path / name))
    data = TrainViews([str(tmp_path / "text.jpg"), photo], Transforms(32, 40), True)
    batch = collate_views([data[Draw(0, 1, 2, True, True)], data[Draw(1, 5, 2, True, True)]])
    assert batch.labels.tolist() == [5] and batch.rotation_index.tolist() == [1, 2, 3, 4]
    assert [item.index for item in batch.bad] == [0]
    assert collate_crops([BadImage(0, "x")])[1] is None


@pytest.mark.parametrize("arguments", [(227, 128), (0, 10), (8, 8, 0.0), (8, 8, 1.5)])
def test_sizes_that_do_not_fit(arguments):
    with pytest.raises(InputError):
        Transforms(*arguments)
