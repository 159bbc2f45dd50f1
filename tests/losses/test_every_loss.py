"""Properties of every loss: it trains, it survives batches without pairs, and its draws follow torch's seed."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

import losses
from losses.pairs import similarities

CLASSES, DIM = 6, 4
every_loss = pytest.mark.parametrize("name", losses.names())


def make(name):
    return losses.create(name, dim=DIM, num_classes=CLASSES)


def two_classes(seed, per_class=10, features=8):
    """Return inputs (2 * per_class, features) of noise, and labels. Only the first number tells the classes apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2).repeat_interleave(per_class)
    inputs = torch.randn(2 * per_class, features, generator=generator)
    inputs[:, 0] = 1.5 * (2 * labels - 1) + 0.3 * inputs[:, 0]
    return inputs, labels


@every_loss
def test_it_trains(name):
    """A linear layer learns to use the one number that matters: the loss falls, and unseen images separate by class."""
    torch.manual_seed(0)
    (inputs, labels), (others, other_labels) = two_classes(0), two_classes(1)
    net, loss = nn.Linear(8, DIM), losses.create(name, dim=DIM, num_classes=2)
    optimiser = torch.optim.Adam([*net.parameters(), *loss.parameters()], lr=0.03)

    def gap():
        found = similarities(normalize(net(others)), other_labels)
        return (found["positive"] - found["negative"]).item()

    assert gap() < 0.1
    values = []
    for _ in range(60):
        value = loss(normalize(net(inputs)), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] / 2
    assert gap() > 0.6


@every_loss
@pytest.mark.parametrize("kind", ["random", "equal", "zero"])
@pytest.mark.parametrize("labels", [[0], [1, 1], [0, 1], [3, 3, 3, 3], [0, 1, 2, 3], [5, 5, 0], [2] * 30, [0, 1] * 15])
def test_batches_without_pairs(name, kind, labels):
    """Loss and gradient stay finite for one class, one image of each class, one image, or equal images."""
    torch.manual_seed(0)
    x = normalize(torch.randn(len(labels), DIM))
    x = {"random": x, "equal": x[:1].repeat(len(labels), 1), "zero": 0 * x}[kind].requires_grad_()
    loss = make(name)
    value = loss(x, torch.tensor(labels))
    value.backward()
    assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())


@every_loss
def test_nothing_to_learn_is_zero(name):
    """A single image is no pair, so the loss is 0. ProxyAnchor always has pairs with its proxies."""
    if name != "ProxyAnchor":
        assert make(name)(normalize(torch.ones(1, DIM)), torch.tensor([0])) == 0


@every_loss
def test_the_seed_decides(name):
    """If a loss draws random numbers, it takes them from torch's global generator."""
    x, labels = normalize(torch.randn(24, DIM, generator=torch.Generator().manual_seed(0))), torch.arange(24) % CLASSES
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        loss = make(name)
        found.append([loss(x, labels) for _ in range(3)])
    assert torch.equal(torch.stack(found[0]), torch.stack(found[1]))


@every_loss
def test_broken_embeddings_are_seen(name):
    """Embeddings that are nan raise no error. The caller sees them in the loss or in the similarities."""
    x, labels = normalize(torch.randn(8, DIM)), torch.arange(8) % 2
    for rows in (slice(0, 1), slice(None)):
        broken = x.clone()
        broken[rows] = torch.nan
        make(name)(broken, labels)
        assert similarities(broken, labels)["lowest"].isnan()


class Gathered(torch.autograd.Function):
    """Joins the rows of several processes. Only the first half, this process's own rows, gets a gradient."""

    @staticmethod
    def forward(ctx, own, others):
        return torch.cat([own, others])

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient[: len(gradient) // 2], None


@every_loss
def test_the_gather_of_two_processes(name):
    """The gradient of the process's own rows equals the whole batch's gradient in one process, times the number of
    processes."""
    torch.manual_seed(0)
    x, labels = normalize(torch.randn(16, DIM)), torch.arange(16) % 4
    loss = make(name)
    whole, own = x.clone().requires_grad_(), x[:8].clone().requires_grad_()
    torch.manual_seed(1)
    loss(whole, labels).backward()
    torch.manual_seed(1)
    loss(Gathered.apply(own, x[8:]), labels).backward()
    torch.testing.assert_close(own.grad, 2 * whole.grad[:8])


@pytest.mark.parametrize(
    "name, parameters", [("ProxyAnchor", {(CLASSES, DIM)}), ("Margin", {(CLASSES,)}), ("Weight", set())]
)
def test_parameters_are_saved_and_loaded(name, parameters):
    """Proxies and betas are parameters, so they are trained, and a checkpoint holds them."""
    loss, other = make(name), make(name)
    assert {tuple(p.shape) for p in loss.parameters()} == parameters
    with torch.no_grad():
        for p in loss.parameters():
            p += 0.1
    other.load_state_dict(loss.state_dict())
    x, labels = normalize(torch.randn(12, DIM)), torch.arange(12) % CLASSES
    found = []
    for module in (loss, other):
        torch.manual_seed(0)
        found.append(module(x, labels))
    assert torch.equal(*found)
