"""Kept activations instead of images: their values, their reuse, and too little room for them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import models
from data.images import Images
from data.sampler import Draw
from data.transforms import Transforms
from data.views import ImageBatches
from models import activations
from models.activations import Activations, below_cut
from models.cut import train_from
from thumbnails import TINY_TRAIN, make_image_folder
from utils import device
from utils.distributed import Group
from utils.errors import InputError

COUNT = 6


@pytest.fixture
def paths(tmp_path):
    folder = make_image_folder(tmp_path / "images", 1, 1, COUNT)
    return [str(folder / "train" / "class 0" / f"{i}.jpg") for i in range(COUNT)]


@pytest.fixture
def embedder():
    model = models.create("ResNet18", 8, False, freeze_bn=True, width=32, origin_width=36)
    train_from(model, "7")
    return model


def batches_of(paths, group=Group()):
    return ImageBatches(Images(paths, Transforms(32, 36)), 4, group=group)


def open_(paths, embedder, folder, views=2, group=Group()):
    return Activations(batches_of(paths, group), embedder, device.choose("cpu"), str(folder), views, seed=5)


STEPS = [
    [Draw(0, 7, 10), Draw(1, 8, 11), Draw(0, 7, 10, False, 2, 1)],
    [Draw(1, 8, 13), Draw(5, 9, 14), Draw(0, 7, 10, False, 1, 1)],
    [Draw(1, 8, 11), Draw(4, 9, 15), Draw(0, 7, 12), Draw(0, 7, 12, crop=1)],
]


def test_a_step_is_what_lies_below_the_cut_of_some_crops_of_its_images(paths, embedder, tmp_path):
    """Each row equals what the frozen stages give by hand for the view of its draw."""
    made = open_(paths, embedder, tmp_path)
    for (batch, bad), draws in zip(made.steps(STEPS), STEPS):
        assert not bad and batch.images.dtype == torch.float16 and batch.images.shape[1:] == (256, 2, 2)
        assert batch.index.tolist() == [draw.index for draw in draws]
        assert batch.label.tolist() == [draw.label for draw in draws]
        assert batch.turn.tolist() == [draw.turn for draw in draws]
        assert batch.metric.tolist() == [draw.metric for draw in draws]
        for row, draw in zip(batch.images, draws):
            view = (draw.seed + draw.crop) % 2
            seed = int(np.random.SeedSequence([5, draw.index, view]).generate_state(1, np.uint64)[0] >> np.uint64(1))
            ((crop, _),) = batches_of(paths).steps([[Draw(draw.index, 0, seed, turn=draw.turn)]])
            with torch.no_grad():
                expected = embedder.features[:7](embedder.normalise(crop.images, torch.contiguous_format))[0]
            torch.testing.assert_close(row.float(), expected, rtol=2e-3, atol=2e-3)


def test_a_view_that_came_before_is_not_made_again_and_is_the_same_bit_by_bit(paths, embedder, tmp_path):
    counted = []
    embedder.cut.halves.below.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    made = open_(paths, embedder, tmp_path)
    counted.clear()
    first = [batch.images for batch, _ in made.steps(STEPS)]
    passes = len(counted)
    assert passes == 3 and set(counted) == {activations.PIECE}  # last digits depend on the number
    again = [batch.images for batch, _ in made.steps(STEPS)]
    assert len(counted) == passes
    other_order = [batch.images for batch, _ in open_(paths, embedder, tmp_path).steps(STEPS[::-1])][::-1]
    for a, b, c in zip(first, again, other_order):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert torch.equal(first[0][1], first[2][0])  # both draw image 1 with seed 11
    assert not torch.equal(first[2][2], first[2][3])  # crops 0 and 1 of the same seed differ


def test_central_crops_are_kept_from_the_first_look(paths, embedder, tmp_path):
    made = open_(paths, embedder, tmp_path)
    first = [(indices.tolist(), rows, bad) for indices, rows, bad in made.crops()]
    embedder.cut.halves.below.register_forward_pre_hook(lambda *_: pytest.fail("made again"))
    again = [(indices.tolist(), rows, bad) for indices, rows, bad in made.crops()]
    assert [indices for indices, *_ in first] == [[0, 1, 2, 3], [4, 5]] == [indices for indices, *_ in again]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again))
    images = torch.cat([images for _, images, _ in batches_of(paths).crops()])
    with torch.no_grad():
        expected = embedder.eval().pool(images)
        torch.testing.assert_close(embedder.pool(torch.cat([rows for _, rows, _ in first])), expected, rtol=2e-3, atol=2e-3)


def test_random_crops_of_a_look_come_as_images(paths, embedder, tmp_path):
    found = [images for _, images, _ in open_(paths, embedder, tmp_path).crops((1, 2))]
    assert all(torch.equal(a, b) for a, (_, b, _) in zip(found, batches_of(paths).crops((1, 2))))


@pytest.mark.parametrize("room", [1, 3])
def test_without_room_for_all_the_rest_is_made_each_time(paths, embedder, tmp_path, monkeypatch, room):
    whole = open_(paths, embedder, tmp_path)
    expected = [batch.images for batch, _ in whole.steps(STEPS)], [rows for _, rows, _ in whole.crops()]
    monkeypatch.setattr(activations, "_file", lambda folder, rows, shape, share: np.zeros((room, *shape), np.float16))
    short = open_(paths, embedder, tmp_path)
    for _ in range(2):
        found = [batch.images for batch, _ in short.steps(STEPS)], [rows for _, rows, _ in short.crops()]
        assert all(torch.equal(a, b) for part in zip(expected, found) for a, b in zip(*part))


def test_an_unreadable_image_is_reported_in_each_step_that_wants_it(paths, embedder, tmp_path):
    Path(paths[1]).write_bytes(b"no image")
    made = open_(paths, embedder, tmp_path)
    for _ in range(2):
        found = [(batch.index.tolist(), [image.index for image in bad]) for batch, bad in made.steps(STEPS)]
        assert found == [([0, 0], [1]), ([5, 0], [1]), ([4, 0, 0], [1])]
        assert [(i.tolist(), [image.index for image in bad]) for i, _, bad in made.crops()] == [
            ([0, 2, 3], [1]),
            ([4, 5], []),
        ]


def test_an_image_that_fails_in_one_view_alone_is_left_out_as_a_whole(paths, embedder, tmp_path, monkeypatch):
    made, reads = open_(paths, embedder, tmp_path), []
    decode = Images.__getitem__

    def failing(self, index):
        reads.append(index)
        if reads.count(0) == 1 and index == 0:
            raise InputError("the disk has hiccups")
        return decode(self, index)

    monkeypatch.setattr(Images, "__getitem__", failing)
    step = [Draw(0, 7, 10), Draw(1, 8, 11), Draw(0, 7, 11), Draw(2, 8, 11)]
    ((batch, bad),) = made.steps([step])
    assert reads.count(0) == 2 and [image.index for image in bad] == [0] and batch.index.tolist() == [1, 2]
    ((alone, _),) = open_(paths, embedder, tmp_path).steps([step[1::2]])
    assert torch.equal(batch.images, alone.images)


def test_several_processes_share_a_step_as_they_share_images(paths, embedder, tmp_path):
    for rank in range(2):
        group = Group(rank, 2)
        of_images = [batch.index.tolist() for batch, _ in batches_of(paths, group).steps(STEPS)]
        assert [batch.index.tolist() for batch, _ in open_(paths, embedder, tmp_path, group=group).steps(STEPS)] == of_images


def test_a_net_without_a_cut_gets_the_images(paths, tmp_path):
    batches, whole = batches_of(paths), models.create("ResNet18", 8, False, width=32, origin_width=36)
    assert below_cut(batches, whole, device.choose("cpu"), str(tmp_path), 2, 0) is batches


def test_activations_that_do_not_fit_and_folders_that_are_not_there(paths, embedder, tmp_path):
    with pytest.raises(InputError, match="cannot keep activations there"):
        open_(paths, embedder, tmp_path / "missing")
    with torch.no_grad():
        embedder.features[6][1].bn2.weight.fill_(1e9)
    with pytest.raises(InputError, match="7: the activations below it do not fit float16"):
        next(iter(open_(paths, embedder, tmp_path).steps(STEPS)))


@pytest.mark.parametrize("more", [(), ("--rot_bt", "0", "--cluster_crops", "random"), ("--labels", "True")])
def test_a_run_that_stops_and_goes_on_is_the_same_run_and_trains_what_is_above(tmp_path, run, more):
    images = make_image_folder(tmp_path / "images")
    flags = ("--data", images, *TINY_TRAIN, "--train_from", "layer4", "--views", 2, "--save_step", 2, *more)
    run("train", *flags, "--save_dir", tmp_path / "whole", "--epochs", 4)
    for epochs in (2, 4):
        run("train", *flags, "--save_dir", tmp_path / "parts", "--epochs", epochs, "--override")
    first, whole, parts = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"]
        for name in ("whole/ckp_ep2.pth.tar", "whole/ckp_ep4.pth.tar", "parts/ckp_ep4.pth.tar")
    )
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    changed = {key.split(".")[1] for key in whole if key.startswith("features.") and not torch.equal(whole[key], first[key])}
    assert changed == {"layer4"}


def test_a_stage_that_is_not_there(refused, image_folder, tmp_path):
    message = refused("train", "--data", image_folder, *TINY_TRAIN, "--train_from", "layer5", "--save_dir", tmp_path / "run")
    assert message.startswith("--train_from layer5: no stage above the first; this net has")
