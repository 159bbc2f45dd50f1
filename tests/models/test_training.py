"""Passes: piece by piece it is the single pass, in outputs and in every gradient, with less in the network at once."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import cross_entropy

import losses
import models
from losses.orthogonal import orthogonal_penalty
from models.embedder import Backbone, Embedder, Preprocessing
from models.training import Passes
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError

CPU = Compute(torch.device("cpu"), None, False)
WIDTH = 32
PREPROCESSING = Preprocessing((0, 0, 0), (1, 1, 1), False)


@pytest.fixture
def doubles(monkeypatch):
    """Everything in float64, where rounding cannot be mistaken for a difference."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def small():
    """A net with what a ResNet has, at a thousandth of its size."""
    def block(channels, out, stride):
        return nn.Conv2d(channels, out, 3, stride, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    net = nn.Sequential(*block(3, 8, 2), *block(8, 12, 2), nn.AdaptiveAvgPool2d(1))
    return Embedder(Backbone(net, 12, PREPROCESSING), dim=8, freeze_bn=True)


NETS = {"small": small, "ResNet18": lambda: models.create("ResNet18", dim=8, pretrained=False, freeze_bn=True)}


def make(name):
    """In float64, with frozen statistics that are no longer the initial ones."""
    torch.manual_seed(0)
    model = NETS[name]().double()
    for name, value in model.named_buffers():
        if name.endswith("running_var"):
            value.uniform_(2, 8)
        elif name.endswith("running_mean"):
            value.normal_()
    return model


@pytest.fixture
def model(doubles):
    return make("small")


def normalise(images):
    return images.double() / 64 - 2


def passes(model, micro_batch, normalise=normalise):
    return Passes(model, normalise, CPU, Group(), WIDTH, micro_batch)


def batch(metric, extra):
    """uint8 images: metric views, and others after them. The metric labels are of pairs."""
    generator = torch.Generator().manual_seed(metric)
    images = torch.randint(256, (metric + extra, 3, WIDTH, WIDTH), dtype=torch.uint8, generator=generator)
    return images, torch.arange(metric) // 2


def loss_of(model, embeddings, logits, labels, orth_reg):
    """As train.py has it; both outputs always have a part in it."""
    loss = 0 * (embeddings.sum() + logits.sum())
    if len(embeddings):
        loss = loss + losses.create("Weight")(embeddings, labels).loss
    if len(logits):
        loss = loss + 0.7 * cross_entropy(logits, torch.arange(len(logits)) % 4)
    return loss + orth_reg * orthogonal_penalty(model)


def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


def close(got, expected, tolerance=1e-10):
    """Of two lists of tensors, relative to the largest number in any of them."""
    assert [x.shape for x in got] == [x.shape for x in expected]
    largest = max(x.abs().max().item() for x in expected if x.numel())
    assert largest > 0
    return all((x - y).abs().max() <= tolerance * largest for x, y in zip(got, expected) if x.numel())


SHARED = [0, 6, 7, 8, 3, 9, 10, 11]  # rot_bt 0: metric views 0 and 3 are also the copies at 0 degrees


@pytest.mark.parametrize("net, metric, extra, rotated, micro_batch, orth_reg", [
    ("small", 6, 8, [*range(6, 14)], 4, 0.1), ("small", 6, 6, SHARED, 5, 0), ("small", 6, 6, SHARED, 11, 0.1),
    ("small", 6, 6, SHARED, 1, 0), ("small", 0, 8, [*range(8)], 3, 0.1), ("small", 7, 0, [], 3, 0),
    ("small", 6, 6, SHARED, 12, 0), ("small", 6, 6, SHARED, 0, 0.1), ("ResNet18", 6, 6, SHARED, 5, 0.1)])
def test_pieces_give_what_a_single_graph_gives(doubles, net, metric, extra, rotated, micro_batch, orth_reg):
    model, (images, labels), rotated = make(net), batch(metric, extra), torch.tensor(rotated, dtype=torch.int64)
    features = model.features(normalise(images)).flatten(1)
    expected = model.embed(features[:metric]), model.rotate(features[rotated])
    expected_loss = loss_of(model, *expected, labels, orth_reg)
    expected_loss.backward()
    expected_gradients = gradients(model)

    model.zero_grad()
    work = passes(model, micro_batch)
    outputs = work.forward(images, metric, rotated)
    loss = loss_of(model, *outputs, labels, orth_reg)
    work.backward(loss)
    assert close([x.detach() for x in outputs], [x.detach() for x in expected])
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-10)
    assert close(gradients(model), expected_gradients)
    for own, other in zip(gradients(model), expected_gradients):  # each by itself, so that small ones count
        assert close([own], [other], 1e-8) if other.any() else not own.any()


def test_gradients_add_up_as_autograds_do(model):
    images, labels = batch(4, 0)
    work, found = passes(model, 3), []
    for _ in range(2):
        work.backward(loss_of(model, *work.forward(images, 4, torch.tensor([1, 2])), labels, 0))
        found.append([gradient.clone() for gradient in gradients(model)])
    assert close(found[1], [2 * gradient for gradient in found[0]])


def test_a_frozen_head_gets_no_gradient(model):
    """As under --rot_only."""
    images, labels = batch(0, 8)
    model.classifier.requires_grad_(False)
    work = passes(model, 3)
    work.backward(loss_of(model, *work.forward(images, 0, torch.arange(8)), labels, 0))
    assert model.classifier.linear.weight.grad is None and model.classifier_rot[0].weight.grad.any()


@pytest.mark.parametrize("micro_batch, expected", [(0, [10]), (10, [10]), (9, [9, 1] * 2), (4, [4, 4, 2] * 2)])
def test_no_more_images_than_that_are_in_the_network(model, micro_batch, expected):
    """And what a piece left there is gone before the next one comes."""
    images, labels = batch(4, 6)
    sizes, left = [], []

    def before(_, inputs):
        assert all(storage.expired() for storage in left)
        sizes.append(len(inputs[0]))

    model.features.register_forward_pre_hook(before)
    model.features[0].register_forward_hook(
        lambda _, inputs, output: left.append(StorageWeakRef(output.untyped_storage())))
    work = passes(model, micro_batch)
    outputs = work.forward(images, 4, torch.arange(4, 10))
    assert left[-1].expired() == (len(expected) > 1)
    work.backward(loss_of(model, *outputs, labels, 0))
    assert sizes == expected


def test_a_process_without_images_takes_part(model):
    empty = torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    work = passes(model, 4)
    outputs = work.forward(empty, 0, torch.empty(0, dtype=torch.int64))
    assert [x.shape for x in outputs] == [(0, 8), (0, 4)]
    work.backward(loss_of(model, *outputs, torch.empty(0), 0))
    assert all(gradient is not None and not gradient.any() for gradient in gradients(model))


def with_dropout():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.ReLU(), nn.Dropout(0.5),
                        nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5))
    return Embedder(Backbone(net, 16, PREPROCESSING), dim=8, freeze_bn=True).double()


@pytest.mark.parametrize("micro_batch", [4, 5])
def test_dropout_drops_the_same_in_both_passes(doubles, micro_batch):
    """Against one graph of all pieces with the masks written down."""
    model, (images, labels), metric, rotated = with_dropout(), batch(6, 8), 6, torch.arange(6, 14)
    masks = []
    hooks = [module.register_forward_hook(lambda _, inputs, output: masks.append(output != 0))
             for module in model.modules() if isinstance(module, nn.Dropout)]
    torch.manual_seed(5)
    work = passes(model, micro_batch)
    outputs = work.forward(images, metric, rotated)
    torch.manual_seed(99)
    work.backward(loss_of(model, *outputs, labels, 0))
    for hook in hooks:
        hook.remove()
    first, second = masks[:len(masks) // 2], masks[len(masks) // 2:]
    assert len(first) == 2 * -(-14 // micro_batch) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[2])  # each piece has its own

    found = gradients(model)
    model.zero_grad()
    convolution, relu, _, pool, _ = model.features
    inside, outside = torch.cat(masks[:len(first):2]), torch.cat(masks[1:len(first):2])
    features = (pool(relu(convolution(normalise(images))) * inside * 2) * outside * 2).flatten(1)
    expected = model.embed(features[:metric]), model.rotate(features[rotated])
    loss_of(model, *expected, labels, 0).backward()
    assert close([x.detach() for x in outputs], [x.detach() for x in expected]) and close(found, gradients(model))


def test_same_seed_same_masks():
    model, (images, _) = with_dropout().float(), batch(6, 8)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(passes(model, 4, lambda images: images.float()).forward(images, 6, torch.arange(8))[0])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_batch_norm_that_is_not_frozen_is_refused():
    model = models.create("ResNet18", dim=8, pretrained=False)
    with pytest.raises(InputError, match="^--micro_batch needs frozen BatchNorm"):
        passes(model, 4)
    passes(model, 0)
    passes(with_dropout(), 4)  # has none


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0]])
def test_lowest_is_the_least_similar_pairs_similarity(labels):
    embeddings = nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    pairs = losses.create("Weight")(embeddings.requires_grad_(), torch.tensor(labels))
    slow = min((a @ b).item() for i, a in enumerate(embeddings) for b in embeddings[:i])
    assert pairs.lowest.item() == pytest.approx(slow, abs=1e-6) and not pairs.lowest.requires_grad
    same = embeddings[:1].expand(4, 8)
    assert losses.create("Weight")(same, torch.tensor(labels)).lowest.item() == pytest.approx(1)
