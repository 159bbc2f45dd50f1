"""Shared neighbours: its pairs, its draws, its loss, its moving average, its result, and resuming."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.views import Batch
from losses.masked_contrast import masked_contrast
from models import methods
from models.closed_form import ClosedForm
from models.embedder import Embedder
from models.first_order import roots
from models.methods import shared_neighbours
from models.methods.method import shift
from small_nets import DIM, FEATURES, WIDTH, Some, one_convolution
from thumbnails import TINY, make_image_folder
from utils import checkpoint
from utils.clustering import reciprocal
from utils.errors import InputError
from utils.features import Look
from utils.run import Run

KINDS, EACH = 5, 10
READABLE = np.delete(np.arange(55), [0, 13, 14, 31, 54])  # the images that the 50 rows belong to


def make(count=55, labels=None, **changed):
    """Return the method, with a net of one convolution."""
    torch.manual_seed(0)
    embedder = one_convolution()
    settings = {"batch_size": 12, "num_instances": 3, "k1": 8, **changed}
    settings = methods.default_settings("shared_neighbours", **settings)
    method = methods.create("shared_neighbours", embedder, Some(count, labels), settings)
    method.trained().closed_form = ClosedForm(FEATURES, {}, DIM)
    return method


def kinds(spread=0.12, seed=0):
    """Return rows of length 1, float32 (50, FEATURES): ten around each of five axes in turn."""
    rng = np.random.default_rng(seed)
    rows = np.eye(FEATURES)[[*range(KINDS)] * EACH] + 0.1
    rows = np.abs(rows + spread * rng.normal(size=rows.shape))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def prepared(**changed):
    method = make(**changed)
    method.said = method.prepare(kinds(), READABLE)
    Run.before_steps(method)
    return method


def batch_of(index, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (len(index), 3, WIDTH, WIDTH), dtype=torch.uint8, generator=generator)
    index = torch.as_tensor(index)
    return Batch(images, index, index, torch.full_like(index, -1), torch.ones_like(index, dtype=torch.bool))


# ---- pairs ---------------------------------------------------------------------------------------------------------------


def test_neighbours_are_those_of_the_jaccard_distance_nearest_first():
    """The reference is the dense matrix of distances of the same features."""
    method, features = prepared(), kinds()
    placed = method.place(features, torch.ones(FEATURES))
    lists = reciprocal.nearest(placed, 8)
    dense = np.ones((50, 50))
    found = reciprocal.jaccard(reciprocal.encode(placed, lists, 8, 1), 0.9, 32).tocoo()
    dense[found.row, found.col] = found.data
    near, distance = method.neighbours.numpy(), method.distance.numpy()
    assert near.shape == (55, 32)
    for row, image in enumerate(READABLE):
        others = [j for j in range(50) if j != row and dense[row, j] < 1]
        count = (near[image] >= 0).sum()
        assert set(near[image, :count]) == set(READABLE[others]) and (distance[image, count:] == 1).all()
        expected = [dense[row, np.flatnonzero(READABLE == j)[0]] for j in near[image, :count]]
        np.testing.assert_allclose(distance[image, :count], expected, atol=1e-3)
        assert (np.diff(distance[image].astype(float)) >= 0).all()
    unreadable = np.setdiff1d(np.arange(55), READABLE)
    assert (near[unreadable] == -1).all() and not np.isin(near, unreadable).any()


def test_it_says_how_many_pairs_are_right():
    labels = np.full(55, -1)
    labels[READABLE] = np.arange(50) % KINDS
    said = prepared(labels=labels).said
    assert "of 50 have at least one" in said and said.endswith("of the pairs with the true label")
    assert float(said.split(", ")[-1].split("%")[0]) > 95


@pytest.fixture
def few_places(monkeypatch):
    monkeypatch.setattr(shared_neighbours, "PLACES", DIM)


def test_placing_is_the_closed_form_of_weighted_parts(few_places):
    features = kinds()
    scales = torch.linspace(0.5, 2, FEATURES)
    rows = torch.from_numpy(features).double() - torch.from_numpy(features).double().mean(0)
    scaled = rows * scales.double()
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / 50)
    expected = F.normalize(scaled @ (vectors.flip(1)[:, :DIM] * values.flip(0)[:DIM] ** -0.35))
    found = torch.from_numpy(make().place(features, scales)).double()
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-3, atol=1e-3)


def test_it_looks_once():
    method = make()
    assert method.looks(1) == Look("description", enlarged=WIDTH * 3 // 2)
    method.prepare(kinds(), READABLE)
    assert method.looks(2) is None


def test_the_head_starts_at_the_closed_form_of_the_first_order(few_places):
    method, features = prepared(), torch.from_numpy(kinds())
    expected = torch.from_numpy(method.place(kinds(), torch.ones(FEATURES)))
    pooled = 7 * features.square()  # pooled features with this description
    found = method.head(roots(pooled))
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=0.02, atol=0.02)


def test_no_pairs_at_all_and_thresholds_in_the_wrong_order():
    method = make(near=1e-6)
    with pytest.raises(InputError, match="no two images of train.txt have that many neighbours in common"):
        method.prepare(kinds(), READABLE)
    with pytest.raises(InputError, match="0.8 is more than far, 0.7"):
        make(near=0.8, far=0.7)


# ---- batches -------------------------------------------------------------------------------------------------------------


def test_an_image_comes_with_positives_of_its_own():
    method = prepared()
    positives = {
        i: {int(j) for j, d in zip(method.neighbours[i], method.distance[i]) if d < method.settings.near} for i in range(55)
    }
    steps = list(method.draws(3))
    assert len(steps) == len(method.draws(3)) == shared_neighbours.STEPS
    for step in steps:
        assert len(step) == 12 and len({(draw.seed, draw.crop) for draw in step}) == 12
        groups = [step[i : i + 3] for i in range(0, 12, 3)]
        assert len({group[0].index for group in groups}) == 4
        for anchor, *others in groups:
            assert all(draw.label == anchor.index for draw in (anchor, *others))
            expected = (
                positives[anchor.index] if len(positives[anchor.index]) > 1 else positives[anchor.index] | {anchor.index}
            )
            assert {draw.index for draw in others} <= expected and len({draw.index for draw in others}) == 2
    assert steps == list(method.draws(3)) and steps != list(method.draws(4))


# ---- a step --------------------------------------------------------------------------------------------------------------


def test_distances_of_a_batch_are_those_of_its_images():
    method = prepared()
    index = torch.tensor([1, 6, 1, 2, 50, 33])
    found = method.distances_of(index)
    for a, i in enumerate(index.tolist()):
        for b, j in enumerate(index.tolist()):
            listed = [
                float(method.distance[x][method.neighbours[x] == y])
                for x, y in ((i, j), (j, i))
                if y in method.neighbours[x]
            ]
            assert float(found[a, b]) == (0 if i == j else min(listed, default=1))
    assert torch.equal(found, found.T) and 0 < (found < 0.7).float().mean() < 1


def test_the_loss_takes_near_pairs_for_positive_and_far_ones_for_negative():
    method = prepared()
    index = [draw.index for draw in next(iter(method.draws(1)))]
    batch = batch_of(index)
    out = method(batch.images, batch)
    loss, shown = method.loss(out, batch)
    distance = method.distances_of(batch.index)
    similarity = out["embedding"] @ out["embedding"].T
    positive = (distance < 0.7) & ~torch.eye(len(index), dtype=torch.bool)
    contrast = masked_contrast(similarity, positive, distance >= 0.9, 0.1)
    assert torch.equal(loss, contrast) and positive.any()
    assert shown["lowest"] == similarity.min()
    loss.backward()
    got = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    wanted = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert got == wanted == {"embedder.features.0.weight", "embedder.features.0.bias", "head.projection"}


@pytest.mark.parametrize(("settings", "way"), [({}, 0.5), ({"way": 0.25}, 0.25), ({"way": 1.0}, 1)])
def test_the_result_lies_between_the_start_and_the_moving_average(settings, way):
    method = prepared(**settings)
    optimiser = torch.optim.Adam(method.param_groups(), lr=0.01)
    start = copy.deepcopy(method.embedder.features[0].weight.detach())
    average = start.clone()
    for step, draws in enumerate(method.draws(1), 1):
        batch = batch_of([draw.index for draw in draws], seed=step)
        out = method(batch.images, batch)
        optimiser.zero_grad()
        method.loss(out, batch)[0].backward()
        optimiser.step()
        with torch.no_grad():
            method.after_step(out, batch)
        keep = min(0.98, step / (step + 9))
        average = keep * average + (1 - keep) * method.embedder.features[0].weight.detach()
    assert not torch.allclose(average, start, atol=1e-3)
    torch.testing.assert_close(method.average[0].weight, average)
    torch.testing.assert_close(method.trained().features[0].weight, (1 - way) * start + way * average)
    assert not any(parameter.requires_grad for parameter in method.trained().parameters())
    assert not method.train().trained().training


def test_a_shift_moves_weights_and_statistics_and_copies_counters():
    net, start, end = (torch.nn.BatchNorm1d(3) for _ in range(3))
    for number, each in enumerate((net, start, end)):
        each.weight.data.fill_(number)
        each.running_mean.fill_(10 * number)
        each.num_batches_tracked.fill_(number)
    shift(net, start, end, 0.25)
    assert net.weight.tolist() == [0.25] * 3 and net.running_mean.tolist() == [2.5] * 3 and net.num_batches_tracked == 2
    assert start.weight.tolist() == [1] * 3 and end.weight.tolist() == [2] * 3


def test_its_state_is_all_that_it_needs():
    method, again = prepared(), make()
    Run.before_steps(again)
    method.steps += 3
    again.load_state_dict(method.state_dict())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in method.state_dict().items())
    assert list(method.draws(2)) == list(again.draws(2)) and again.looks(2) is None


# ---- whole runs ----------------------------------------------------------------------------------------------------------

FLAGS = (*TINY, *"--pretrained False --method shared_neighbours --batch_size 8 --num_instances 2 --k1 6 --near 0.9".split())


@pytest.mark.parametrize("best", [48, 32])
def test_it_looks_at_central_crops_enlarged_where_that_is_best(run, tmp_path, monkeypatch, best):
    """The look takes central crops, enlarged or not. In both cases, training uses random crops of 32 pixels."""
    monkeypatch.setattr(shared_neighbours, "STEPS", 2)
    monkeypatch.setattr(shared_neighbours, "best_width", lambda embedder: best)
    original, sides = Embedder.read, []

    def read(embedder, images, *kinds):
        sides.append((*kinds, images.shape[3]))
        return original(embedder, images, *kinds)

    monkeypatch.setattr(Embedder, "read", read)
    images = make_image_folder(tmp_path / "images")
    flags = ("--data", images, *FLAGS, "--train_from", "all", "--readout", "embedding", "--epochs", 2, "--print_freq", 1)
    for crops in ("random", "centre"):
        run("train", *flags, "--save_dir", tmp_path / crops, "--cluster_crops", crops)
    assert list(dict.fromkeys(sides)) == [("description", best), ("pooled", 32)]
    saved = [checkpoint.load_to_resume(tmp_path / crops / "ckp_ep2.pth.tar") for crops in ("random", "centre")]
    places, again = (state["method"]["distance"] for state in saved)
    assert torch.equal(places, again) and (places < 0.9).any()
