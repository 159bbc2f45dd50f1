"""Fitting the closed form to images."""

import numpy as np
import pytest
import torch
from fit_in_processes import fit as fit_in_processes
from PIL import Image
from scipy.special import softmax
from torch import nn

import models
from data.images import Images
from data.views import ImageBatches
from forked import succeed
from models import readout
from models.backbones import IMAGENET, Backbone
from models.choice import RULE, best as best_of
from models.closed_form import REDUCED
from models.embedder import Embedder
from models.readout import CROPS, RATIO, Fitter, NoVariation
from models.taps import positions, tapped
from utils import checkpoint, device
from utils.errors import InputError

COMPUTE = device.choose("cpu")
# Tolerance of inner products: products in float32 lose 1e-7 of the largest variance, which is 1e-3 of the smallest.
ROUNDING = 2e-4


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """Reduce to few channels: the last maps have 2 x 2 positions, and with more channels roots would amplify rounding
    errors."""
    monkeypatch.setattr(readout, "REDUCED", 2)


@pytest.fixture
def paths(image_folder):
    return sorted(map(str, (image_folder / "train").rglob("*.jpg")))


def small_net(dim=16, name="timm/test_resnet", **how):
    torch.manual_seed(0)
    return COMPUTE.place(models.create(name, dim, False, width=64, origin_width=70, **how))


def batches_of(paths, embedder):
    return ImageBatches(Images(paths, embedder.transforms), 7)


def fit(paths, embedder, **how):
    return Fitter(batches_of(paths, embedder), COMPUTE, **{"weights": (0.5, 1), **how})(embedder)


def products(rows):
    return rows @ rows.T


# ---- the fit -------------------------------------------------------------------------------------------------------------


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@torch.no_grad()
def described(embedder, paths):
    """Return descriptions in float64: of the central crops, and of each of eight random crops."""
    views, embedder = [], embedder.eval()
    for seed in (None, *((3, crop) for crop in range(8))):
        seen = [images for _, images, _ in batches_of(paths, embedder).crops(seed, ratio=0.5)]
        views.append(np.concatenate([embedder.read(images, "description")[0].double().numpy() for images in seen]))
    return views


def fitted_by_hand(views, sizes, weights, dim):
    """Return the embeddings of each view."""
    scales = np.repeat(weights, sizes)
    rows = np.concatenate(views) * scales
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    projection = vectors[:, ::-1][:, :dim] * values[::-1][:dim] ** -0.35
    return [unit((view * scales - rows.mean(0)) @ projection) for view in views]


def agreement_by_hand(*views):
    """Return the soft agreement, in float64, image by image, in one leading direction for every four images."""
    centre, *crops = (unit(view[:, : len(view) // 4]) for view in views)

    def distribution(rows):
        similar = rows @ centre.T
        others = [np.delete(similar[i], i) for i in range(len(similar))]
        return np.array([softmax(row / np.std(others, ddof=1)) for row in others])

    found = [distribution(rows) for rows in crops]
    return np.mean([(a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) for a, b in zip(found, found[1:] + found[:1])])


def test_the_fit_is_that_of_numpy(paths):
    """Mean, covariance, weights and PCA equal those that NumPy computes from the same crops. The best agreement chooses."""
    embedder = small_net(8, "timm/test_vit")
    choices = fit(paths, embedder, seed=3, weights=(0, 0.5, 2))
    form = embedder.closed_form
    views = described(embedder, paths)
    found = {}
    for choice in choices:
        embedded = fitted_by_hand(views, form.sizes, choice.weights, 8)
        assert choice.agreement == pytest.approx(agreement_by_hand(*embedded), abs=1e-4)
        found[choice.weights] = embedded[0]
    best = choices[best_of([choice.agreement for choice in choices])]
    assert list(found) == [(1, 0, 0.5), (1, 0.5, 0.5), (1, 2, 0.5)]
    assert form.weights.tolist() == list(best.weights)
    np.testing.assert_allclose(products(embedder.embed(paths)), products(found[best.weights]), atol=ROUNDING)
    for other in choices:
        assert other is best or np.abs(products(found[other.weights]) - products(found[best.weights])).max() > 0.01


def test_a_trained_net_is_read_out_by_its_agreement_and_that_before_training(paths):
    """The two agreements have a geometric mean for each weight. The sample is all images here, so that both can be had."""
    embedder, weights = small_net(8, "timm/test_vit"), (0, 0.5, 2)
    own = {choice.weights[1]: choice.agreement for choice in fit(paths, embedder, weights=weights)}
    embedder.closed_form = None
    fitter = Fitter(batches_of(paths, embedder), COMPUTE, weights=weights)
    embedder.agreement_before = fitter.agreements(embedder)
    assert embedder.closed_form is None and embedder.agreement_before == pytest.approx(own)
    assert fitter.agreements(embedder) == pytest.approx(own)  # the net's own, whatever it was before

    worst = min(own, key=own.get)
    embedder.agreement_before = {weight: 0.9 if weight == worst else 0.1 for weight in weights}
    for choice in fit(paths, embedder, weights=weights):
        expected = (own[choice.weights[1]] * embedder.agreement_before[choice.weights[1]]) ** 0.5
        assert choice.agreement == pytest.approx(expected)
    assert embedder.closed_form.weights[1] == worst

    embedder.agreement_before.pop(0)  # measured for other weights: of no use
    assert {choice.weights[1]: choice.agreement for choice in fit(paths, embedder, weights=weights)} == pytest.approx(own)


def test_the_embedding_head_as_readout_needs_no_look_before_training(paths):
    embedder = small_net()
    assert Fitter(batches_of(paths[:0], embedder), COMPUTE, readout="embedding").agreements(embedder) == {}


def test_a_look_names_the_nearest_other_images_of_each_crop(paths):
    """The reference fits a closed form with each weight alone, and sorts by hand."""
    embedder, weights = small_net().eval(), (0, 0.5, 3)
    batches = batches_of(paths, embedder)
    look = Fitter(batches, COMPUTE, weights=weights).look(embedder)
    assert look.agreement == Fitter(batches, COMPUTE, weights=weights).agreements(embedder)
    assert list(look.nearest) == list(weights) and embedder.closed_form is None
    assert look.chosen is look.nearest[weights[best_of(list(look.agreement.values()))]]

    fit(paths, embedder, weights=(0.5,))
    directions = len(paths) // RULE.fewest

    @torch.no_grad()
    def rows(*crops):
        views = [embedder.read(images, "closed_form")[0] for _, images, _ in batches_of(paths, embedder).crops(*crops)]
        return torch.nn.functional.normalize(torch.cat(views)[:, :directions], dim=1)

    centre = rows(None)
    assert look.nearest[0.5].shape == (CROPS[1], len(paths), len(paths) // 4)
    for crop, nearest in enumerate(look.nearest[0.5]):
        similar = (rows((0, crop), range(len(paths)), RATIO) @ centre.T).numpy()
        for i, order in enumerate(nearest):
            others = np.delete(np.arange(len(paths)), i)
            expected = np.sort(similar[i, others])[::-1][: len(order)]
            np.testing.assert_allclose(similar[i, order], expected, atol=1e-4)
            assert i not in order and len(set(order.tolist())) == len(order)


@torch.no_grad()
def test_channels_are_reduced_to_their_principal_directions(paths):
    """The reference is the PCA over all positions of all images."""
    embedder = small_net().eval()
    fit(paths, embedder)
    for name, directions in zip(embedder.closed_form.layers, embedder.closed_form.reduce.buffers()):
        rows = []
        for _, images, _ in batches_of(paths, embedder).crops():
            for part in embedder.slices(images):
                with tapped(embedder.features, [name]) as maps:
                    embedder.features(part)
                rows.append(positions(maps[name]).flatten(0, 1).double().numpy())
        _, vectors = np.linalg.eigh(np.cov(np.concatenate(rows).T))
        expected = vectors[:, -2:] @ vectors[:, -2:].T
        found = directions.double().numpy()
        np.testing.assert_allclose(found @ found.T, expected, atol=1e-4)


def test_an_embedder_gives_its_closed_form(paths):
    embedder = small_net()
    before = embedder.embed(paths)
    fit(paths, embedder)
    embedded = embedder.embed(paths, batch_size=5)
    assert embedder.kind == "closed_form" and embedder.closed_form.layers == ["layer3", "layer4"]
    assert embedded.shape == (24, 16) and embedded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
    assert np.abs(products(embedded) - products(before)).max() > 0.1
    embedder.closed_form.prefer(False)
    assert embedder.kind == "embedding" and np.allclose(embedder.embed(paths), before, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_net_stays_as_it_was(paths, training):
    embedder = small_net(freeze_bn=True).train(training)
    before = {key: value.clone() for key, value in embedder.state_dict().items()}
    fit(paths, embedder)
    assert embedder.training == embedder.features.training == training
    assert not any(module.training for module in embedder.modules() if isinstance(module, nn.BatchNorm2d))
    assert all(torch.equal(before[key], value) for key, value in embedder.state_dict().items() if key in before)
    assert not any(module._forward_hooks for module in embedder.modules())


def test_a_net_without_stages_has_a_first_order_only(paths):
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 24, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    settings = {"net": "Tiny", "dim": 6, "width": 32, "origin_width": 36}
    embedder = COMPUTE.place(Embedder(Backbone(nn.Sequential(*layers), 24, IMAGENET), settings))
    (choice,) = fit(paths, embedder, seed=3)
    assert choice.weights == (1,) and embedder.closed_form.layers == []
    expected = fitted_by_hand(described(embedder, paths), [24], [1.0], 6)[0]
    np.testing.assert_allclose(products(embedder.embed(paths)), products(expected), atol=ROUNDING)


@pytest.mark.parametrize("enough, kind", [(24, "closed_form"), (25, "embedding")])
def test_auto_keeps_the_embedding_where_there_are_few_images(paths, monkeypatch, enough, kind):
    """Only readable images count, and the 25th is unreadable."""
    monkeypatch.setattr(readout, "ENOUGH", enough)
    embedder = small_net()
    fit([*paths, "gone.jpg"], embedder, readout="auto", on_bad_image="skip")
    assert embedder.kind == kind and embedder.closed_form is not None


# ---- faults --------------------------------------------------------------------------------------------------------------


def test_images_that_cannot_be_read(paths):
    """With "stop", the error names the file, and no closed form is left. With "skip", the other images are used."""
    embedder = small_net().eval()
    fit(paths, embedder)
    expected = embedder.embed(paths)
    with pytest.raises(InputError, match="gone.jpg"):
        fit([*paths, "gone.jpg"], embedder)
    assert embedder.closed_form is None and embedder.kind == "embedding" and not embedder.training
    fit([*paths, "gone.jpg"], embedder, on_bad_image="skip")
    np.testing.assert_allclose(products(embedder.embed(paths)), products(expected), atol=ROUNDING)
    with pytest.raises(InputError, match="none of the 2 images can be read, the first: .*gone"):
        fit(["gone.jpg", "lost.jpg"], embedder, on_bad_image="skip")


@pytest.mark.parametrize("gone_at", [2, 3, 4])
def test_an_image_that_goes_during_the_fit(paths, monkeypatch, gone_at):
    """The image disappears before it is read for the gone_at-th time, for some or all of its random crops."""
    embedder, times = small_net(), []
    load = embedder.transforms.load

    def once_there(path):
        if path == paths[4]:
            times.append(path)
            if len(times) > gone_at:
                raise InputError(f"{path}: gone")
        return load(path)

    monkeypatch.setattr(embedder.transforms, "load", once_there)
    with pytest.raises(InputError, match="gone"):
        fit(paths, embedder)
    times.clear()
    assert all(0 < choice.agreement <= 1 for choice in fit(paths, embedder, on_bad_image="skip"))


def as_checkpoint(embedder, path, **changed):
    state = {key: changed.get(key, value) for key, value in embedder.state_dict().items()}
    checkpoint.save(str(path), {"state_dict": state, "epoch": 1, "settings": embedder.settings})
    return path


def test_what_is_saved_gives_the_same_embedding(paths, tmp_path):
    embedder = small_net()
    fit(paths, embedder)
    loaded = models.load(as_checkpoint(embedder, tmp_path / "a.pth.tar"))
    np.testing.assert_allclose(loaded.embed(paths), embedder.embed(paths), atol=1e-5)
    loaded.closed_form = None
    with pytest.raises(InputError, match="has no closed form"):
        models.load(as_checkpoint(loaded, tmp_path / "b.pth.tar"), readout="closed_form")
    with pytest.raises(InputError, match="give embedding or closed_form"):
        models.load(tmp_path / "a.pth.tar", readout="auto")


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("projection", lambda x: x[:-1].clone(), "another net"),
        ("projection", lambda x: x[:, :-1].clone(), "another dim"),
        ("projection", lambda x: x[:1, :1].expand(10**7, 10**6), "another net"),
        ("projection", lambda x: x * np.nan, "not finite"),
        ("mean", lambda x: x[:-1].clone(), "closed_form.mean is"),
        ("reduce.0/layer3", lambda x: x[:-1].clone(), "another net"),
    ],
)
def test_closed_forms_that_do_not_fit_are_refused_whole(paths, key, change, message):
    embedder = small_net()
    fit(paths, embedder)
    state, other = embedder.state_dict(), small_net()
    before = other.embed(paths)
    key = f"closed_form.{key}"
    with pytest.raises(InputError, match=message):
        models.load_state(other, {**state, key: change(state[key])}, "file")
    assert other.kind == "embedding" and np.array_equal(other.embed(paths), before)
    if "reduce" in key:
        moved = {name.replace("layer3", "fc"): value for name, value in state.items()}
        with pytest.raises(InputError, match="another net"):
            models.load_state(other, moved, "file")


def test_training_starts_from_a_checkpoint_without_its_closed_form(paths, tmp_path):
    embedder = small_net()
    fit(paths, embedder)
    path = as_checkpoint(embedder, tmp_path / "a.pth.tar")
    started = models.create("timm/test_resnet", 16, True, path, width=64, origin_width=70)
    assert started.closed_form is None and torch.equal(started.classifier.linear.weight, embedder.classifier.linear.weight)


def test_features_that_are_not_finite(paths):
    embedder = small_net()
    next(embedder.features.parameters()).data.fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        fit(paths, embedder)
    assert embedder.closed_form is None and embedder.training


@pytest.mark.parametrize("images", [1, 2, 3, 5, 8])
def test_few_images(paths, monkeypatch, images):
    monkeypatch.setattr(readout, "REDUCED", REDUCED)  # as many as in real use
    embedder = small_net()
    fit(paths[:images], embedder)
    embedded = embedder.embed(paths)
    assert np.isfinite(embedded).all()
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("images", [1, 2, 7])
def test_images_that_do_not_differ_get_no_closed_form(tmp_path, images):
    """A closed form of them would put everything at similarity 1 to everything. One more image makes a difference."""
    for name, colour in (("green", (90, 120, 60)), ("white", (255, 255, 255))):
        Image.new("RGB", (48, 40), colour).save(tmp_path / f"{name}.png")
    embedder, green = small_net(), [str(tmp_path / "green.png")] * images
    with pytest.raises(NoVariation, match=f"the {images} images look all the same"):
        fit(green, embedder)
    assert embedder.closed_form is None
    fit([*green, str(tmp_path / "white.png")], embedder)
    assert embedder.closed_form is not None


def test_identical_images(paths):
    embedder = small_net()
    fit(paths[:1] * 7, embedder)
    embedded = embedder.embed(paths[:1] * 7)
    np.testing.assert_allclose(products(embedded), np.ones((7, 7)), atol=1e-5)


def test_more_dimensions_than_there_are(paths):
    """There are 96 pooled features and two parts of 3 numbers (2 channels each), so at most 102 directions."""
    embedder = small_net(dim=150)
    fit(paths, embedder)
    used = embedder.closed_form.projection.abs().amax(0) > 0
    assert 20 < used.sum() <= 102 and not used[used.sum() :].any()
    embedded = embedder.embed(paths)
    assert embedded.shape == (24, 150)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


# ---- several processes ---------------------------------------------------------------------------------------------------


def test_two_processes_fit_what_one_does(image_folder, tmp_path):
    """In one of the cases, one of the processes has no readable image."""
    succeed(2, tmp_path, fit_in_processes, image_folder / "train", tmp_path / "two")
    fit_in_processes(image_folder / "train", tmp_path / "one")
    alone, *both = (np.load(tmp_path / f"{name}.npz") for name in ("one-0", "two-0", "two-1"))
    for name in alone:
        assert np.array_equal(both[0][name], both[1][name]), name
    for name in ("all embeddings", "half embeddings"):
        np.testing.assert_allclose(products(both[0][name]), products(alone[name]), atol=ROUNDING / 2)
    assert np.array_equal(both[0]["all weights"], alone["all weights"])
    for name in ("all", "half"):
        assert np.array_equal(both[0][f"{name} unreadable"], alone[f"{name} unreadable"])
        np.testing.assert_allclose(both[0][f"{name} agreement"], alone[f"{name} agreement"], atol=1e-3)
        assert (both[0][f"{name} nearest"] == alone[f"{name} nearest"]).mean() > 0.9  # the order of equals may differ
