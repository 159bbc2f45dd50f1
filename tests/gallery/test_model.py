"""The Embedder of a gallery: how it is chosen, how it is saved, and how it is told from others."""

import copy
from functools import cache
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
from galleries import KINDS, damage, files_named, make as make_gallery, photos
from gallery.model import ENOUGH, MOST_FITTED, Model, load, make, of_gallery, outgrown, untrained_kind
from gallery.store import Gallery
from models.closed_form import ClosedForm
from models.readout import NoVariation
from utils import checkpoint
from utils.errors import InputError

REQUEST = {"net": "EfficientNet-Lite0", "head": "auto", "dim": 16, "width": 32, "origin_width": 36}
REQUEST |= {"checkpoint": None, "weights": None}
OF_CHECKPOINT = {**REQUEST, "checkpoint": "its hash", "net": None, "width": None, "origin_width": None, "dim": None}


def drawn_form(embedder):
    """Give an Embedder a closed form of the pooled features alone, with random numbers."""
    form = embedder.closed_form = ClosedForm(embedder.feature_dim, {}, embedder.dim)
    form.weights.fill_(1)
    form.projection.normal_()


def no_fit(embedder):
    raise AssertionError("nothing is fitted here")


@pytest.fixture(scope="module")
def fitted():
    """A Model with a closed form."""
    torch.manual_seed(0)
    return make({**REQUEST, "head": "closed_form"}, None, None, 5, drawn_form, 5)


@pytest.fixture
def paths(tmp_path):
    return photos(tmp_path / "photos", 5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(preferred) returns a checkpoint: without a closed form (None), or with one that it prefers (True) or not
    (False)."""
    folder = tmp_path_factory.mktemp("trained")

    @cache
    def write(preferred):
        embedder = models.create("EfficientNet-Lite0", 24, width=48, origin_width=64).eval()
        if preferred is not None:
            drawn_form(embedder)
            embedder.closed_form.prefer(preferred)
        path = str(folder / f"{preferred}.pth.tar")
        checkpoint.save(path, {"state_dict": embedder.state_dict(), "epoch": 3, "settings": embedder.settings})
        return path

    return write


# ---- choosing a readout ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head, images, kind",
    [
        ("auto", 1, "pooled"),
        ("auto", ENOUGH - 1, "pooled"),
        ("auto", ENOUGH, "closed_form"),
        ("pooled", 10**6, "pooled"),
        ("closed_form", 1, "closed_form"),
    ],
)
def test_the_features_of_a_ready_made_net(head, images, kind):
    assert untrained_kind(head, images) == kind
    fits = []
    model = make({**REQUEST, "head": head}, None, None, images, lambda e: (fits.append(e), drawn_form(e)), 7)
    assert model.kind == kind and len(fits) == (kind == "closed_form") and model.fitted_to == (7 if fits else 0)
    assert model.dim == (16 if fits else 1280) and not model.embedder.training


def test_images_that_do_not_differ_keep_the_pooled_features(monkeypatch):
    said = []
    monkeypatch.setattr("utils.log.say", said.append)

    def fit(embedder):
        raise NoVariation("the 300 images look all the same")

    model = make({**REQUEST, "head": "auto"}, None, None, ENOUGH, fit, ENOUGH)
    assert (model.kind, model.fitted_to, model.embedder.closed_form) == ("pooled", 0, None)
    assert said == ["the 300 images look all the same; the pooled features are kept"]


def test_sizes_of_a_ready_made_net():
    wanted = {**REQUEST, "width": None, "origin_width": None, "head": "pooled"}
    assert make(wanted, None, None, 1, no_fit, 1).embedder.settings == {
        "net": "EfficientNet-Lite0",
        "dim": 16,
        "width": 128,
        "origin_width": 144,
    }


def test_a_random_embedding_is_refused():
    with pytest.raises(InputError, match="give a checkpoint") as caught:
        make({**REQUEST, "head": "embedding"}, None, None, 5, no_fit, 5)
    assert caught.value.setting == "head"


@pytest.mark.parametrize(
    "preferred, head, kind",
    [
        (None, "auto", "embedding"),
        (None, "embedding", "embedding"),
        (None, "pooled", "pooled"),
        (True, "auto", "closed_form"),
        (False, "auto", "embedding"),
        (True, "embedding", "embedding"),
        (False, "closed_form", "closed_form"),
        (True, "pooled", "pooled"),
    ],
)
def test_the_features_of_a_trained_net(trained, paths, preferred, head, kind):
    """A trained net gives the features that its checkpoint prefers, for any number of images, unless flags ask for
    others."""
    model = make({**OF_CHECKPOINT, "head": head}, trained(preferred), None, 10**6, no_fit, 9)
    assert model.kind == kind and model.fitted_to == 0 and model.dim == (1280 if kind == "pooled" else 24)
    embedder = models.load(trained(preferred), readout=kind if kind != "pooled" and preferred is not None else None)
    expected = embedder.embed(paths, pooled=kind == "pooled")
    assert np.array_equal(model.embed(paths), expected) and np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    assert model.embedder.settings == {"net": "EfficientNet-Lite0", "dim": 24, "width": 48, "origin_width": 64}


def test_another_crop_of_a_trained_net(trained):
    model = make({**OF_CHECKPOINT, "width": 32, "origin_width": 40}, trained(None), None, 1, no_fit, 1)
    assert (model.embedder.transforms.width, model.embedder.transforms.origin_width) == (32, 40)


def test_a_trained_net_without_a_closed_form_gets_one(trained):
    fits = []
    fit = lambda embedder: (fits.append(embedder), drawn_form(embedder))
    model = make({**OF_CHECKPOINT, "head": "closed_form"}, trained(None), None, 5, fit, 5)
    assert model.kind == "closed_form" and len(fits) == 1 and model.fitted_to == 5


def test_outgrown():
    """A model is outgrown if another readout suits the number of images, or if that number has more than doubled."""
    net = SimpleNamespace(closed_form=None)
    sizes = [1, ENOUGH - 1, ENOUGH, ENOUGH + 1, 2 * ENOUGH, 2 * ENOUGH + 1, 2 * MOST_FITTED + 1]
    for head, trained, fitted_to, images in product(
        ["auto", "closed_form", "pooled"], [False, True], [0, 1, ENOUGH, MOST_FITTED], sizes
    ):
        kind = "closed_form" if fitted_to else "pooled"
        if not trained and head != "auto" and head != kind:
            continue  # such a model is never made
        model = Model(net, kind, {"checkpoint": "its hash" if trained else None, "head": head}, fitted_to)
        doubled = fitted_to in (1, ENOUGH) and images > 2 * fitted_to
        other_kind = not trained and head == "auto" and (kind == "closed_form") != (images >= ENOUGH)
        reason = outgrown(model, images)
        assert bool(reason) == bool(doubled or other_kind), (head, trained, fitted_to, images)
        assert reason is None or str(images) in reason


# ---- digests ---------------------------------------------------------------------------------------------------------


def test_a_digest_is_of_all_that_makes_the_rows(fitted):
    digest = fitted.digest
    assert len(digest) == 32 and fitted.digest == digest
    others = {
        "kind": fitted._replace(kind="pooled"),
        "a weight": copy.deepcopy(fitted),
        "the closed form": copy.deepcopy(fitted),
        "the crop": copy.deepcopy(fitted),
        "a mean of BatchNorm": copy.deepcopy(fitted),
    }
    with torch.no_grad():
        weight = next(others["a weight"].embedder.features.parameters()).view(-1)[3]
        weight.copy_(weight.nextafter(torch.tensor(9.0)))  # to the next larger number
        others["the closed form"].embedder.closed_form.projection[0, 0] += 1
        others["the crop"].embedder.settings["origin_width"] += 1
        next(b for n, b in others["a mean of BatchNorm"].embedder.named_buffers() if n.endswith("running_mean"))[0] += 1
    assert len({digest, *(other.digest for other in others.values())}) == 6
    same = copy.deepcopy(fitted)
    same.embedder.to(memory_format=torch.channels_last)  # the memory layout of a GPU
    assert same.digest == digest
    assert fitted._replace(request={}, fitted_to=99).digest == digest


def test_the_same_net_has_the_same_digest_wherever_it_is_made():
    """The embedding head of a ready-made net is random. None of the features uses it, so the digest ignores it."""
    digests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        digests.append(make({**REQUEST, "head": "pooled"}, None, None, 5, no_fit, 5).digest)
    assert digests[0] == digests[1]


def test_saved_and_loaded(fitted, paths, tmp_path):
    file = str(tmp_path / "new folder" / "model.pth.tar")
    fitted.save(file)
    loaded = load(file)
    assert loaded.digest == fitted.digest and loaded[1:] == fitted[1:] and loaded.embedder.kind == "closed_form"
    assert np.array_equal(loaded.embed(paths), fitted.embed(paths)) and loaded.dim == fitted.dim == 16
    assert np.array_equal(models.load(file).embed(paths), fitted.embed(paths))  # the file is an ordinary checkpoint
    assert fitted.embed(paths).dtype == np.float32 and fitted.embed(paths).shape == (5, 16)
    assert fitted.embed([]).shape == (0, 16)


def test_pooled_features_stay_so(paths, tmp_path):
    model = make({**REQUEST, "head": "pooled"}, None, None, 5, no_fit, 5)
    model.save(str(tmp_path / "model.pth.tar"))
    loaded = load(str(tmp_path / "model.pth.tar"))
    assert (loaded.kind, loaded.dim) == ("pooled", 1280)
    assert np.array_equal(loaded.embed(paths), model.embedder.embed(paths, pooled=True))


# ---- other files -----------------------------------------------------------------------------------------------------


def refusal(make_it):
    with pytest.raises(InputError) as caught:
        make_it()
    assert caught.value.shown.isprintable()
    return caught.value.shown


def test_a_checkpoint_is_no_model_of_a_gallery(trained):
    assert "not the model of a gallery; run embed.py with --again" in refusal(lambda: load(trained(None)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_with_a_remedy(fitted, tmp_path, kind):
    path = tmp_path / "model.pth.tar"
    fitted.save(str(path))
    damage(path, kind)
    message = refusal(lambda: load(str(path)))
    assert str(path) in message and "embed.py with --again" in message


def test_the_model_beside_other_embeddings(fitted, tmp_path):
    """Otherwise, its embeddings would be compared with embeddings of another net."""
    make_gallery(tmp_path, files_named("a.jpg"), model=fitted.digest)
    fitted.save(str(tmp_path / "model.pth.tar"))
    assert of_gallery(Gallery(tmp_path)).digest == fitted.digest
    make_gallery(tmp_path, files_named("a.jpg"), model="another")
    message = refusal(lambda: of_gallery(Gallery(tmp_path)))
    assert f"{tmp_path}/model.pth.tar: not the model that made the embeddings beside it; run embed.py" in message
