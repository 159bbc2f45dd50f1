"""ForwardBackward: in pieces, it gives the outputs and gradients of a single pass, with fewer images in the net at once."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import cross_entropy

import losses
import models
from data.views import Batch
from losses.orthogonal import orthogonal_penalty
from models import methods
from models.backbones import Backbone, Preprocessing
from models.embedder import Embedder
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.grad_cache import ForwardBackward

CPU = Compute(torch.device("cpu"), None, False)
WIDTH = 32
PREPROCESSING = Preprocessing((128, 128, 128), (64, 64, 64), False)
SETTINGS = {"net": "", "dim": 8, "width": WIDTH, "origin_width": WIDTH}


@pytest.fixture
def doubles(monkeypatch):
    """Compute in float64, so that rounding cannot look like a difference."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def small():
    """Return a net with the parts of a ResNet, at a thousandth of its size."""

    def block(channels, out, stride):
        return nn.Conv2d(channels, out, 3, stride, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)

    net = nn.Sequential(*block(3, 8, 2), *block(8, 12, 2), nn.AdaptiveAvgPool2d(1))
    return Embedder(Backbone(net, 12, PREPROCESSING), SETTINGS, freeze_bn=True)


NETS = {"small": small, "ResNet18": lambda: models.create("ResNet18", dim=8, pretrained=False, freeze_bn=True)}


class TwoImages:
    labels, source = None, ""

    def __len__(self):
        return 2


def make_method(embedder, **changed):
    """Return UDML-SS on two images, with default settings, a rotation loss of weight 0.7, and the settings `changed`."""
    settings = methods.default_settings("udml_ss", num_clusters=2, self_supervision_rot=0.7, **changed)
    return methods.create("udml_ss", embedder, TwoImages(), settings)


def make(name, **changed):
    """Return the method in float64. Its frozen statistics are not the initial ones."""
    torch.manual_seed(0)
    method = make_method(NETS[name](), **changed).double()
    for name, value in method.named_buffers():
        if name.endswith("running_var"):
            value.uniform_(2, 8)
        elif name.endswith("running_mean"):
            value.normal_()
    return method


@pytest.fixture
def method(doubles):
    return make("small")


def passes(method, micro_batch):
    return ForwardBackward(method, CPU, Group(), micro_batch)


def make_batch(metric, extra, turned=()):
    """Return metric views, labelled in pairs, followed by other views. turned: the rows for the rotation loss."""
    generator = torch.Generator().manual_seed(metric)
    images = torch.randint(256, (metric + extra, 3, WIDTH, WIDTH), dtype=torch.uint8, generator=generator)
    turn = torch.full((metric + extra,), -1)
    turn[list(turned)] = torch.arange(len(turned)) % 4
    return Batch(
        images, torch.arange(metric + extra), torch.arange(metric + extra) // 2, turn, torch.arange(metric + extra) < metric
    )


def loss_of(method, embeddings, logits, labels, turns, orth_reg):
    """Compute the expected loss from embeddings of the metric views and logits of the turned views."""
    loss = 0
    if len(embeddings):
        loss = loss + losses.create("Weight")(embeddings, labels)
    if len(logits):
        loss = loss + 0.7 * cross_entropy(logits, turns)
    return loss + orth_reg * orthogonal_penalty(method)


def step(work, method, batch):
    """Run forward and backward pass. Returns outputs and loss."""
    out = work.forward(batch)
    loss, _ = method.loss(out, batch)
    work.backward(loss)
    return out, loss


def gradients(method):
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in method.parameters() if p.requires_grad]


def close(got, expected, tolerance=1e-10):
    """Compare two lists of tensors, relative to the largest number in any of them."""
    assert [x.shape for x in got] == [x.shape for x in expected]
    largest = max(x.abs().max().item() for x in expected if x.numel())
    assert largest > 0
    return all((x - y).abs().max() <= tolerance * largest for x, y in zip(got, expected) if x.numel())


SHARED = [0, 6, 7, 8, 3, 9, 10, 11]  # with rot_bt 0, metric views 0 and 3 are also the copies at 0 degrees


@pytest.mark.parametrize(
    "net, metric, extra, turned, micro_batch, orth_reg",
    [
        ("small", 6, 8, [*range(6, 14)], 4, 0.1),
        ("small", 6, 6, SHARED, 5, 0),
        ("small", 6, 6, SHARED, 11, 0.1),
        ("small", 6, 6, SHARED, 1, 0),
        ("small", 0, 8, [*range(8)], 3, 0.1),
        ("small", 7, 0, [], 3, 0),
        ("small", 6, 6, SHARED, 12, 0),
        ("small", 6, 6, SHARED, 0, 0.1),
        ("ResNet18", 6, 6, SHARED, 5, 0.1),
    ],
)
def test_pieces_give_what_a_single_graph_gives(doubles, net, metric, extra, turned, micro_batch, orth_reg):
    method, batch = make(net, orth_reg=orth_reg), make_batch(metric, extra, turned)
    features = method.embedder.features(method.embedder.normalise(batch.images)).flatten(1)
    expected = method.embedder.project(features), method.rotation_head(features)
    expected_loss = loss_of(
        method, expected[0][:metric], expected[1][turned], batch.label[:metric], batch.turn[turned], orth_reg
    )
    expected_loss.backward()
    expected_gradients = gradients(method)

    method.zero_grad()
    out, loss = step(passes(method, micro_batch), method, batch)
    assert close([out["embedding"].detach(), out["rotation"].detach()], [x.detach() for x in expected])
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-10)
    assert close(gradients(method), expected_gradients)
    for own, other in zip(gradients(method), expected_gradients):  # compare each alone, so that small ones count too
        assert close([own], [other], 1e-8) if other.any() else not own.any()


def test_gradients_add_up_as_autograds_do(method):
    batch, work, found = make_batch(4, 0, [1, 2]), passes(method, 3), []
    for _ in range(2):
        step(work, method, batch)
        found.append([gradient.clone() for gradient in gradients(method)])
    assert close(found[1], [2 * gradient for gradient in found[0]])


def test_a_frozen_head_gets_no_gradient(method):
    """--method rotation has such an embedding head."""
    method.embedder.classifier.requires_grad_(False)
    step(passes(method, 3), method, make_batch(0, 8, range(8)))
    assert method.embedder.classifier.linear.weight.grad is None and method.rotation_head[0].weight.grad.any()


@pytest.mark.parametrize("micro_batch, expected", [(0, [10]), (10, [10]), (9, [9, 1] * 2), (4, [4, 4, 2] * 2)])
def test_no_more_images_than_that_are_in_the_network(method, micro_batch, expected):
    """Also, a piece leaves nothing in memory when the next piece comes."""
    batch = make_batch(4, 6, range(4, 10))
    sizes, left, backbone = [], [], method.embedder.features

    def before(_, inputs):
        assert all(storage.expired() for storage in left)
        sizes.append(len(inputs[0]))

    backbone.register_forward_pre_hook(before)
    backbone[0].register_forward_hook(lambda _, inputs, output: left.append(StorageWeakRef(output.untyped_storage())))
    work = passes(method, micro_batch)
    out = work.forward(batch)
    assert left[-1].expired() == (len(expected) > 1)
    work.backward(method.loss(out, batch)[0])
    assert sizes == expected


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_outputs_without_a_gradient(method, micro_batch):
    """For example, a teacher's outputs, or indices."""
    forward = method.forward

    def more(images, batch):
        out = forward(images, batch)
        return {**out, "teacher": out["embedding"].detach() * 2, "place": batch.index}

    batch = make_batch(4, 6, range(4, 10))
    step(passes(method, micro_batch), method, batch)
    expected = [gradient.clone() for gradient in gradients(method)]
    method.zero_grad()
    method.forward = more
    work = passes(method, micro_batch)
    out = work.forward(batch)
    assert torch.equal(out["place"], batch.index) and torch.equal(out["teacher"], out["embedding"] * 2)
    work.backward(method.loss({name: out[name] for name in ("embedding", "rotation")}, batch)[0])
    assert close(gradients(method), expected)


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_a_process_without_images_takes_part(method, micro_batch):
    out, _ = step(passes(method, micro_batch), method, make_batch(0, 0))
    assert [x.shape for x in out.values()] == [(0, 8), (0, 4)]
    assert all(p.grad is not None and not p.grad.any() for p in method.parameters() if p.requires_grad)


def with_dropout():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5))
    return make_method(Embedder(Backbone(net, 16, PREPROCESSING), SETTINGS, freeze_bn=True))


@pytest.mark.parametrize("micro_batch", [4, 5])
def test_dropout_drops_the_same_in_both_passes(doubles, micro_batch):
    """The reference is one graph of all pieces, with the recorded masks."""
    method, metric, turned = with_dropout().double(), 6, range(6, 14)
    batch, masks = make_batch(6, 8, turned), []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: masks.append(output != 0))
        for module in method.modules()
        if isinstance(module, nn.Dropout)
    ]
    torch.manual_seed(5)
    work = passes(method, micro_batch)
    out = work.forward(batch)
    torch.manual_seed(99)
    work.backward(method.loss(out, batch)[0])
    for hook in hooks:
        hook.remove()
    first, second = masks[: len(masks) // 2], masks[len(masks) // 2 :]
    assert len(first) == 2 * -(-14 // micro_batch) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[2])  # each piece has its own mask

    found = gradients(method)
    method.zero_grad()
    convolution, relu, _, pool, _ = method.embedder.features
    inside, outside = torch.cat(masks[: len(first) : 2]), torch.cat(masks[1 : len(first) : 2])
    images = method.embedder.normalise(batch.images)
    features = (pool(relu(convolution(images)) * inside * 2) * outside * 2).flatten(1)
    expected = method.embedder.project(features), method.rotation_head(features)
    loss_of(method, expected[0][:metric], expected[1][turned], batch.label[:metric], batch.turn[turned], 0).backward()
    assert close([x.detach() for x in out.values()], [x.detach() for x in expected]) and close(found, gradients(method))


def test_same_seed_same_masks():
    method, found = with_dropout(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(passes(method, 4).forward(make_batch(6, 8, range(8)))["embedding"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_batch_norm_that_is_not_frozen_is_refused():
    method = make_method(models.create("ResNet18", dim=8, pretrained=False))
    with pytest.raises(InputError, match="^4 needs frozen BatchNorm") as caught:
        passes(method, 4)
    assert caught.value.setting == "micro_batch"
    passes(method, 0)
    passes(with_dropout(), 4)  # it has no BatchNorm
